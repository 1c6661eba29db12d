import { expect, test } from "vitest";
import type { Log } from "../../farm/deps.ts";
import { quiet } from "../../store/testing/database.ts";
import { refusal } from "./refusal.ts";

test("what a machine refuses is told in its own words, and written down whole", () => {
  const lines: object[] = [];
  const log: Log = { ...quiet, debug: (fields) => void lines.push(fields) };
  const told = (words: string, doing = `run "nosuch"`) => {
    const answer = { name: "m1", call: "POST /exec", doing, status: 422, words };
    const { code, message } = refusal(log, "bad-request", answer);
    expect([code, lines.pop()]).toEqual(["bad-request", { name: "m1", call: "POST /exec", status: 422, words }]);
    return message;
  };
  const nowhere = 'Cannot run "nosuch": executable file not found in $PATH';
  expect(told(nowhere)).toBe(nowhere);
  expect(told("executable file not found in $PATH")).toBe(nowhere);
  expect(told('Cannot list "x": ENOENT: no such file or directory')).toBe('Cannot list "x": no such file or directory');
  expect(told("lstat /w/x: no such file or directory", 'list "x"')).toBe(
    'Cannot list "x": lstat /w/x: no such file or directory',
  );
  expect(told("", "unpack")).toBe("Cannot unpack: m1 answered 422 without a reason");
});

test("only what broke is in the log of a farm that nobody looks into: a folder that is not there is asked for by each build", () => {
  const levels: string[] = [];
  const log: Log = { ...quiet, debug: () => void levels.push("debug"), info: () => void levels.push("info") };
  const answer = { name: "m1", call: "GET /ls", doing: 'list "x"', status: 500, words: "" };
  for (const code of ["bad-request", "not-found", "machine-broken"] as const) refusal(log, code, answer);
  expect(levels).toEqual(["debug", "debug", "info"]);
});

import { expect, test } from "vitest";
import { goarch, goos } from "../../farm/go-platform.ts";
import { minutes } from "../../farm/ids.ts";
import { decodeExecForm, encodeExecForm } from "./exec-form.ts";
import { executionAge, executionFields, executionLength, readExecution } from "./execution.ts";
import { formatLsLine, formatLsTime, goFileMode, parseLsLine } from "./ls-line.ts";
import { exitCodeOf, processState, startErrorState } from "./process-state.ts";
import { isRelPath } from "./rel-path.ts";

test("isRelPath() goes by the letters of a path", () => {
  const kept = [".", "a", "a/../b", "./a", "a//b", "a\\..\\b", "..a", "a/..", "..."];
  const broken = ["", "..", "../a", "a/../..", "a/../../b", "/", "/a", "./../a", "a\0"];
  expect([...kept, ...broken].map((path) => isRelPath(path, false))).toEqual([
    ...kept.map(() => true),
    ...broken.map(() => false),
  ]);
  expect(["a\\b", "a/b", "C:", "C:/a", "\\a", "..\\a", "a\\..\\..", "a\\.."].map((path) => isRelPath(path, true))).toEqual([
    true, true, false, false, false, false, false, true,
  ]); // biome-ignore format: a row
});

test("encodeExecForm() writes keys in order, always cmd, debug, dir and mode", () => {
  const form = {
    cmd: "d/x.sh",
    args: ["a b", "ü&="],
    dir: "",
    env: ["A=1", "B=2"],
    path: ["$PATH"],
    system: true,
    debug: false,
  };
  const text = encodeExecForm(form);
  expect(text).toBe(
    "cmd=d%2Fx.sh&cmdArg=a+b&cmdArg=%C3%BC%26%3D&debug=false&dir=&env=A%3D1&env=B%3D2&mode=sys&path=%24PATH",
  );
  expect(decodeExecForm(new URLSearchParams(text))).toEqual(form);
  expect(decodeExecForm(new URLSearchParams("debug=1&mode=other"))).toMatchObject({
    cmd: "",
    debug: true,
    system: false,
  });
});

test("processState() uses Go's words, exitCodeOf() reads them", () => {
  const states = [
    processState(0, null),
    processState(7, null),
    processState(0xc0000005, null),
    processState(null, "SIGKILL"),
    processState(null, "SIGWHATEVER"),
  ];
  expect(states).toEqual(["ok", "exit status 7", "exit status 0xc0000005", "signal: killed", "signal: SIGWHATEVER"]);
  expect(states.map(exitCodeOf)).toEqual([0, 7, 0xc0000005, undefined, undefined]);
  expect(startErrorState("fork/exec", "/w/a\r\nEvil: 1é", "EACCES")).toBe(
    "fork/exec /w/a??Evil: 1?: permission denied",
  );
});

test("formatLsLine() writes the known lines, parseLsLine() reads them", () => {
  const sha1 = "4e896ca0cc07a8126d096abf70aea336b650b1e3";
  const modified = formatLsTime(Date.UTC(2026, 10, 23, 17, 0, 5, 999));
  const entries = [
    { mode: goFileMode(0o040755), name: "d/" },
    { mode: goFileMode(0o100755), name: "d/x.sh", file: { size: 46, modified, sha1 } },
    { mode: goFileMode(0o100644), name: "tab\there", file: { size: 0, modified } },
    { mode: goFileMode(0o120777), name: "link" },
  ];
  const lines = entries.map((entry) => formatLsLine(entry));
  expect(lines).toEqual([
    "drwxr-xr-x\td/\n",
    `-rwxr-xr-x\td/x.sh\t46\t2026-11-23T17:00:05Z\t${sha1}\n`,
    "-rw-r--r--\ttab\there\t0\t2026-11-23T17:00:05Z\n",
    "Lrwxrwxrwx\tlink\n",
  ]);
  expect(lines.map((line) => parseLsLine(line.slice(0, -1)))).toEqual(entries);
  expect([parseLsLine("nothing"), parseLsLine("")]).toEqual([undefined, undefined]);
  expect([0o104755, 0o041777, 0o010644, 0o020600].map(goFileMode)).toEqual([
    "urwxr-xr-x",
    "dtrwxrwxrwx",
    "prw-r--r--",
    "Dcrw-------",
  ]);
});

test("goos() and goarch() know Go's names", () => {
  expect([goos("linux"), goos("win32"), goarch("x64", "LE"), goarch("ppc64", "LE"), goarch("ppc64", "BE"), goarch("riscv64", "LE")]).toEqual([
    "linux", "windows", "amd64", "ppc64le", "ppc64", "riscv64",
  ]); // biome-ignore format: a row
});

test("readExecution() reads what executionFields() says, and refuses anything else with a reason", () => {
  const asked = { id: "a7.2", from: 4096, aloneFor: minutes(30) };
  const [[, id] = [], [, from] = [], [, alone] = []] = executionFields(asked);
  expect(readExecution(id, from, alone)).toEqual(asked);
  expect(readExecution("g_1-x", undefined, undefined)).toEqual({ id: "g_1-x", from: 0, aloneFor: minutes(5) });
  expect(readExecution(undefined, undefined, "5")).toBeUndefined();
  for (const bad of ["-1", "86400001", "5m", ""]) {
    expect(() => readExecution("a", "0", bad)).toThrow(
      `Bad Barnraiser-Alone ${JSON.stringify(bad)}: want milliseconds`,
    );
  }
  for (const bad of ["", "a/../b", "x".repeat(65), "ü"]) {
    expect(() => readExecution(bad, "0", undefined)).toThrow("want 1 to 64 letters");
  }
  expect(() => readExecution(undefined, "5", undefined)).toThrow("Bad Barnraiser-Execution");
  for (const bad of ["-1", "1e3", "99999999999999999999", ""]) {
    expect(() => readExecution("a", bad, undefined)).toThrow("want a number of bytes");
  }
  const head = (name: string, value: string) =>
    ({ version: "HTTP/1.1", status: 200, reason: "OK", fields: [[name, value]] }) as const;
  expect(["1500", "soon"].map((age) => executionAge(head("Barnraiser-Age", age)))).toEqual([1500, 0]);
  const lengths = [head("Barnraiser-Length", "9000"), head("Barnraiser-Length", "all"), head("Barnraiser-Age", "1500")];
  expect(lengths.map(executionLength)).toEqual([9000, Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER]);
});

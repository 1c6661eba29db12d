import { expect, test } from "vitest";
import { BLOCK, LogSource } from "./log-source.ts";

function source() {
  return new LogSource(
    { total: 0, ended: false, length: 0 },
    (path) => `http://localhost:1/${path}`,
    () => {},
  );
}

const answer = (from: number, lines: readonly string[], ended = false) => {
  const total = from + lines.length - 1;
  return { from, lines, total, length: total * 10, ended, truncated: false };
};

const text = (log: LogSource, line: number) =>
  log
    .row(line)
    ?.map((span) => span.text)
    .join("");

test("what is pushed is added to the last block, goes on in the next, and completes a line", () => {
  const log = source();
  expect(log.take(answer(1, ["one", "tw"]))).toBe("more");
  log.take(answer(2, ["two", "three"]));
  expect([1, 2, 3].map((line) => text(log, line))).toEqual(["one", "two", "three"]);
  const many = Array.from({ length: BLOCK }, (_, i) => `line ${i + 4}`);
  expect(log.take(answer(4, many, true))).toBe("last");
  expect([log.total, log.ended, log.lastBlock]).toEqual([BLOCK + 3, true, BLOCK + 1]);
  expect([3, BLOCK, BLOCK + 1, BLOCK + 3].map((line) => text(log, line))).toEqual([
    "three",
    `line ${BLOCK}`,
    `line ${BLOCK + 1}`,
    `line ${BLOCK + 3}`,
  ]);
});

test("colours go on over what is pushed", () => {
  const log = source();
  log.take(answer(1, ["\u001b[31mred"]));
  log.take(answer(2, ["still"]));
  expect(log.row(2)).toEqual(log.row(1)?.map((span) => ({ ...span, text: "still" })));
});

test("an older answer that comes late is not shown", () => {
  const log = source();
  log.take(answer(1, ["one", "two", "three"]));
  log.take(answer(1, ["one", "tw"]));
  expect([text(log, 2), log.total]).toEqual(["two", 3]);
});

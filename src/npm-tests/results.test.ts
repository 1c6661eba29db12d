import { expect, test } from "vitest";
import { type FileReport, fromReport, junit } from "./results.ts";

const nameOf = (file: string): string => file.replace("/tree/", "");
const outcomes = (...testResults: FileReport[]): string[] =>
  fromReport({ testResults }, nameOf).map(({ name, outcome, ms }) => `${name} ${outcome} ${ms}`);

/** A file in jest 30's report, cut to what is read and a little more. */
const jest = (name: string, status: string, ...tests: string[]): FileReport & { summary: string } => ({
  name: `/tree/${name}`,
  status,
  startTime: 1795690045877,
  endTime: 1795690045977,
  message: status === "failed" ? `  ● ${name}\n\n    expected 1, received 2\n` : "",
  summary: "",
  assertionResults: tests.map((each) => ({
    title: "it",
    status: each,
    duration: each === "passed" ? 2 : null,
    failureMessages: each === "failed" ? ["Error: expected 1, received 2\n    at a.test.js:1:1"] : [],
  })),
});

test("fromReport() takes jest's files by their status: only failed has failed, and where nothing ran, it was skipped", () => {
  expect(
    outcomes(
      jest("passed.test.js", "passed", "passed", "todo"),
      jest("focused.test.js", "focused", "passed", "pending"),
      jest("failed.test.js", "failed", "passed", "failed"),
      jest("does-not-load.test.js", "failed"),
      jest("skipped.test.js", "skipped"),
      jest("pending.test.js", "pending", "pending"),
      jest("todo.test.js", "passed", "todo"),
      jest("other-runner.js", "passed"),
    ),
  ).toEqual([
    "passed.test.js passed 100",
    "focused.test.js passed 100",
    "failed.test.js failed 100",
    "does-not-load.test.js failed 100",
    "skipped.test.js skipped 100",
    "pending.test.js skipped 100",
    "todo.test.js skipped 100",
    "other-runner.js passed 100",
  ]);
});

/** A file in vitest's report, whose times have fractions. */
const vitest = (name: string, status: "passed" | "failed", ...tests: string[]): FileReport => ({
  name: `/tree/${name}`,
  status,
  startTime: 1795690045877.25,
  endTime: 1795690045890.5,
  message: "",
  assertionResults: tests.map((each) => ({
    status: each,
    failureMessages: each === "failed" ? [`AssertionError: in ${name}`] : [],
  })),
});

test("fromReport() takes vitest's files, one result for each, however many projects ran it: failed in one is failed", () => {
  expect(
    outcomes(
      vitest("a.test.ts", "passed", "passed", "skipped"),
      vitest("both.test.ts", "passed", "passed"),
      vitest("both.test.ts", "passed", "passed"),
      vitest("one.test.ts", "failed", "failed", "passed"),
      vitest("one.test.ts", "passed", "passed", "passed"),
      vitest("half.test.ts", "passed", "skipped"),
      vitest("half.test.ts", "passed", "passed"),
      vitest("none.test.ts", "passed", "skipped", "todo"),
    ),
  ).toEqual([
    "a.test.ts passed 13",
    "both.test.ts passed 26",
    "one.test.ts failed 26",
    "half.test.ts passed 26",
    "none.test.ts skipped 13",
  ]);
});

test("junit() has why a file failed, from all projects, whatever is in it", () => {
  const report = { ...vitest("<a>.test.ts", "failed", "failed"), message: "\u001b[31mcannot load & go\u0000" };
  const [result] = fromReport({ testResults: [report, vitest("<a>.test.ts", "failed", "failed")] }, nameOf);
  expect(result && junit([result, { name: "b", outcome: "skipped", ms: 0, why: "" }])).toBe(
    '<testsuite>\n<testcase name="&#60;a&#62;.test.ts" time="0.026"><failure>\ufffd[31mcannot load &#38; go\ufffd\n' +
      "AssertionError: in &#60;a&#62;.test.ts\nAssertionError: in &#60;a&#62;.test.ts</failure></testcase>\n" +
      '<testcase name="b" time="0"><skipped/></testcase>\n</testsuite>\n',
  );
});

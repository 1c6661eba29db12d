import { expect, test } from "vitest";
import type { ReportedTest } from "../wire/test-report/test-report.ts";
import { NamedReports } from "./test-reports.ts";

const told = (suite: string, name: string, outcome: ReportedTest["outcome"], over: Partial<ReportedTest> = {}) =>
  ({ suite, test: name, outcome, durationMs: 10, output: "", ...over }) as ReportedTest;

async function read(listed: readonly string[], reported: readonly ReportedTest[], troubles: string[] = []) {
  const named = new NamedReports(listed.map((name, i) => ({ number: i + 1, name, expectedMs: null })));
  for (const each of reported) named.take(each);
  let added = "";
  const { reports } = await named.end(troubles, 100, async (output) => {
    added += output;
  });
  return { reports: Object.fromEntries(reports), added };
}

test("a listed name is a full name, a test's own name, or a suite; of a suite a failure among several decides", async () => {
  const { reports } = await read(
    ["s.one", "two", "t", "absent"],
    [told("s", "one", "passed"), told("x", "two", "skipped"), told("t", "a", "passed"), told("t", "b", "failed")],
  );
  expect(Object.entries(reports).map(([name, { outcome, durationMs }]) => [name, outcome, durationMs])).toEqual([
    ["s.one", "success", 10],
    ["two", "skipped", 10],
    ["t", "failure", null],
  ]);
});

test("what failed is written under its full name, and is the place of the listed test", async () => {
  const output = "boom\n";
  const { reports, added } = await read(
    ["one", "two"],
    [told("s", "one", "failed", { output }), told("s", "two", "passed"), told("s", "other", "failed", { output })],
    ["line 3 is cut off"],
  );
  const shown = "\n##### s.one failed\nboom\n";
  expect(added).toBe(`${shown}\nbarnraiser: the report is not whole: line 3 is cut off\n`);
  expect(reports.one).toMatchObject({ outcome: "failure", from: 100, to: 100 + shown.length });
  expect(reports.two).toMatchObject({ outcome: "success", from: 0, to: 100 });
});

test("after 200 failures they are counted", async () => {
  const many = Array.from({ length: 203 }, (_, i) => told("s", `t${i}`, "failed"));
  const { added } = await read(["s"], many);
  expect(added.match(/##### /g)?.length).toBe(200);
  expect(added).toContain("\nbarnraiser: 3 more failures were reported\n");
});

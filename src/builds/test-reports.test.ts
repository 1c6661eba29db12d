import { expect, test } from "vitest";
import type { ReportedTest } from "../wire/test-report/test-report.ts";
import { NamedReports } from "./test-reports.ts";

const told = (suite: string, name: string, outcome: ReportedTest["outcome"], over: Partial<ReportedTest> = {}) =>
  ({ suite, test: name, outcome, durationMs: 10, output: "", ...over }) as ReportedTest;

async function read(listed: readonly string[], reported: readonly ReportedTest[], troubles: string[] = []) {
  const named = new NamedReports(listed.map((name, i) => ({ number: i + 1, name, expectedMs: null })));
  for (const each of reported) named.take(each);
  let added = "";
  named.begin(100, async (output) => {
    added += output;
  });
  const reports = await named.end(troubles);
  return { reports: Object.fromEntries(reports), added, strangers: named.strangers };
}

test("a listed name is a full name, a test's own name, or a suite; of a suite a failure among several decides", async () => {
  const others = ["p", "q", "r", "s"].map((name) => told("z", name, "passed"));
  const { reports, strangers } = await read(
    ["s.one", "two", "t", "absent"],
    [
      ...[told("s", "one", "passed"), told("x", "two", "skipped"), told("t", "a", "passed"), told("t", "b", "failed")],
      ...others,
    ],
  );
  expect(strangers).toEqual({ names: ["z.p", "z.q", "z.r"], count: 4 });
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

test("what failed waits for the log with its output up to a limit, and passes through once the log takes it", async () => {
  const output = "x".repeat(240 * 1024);
  const failures = Array.from({ length: 50 }, (_, i) => told("s", `t${i}`, "failed", { output }));
  const { reports, added } = await read(["s.t0", "s.t49"], failures);
  expect([added.length < 2 * output.length + 1000, reports["s.t49"]?.outcome]).toEqual([true, "failure"]);
  const all = failures.map(({ test }) => `s.${test}`);
  const waited = (await read(all, failures)).added;
  expect(waited.match(/its output is left out/g)?.length).toBe(50 - 34); // 8 MiB are 34 of them
  expect(waited.match(/##### /g)?.length).toBe(50);

  const named = new NamedReports(all.map((name, i) => ({ number: i + 1, name, expectedMs: null })));
  const sizes: number[] = [];
  named.begin(10, async (bytes) => void sizes.push(bytes.length));
  for (const failure of failures) {
    named.take(failure);
    await named.flush();
    await named.flush();
  }
  const passed = await named.end([]);
  const each = output.length + "\n##### s.t0 failed\n\n".length;
  expect(sizes).toEqual(failures.map(({ test }) => each + test.length - 2));
  expect([passed.get("s.t0"), passed.get("s.t1")?.from]).toMatchObject([{ from: 10, to: 10 + each }, 10 + each]);
});

test("after 200 failures they are counted", async () => {
  const many = Array.from({ length: 203 }, (_, i) => told("s", `t${i}`, "failed"));
  const { added } = await read(["s"], many);
  expect(added.match(/##### /g)?.length).toBe(200);
  expect(added).toContain("\nbarnraiser: 3 more failures were reported\n");
});

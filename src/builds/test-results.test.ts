import { expect, test } from "vitest";
import type { GroupTest } from "../store/test-groups.ts";
import { type GroupRan, resultsOf, type TestReport, unnamedText } from "./test-results.ts";

const tests = (...names: string[]): GroupTest[] => names.map((name, i) => ({ number: i + 1, name, expectedMs: null }));
const report = (outcome: TestReport["outcome"]): TestReport => ({ outcome, durationMs: 5, from: 10, to: 20 });
const ran = (over: Partial<GroupRan>): GroupRan => ({
  ...{ ok: true, stopped: false, durationMs: 100, length: 50, reported: undefined },
  ...over,
});
const reported = (reports: Record<string, TestReport>, unended: Record<string, number> = {}, late = false) => ({
  reported: {
    ...{ reports: new Map(Object.entries(reports)), unended: new Map(Object.entries(unended)), late },
    strangers: { names: ["m.other", "m.b"], count: 7 },
  },
});
/** The results as words: `success`, `failure`, and `failure!` for a final one. */
const words = (of: readonly GroupTest[], over: Partial<GroupRan>) =>
  resultsOf(of, ran(over), 10).map(({ result, final }) => `${result}${final ? "!" : ""}`);

test("by its exit: well is success for all, in shares of its time, which are no durations; of several that failed each runs alone", () => {
  const [a, b] = tests("a", "b");
  if (!a || !b) throw new Error("two tests");
  const shared = resultsOf([{ ...a, expectedMs: 30 }, b], ran({}), 10);
  expect(shared.map(({ result, durationMs, shareMs }) => [result, durationMs, shareMs])).toEqual([
    ["success", null, 75],
    ["success", null, 25],
  ]);
  expect(resultsOf([a], ran({}), 10)).toMatchObject([{ durationMs: 100, shareMs: null }]);
  expect(words([a, b], { ok: false })).toEqual(["again", "again"]);
  expect(words([a], { ok: false })).toEqual(["failure"]);
  expect(words([a], { ok: false, stopped: true })).toEqual(["failure!"]);
});

test("by its report: as reported; what it says nothing about runs alone, and fails when alone it is not reported either", () => {
  expect(words(tests("a", "b", "c"), reported({ a: report("success"), b: report("skipped") }))).toEqual([
    "success",
    "skipped",
    "again",
  ]);
  expect(words(tests("c"), reported({}))).toEqual(["failure"]);
  expect(words(tests("c"), { ...reported({}), ok: false, stopped: true })).toEqual(["failure!"]);
});

test("a report that came too slowly to be read whole fails nobody whose command ended well: what it does not say is lost", () => {
  expect(words(tests("c"), reported({}, {}, true))).toEqual(["lost"]);
  const some = reported({ a: report("success"), b: report("failure") }, {}, true);
  expect(words(tests("a", "b", "c"), some)).toEqual(["success", "failure", "lost"]);
  expect(words(tests("c"), { ...reported({}, {}, true), ok: false })).toEqual(["failure"]);
  expect(words(tests("a", "c"), { ...reported({}, {}, true), ok: false })).toEqual(["again", "again"]);
});

test("a failure of one is no failure of another, and one that began and never ended has failed with its command", () => {
  const failed = { ...reported({ a: report("success"), b: report("failure") }), ok: false };
  expect(words(tests("a", "b"), failed)).toEqual(["success", "failure"]);
  const crashed = { ...reported({ a: report("success") }, { b: 30 }), ok: false };
  expect(words(tests("a", "b", "c"), crashed)).toEqual(["success", "failure", "again"]);
  expect(resultsOf(tests("a", "b"), ran(crashed), 10)[1]).toMatchObject({ from: 30, to: 50, durationMs: null });
  expect(words(tests("a", "b"), { ...crashed, stopped: true })).toEqual(["success", "failure!"]);
  expect(words(tests("a", "b"), reported({ a: report("success") }, { b: 30 }))).toEqual(["success", "again"]);
});

test("a time that the farm did not see pass is no duration", () => {
  const took = (durationMs: number, seen: number | null) =>
    resultsOf(tests("a"), ran({ durationMs: seen, ...reported({ a: { ...report("success"), durationMs } }) }), 10)[0]
      ?.durationMs;
  expect([took(1000, 900), took(86_400_000, 900), took(86_400_000, null)]).toEqual([1000, null, 86_400_000]);
});

test("a command that did not end well and blames nobody is believed by its exit", () => {
  const silent = { ...reported({ a: report("success"), b: report("success") }), ok: false };
  expect(words(tests("a", "b"), silent)).toEqual(["again", "again"]);
  expect(words(tests("a"), { ...reported({ a: report("success") }), ok: false })).toEqual(["failure"]);
});

test("a test that fails only because nothing is said about it has that for its reason, with the first names that there are", () => {
  const why = (names: string[], over: Partial<GroupRan>) => unnamedText(tests(...names), ran(over));
  expect(why(["b"], reported({}))).toBe('but its results do not name it: they name "m.other", "m.b" and 5 more');
  const none = { ...reported({}).reported, strangers: { names: [], count: 0 } };
  expect(why(["b"], { reported: none })).toBe("but its results do not name it: they name no test");
  expect(why(["b"], reported({}, { b: 3 }))).toBe("but its results say that it began, and not how it ended");
  const others = [
    why(["b", "c"], reported({})),
    why(["b"], { ...reported({}), ok: false }),
    why(["b"], reported({}, {}, true)),
    why(["b"], reported({ b: report("failure") })),
    why(["b"], {}),
  ];
  expect(others).toEqual(others.map(() => undefined));
});

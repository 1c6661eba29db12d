import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type GroupRules,
  leftMs,
  median,
  nextGroup,
  slowAfter,
  type TestsLeft,
  unknownTime,
  usefulHelpers,
  type WaitingTest,
} from "./test-groups.ts";

const RULES: GroupRules = { targetMs: 10_000, unknownMs: 3_000, mostTests: 1000, mostBytes: 24_000 };

function waiting(...expected: (number | null)[]): WaitingTest[] {
  return expected.map((expectedMs, i) => ({ number: i + 1, name: `test${i + 1}`, expectedMs, alone: false }));
}

function leftOf(tests: readonly WaitingTest[], machines: number): TestsLeft {
  const known = tests.flatMap(({ expectedMs }) => expectedMs ?? []);
  return { knownMs: known.reduce((a, b) => a + b, 0), unknown: tests.length - known.length, machines };
}

/** All groups in the order in which one machine would take them. */
function groups(tests: readonly WaitingTest[], machines: number, rules = RULES): number[][] {
  const made: number[][] = [];
  for (let rest = tests; rest.length > 0; ) {
    const group = nextGroup(rest, leftOf(rest, machines), rules);
    if (group.length === 0) throw new Error("nothing was taken");
    made.push(group);
    rest = rest.filter(({ number }) => !group.includes(number));
  }
  return made;
}

test("[coordinator 69] groups do not exceed 10 s expected unless a single test does; unknown tests count 3 s", () => {
  const many = waiting(...Array(50).fill(4_000), 25_000, 9_000, null, null, null, null, 1_000);
  const [first, second, third] = groups(many, 1);
  expect([first, second, third]).toEqual([[51], [52, 57], [1, 2]]);
  expect(groups(waiting(...Array(100).fill(null)), 1)[0]).toEqual([1, 2, 3]);
});

test("nextGroup() makes the last groups smaller, down to single tests", () => {
  const sizes = groups(waiting(...Array(100).fill(1_000)), 4).map((group) => group.length);
  expect(sizes.slice(0, 3)).toEqual([10, 10, 10]);
  expect(sizes.at(-1)).toBe(1);
  expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
});

test("nextGroup() leaves a test alone that must be, and keeps within names and bytes", () => {
  const [a, b, c] = waiting(100, 50, 20);
  if (!a || !b || !c) throw new Error("three tests");
  const many = { knownMs: 1e9, unknown: 0, machines: 1 };
  expect(nextGroup([{ ...a, alone: true }, b, c], many, RULES)).toEqual([1]);
  expect(nextGroup([a, { ...b, alone: true }, c], many, RULES)).toEqual([1, 3]);
  expect(nextGroup([a, b, c], many, { ...RULES, mostTests: 2 })).toEqual([1, 2]);
  expect(nextGroup([a, b, c], many, { ...RULES, mostBytes: 11 })).toEqual([1]);
  expect(nextGroup([{ ...a, name: "ü".repeat(50) }, b], many, { ...RULES, mostBytes: 13 })).toEqual([1]);
  expect(nextGroup([], many, RULES)).toEqual([]);
});

test("usefulHelpers() wants none for what is soon done, and never more than there may be", () => {
  expect([0, 19_000, 20_000, 65_000, 1e9].map((left) => usefulHelpers(left, 10_000, 7))).toEqual([0, 0, 1, 3, 7]);
});

test("unknownTime() begins with the guess and follows what was seen", () => {
  expect([unknownTime(3000, 0, 0), unknownTime(3000, 5, 5_000), Math.round(unknownTime(3000, 1000, 10_000))]).toEqual([
    3000, 2000, 25,
  ]);
});

test("median() of none, one, two and three", () => {
  expect([median([]), median([7]), median([1, 4]), median([9, 1, 5])]).toEqual([undefined, 7, 3, 5]);
});

const someTests = fc
  .array(fc.tuple(fc.option(fc.integer({ min: 1, max: 60_000 })), fc.boolean()), { minLength: 1, maxLength: 80 })
  .map((list) =>
    list.map(([expectedMs, alone], i): WaitingTest => ({ number: i + 1, name: `t${i}`, expectedMs, alone })),
  );

test("property: every test is in exactly one group; groups keep to target, names and bytes unless they are one test", () => {
  fc.assert(
    fc.property(
      someTests,
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 20 }),
      (tests, machines, most) => {
        const rules = { ...RULES, mostTests: most, mostBytes: 40 };
        const made = groups(tests, machines, rules);
        expect(made.flat().toSorted((a, b) => a - b)).toEqual(tests.map(({ number }) => number));
        for (const group of made) {
          if (group.length === 1) continue;
          const members = tests.filter(({ number }) => group.includes(number));
          expect(members.some(({ alone }) => alone)).toBe(false);
          expect(members.reduce((sum, { expectedMs }) => sum + (expectedMs ?? 3000), 0)).toBeLessThanOrEqual(10_000);
          expect(group.length).toBeLessThanOrEqual(most);
          expect(members.reduce((sum, { name }) => sum + name.length + 1, 0)).toBeLessThanOrEqual(40);
        }
      },
    ),
  );
});

test("property: with right expectations no schedule ends later than sum / machines + the longest test or group", () => {
  fc.assert(
    fc.property(someTests, fc.integer({ min: 1, max: 12 }), (tests, machines) => {
      const time = ({ expectedMs }: WaitingTest): number => expectedMs ?? RULES.unknownMs;
      const free: number[] = Array(machines).fill(0);
      let rest = tests;
      while (rest.length > 0) {
        const at = free.indexOf(Math.min(...free));
        const group = nextGroup(rest, leftOf(rest, machines), RULES);
        const members = rest.filter(({ number }) => group.includes(number));
        free[at] = (free[at] ?? 0) + members.reduce((sum, each) => sum + time(each), 0);
        rest = rest.filter(({ number }) => !group.includes(number));
      }
      const all = leftMs(leftOf(tests, machines), RULES.unknownMs);
      const longest = Math.max(...tests.map(time));
      // The last group is at most half of a machine's share, or the smallest group size, unless it is a single test.
      expect(Math.max(...free)).toBeLessThanOrEqual(all / machines + Math.max(longest, RULES.targetMs / 20));
    }),
  );
});

test("slowAfter() allows a group twice what was expected, and never less than half the target", () => {
  expect([slowAfter(0, 10_000), slowAfter(10_000, 10_000), slowAfter(60_000, 10_000)]).toEqual([
    5_000, 25_000, 125_000,
  ]);
});

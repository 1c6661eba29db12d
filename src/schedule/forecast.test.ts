import fc from "fast-check";
import { expect, test } from "vitest";
import { forecast } from "./forecast.ts";

const idle = { work: null };
const busy = (spentMs: number, durations: readonly number[], machines = 1) => ({
  work: { spentMs, machines, durations },
});
const minute = Array.from({ length: 50 }, () => 60_000);
const build = (durations: readonly number[]) => ({ durations });

test("forecast(): an idle machine takes the first at once, the second follows when that has run", () => {
  const [first, second] = forecast([idle], [build(minute), build(minute)]);
  expect(first).toEqual({ earliestMs: 0, aboutMs: 0, latestMs: 0 });
  expect(second?.aboutMs).toBe(60_000);
});

test("forecast(): what a busy machine needs yet depends on how long it has run already", () => {
  const either = [...Array.from({ length: 25 }, () => 60_000), ...Array.from({ length: 25 }, () => 600_000)];
  const [fresh] = forecast([busy(0, either)], [build(minute)]);
  const [late] = forecast([busy(120_000, either)], [build(minute)]);
  expect([fresh?.earliestMs, fresh?.latestMs]).toEqual([60_000, 600_000]);
  expect([late?.earliestMs, late?.aboutMs]).toEqual([480_000, 480_000]);
});

test("forecast(): over every recent duration it needs up to half as long again, and no time is negative", () => {
  const [over] = forecast([busy(600_000, minute)], [build(minute)]);
  expect(over?.earliestMs).toBeGreaterThan(0);
  expect(over?.latestMs).toBeLessThan(300_000);
  const ahead = forecast([busy(-86_400_000, minute)], [build(minute)]); // begun tomorrow, by the clock of another machine
  expect(ahead[0]?.aboutMs).toBe(60_000);
});

test("forecast(): without history, and without machines, it says nothing instead of guessing", () => {
  expect(forecast([], [build(minute)])).toEqual([null]);
  expect(forecast([busy(1, [])], [build(minute)])).toEqual([null]);
  expect(forecast([idle], [build([]), build(minute)])).toEqual([{ earliestMs: 0, aboutMs: 0, latestMs: 0 }, null]);
  const [, second] = forecast([idle, idle], [build([]), build(minute)]); // the other machine is enough
  expect(second?.aboutMs).toBe(0);
});

test("forecast(): machines that help with a build become free with it; one that is wanted for that is kept until then", () => {
  const spread = Array.from({ length: 50 }, (_, i) => 60_000 + i * 1000);
  const work = busy(0, spread, 3);
  const builds = [build(minute), build(minute), build(minute)];
  const [first, second, third] = forecast([work, work, work], builds);
  expect(first?.latestMs).toBeGreaterThan(first?.earliestMs ?? 0);
  expect([second, third]).toEqual([first, first]);
  const [alone] = forecast([busy(0, spread)], builds);
  expect((first?.aboutMs ?? 0) * 3).toBeCloseTo(alone?.aboutMs ?? 0);
  const [helper, next] = forecast([work, idle], [{ helps: work.work }, build(minute)]);
  expect([helper?.latestMs, next]).toEqual([0, forecast([work], [build(minute)])[0]]);
  const [, after] = forecast([idle], [{ helps: busy(0, []).work }, build(minute)]);
  expect(after).toBeNull();
});

test("forecast(): in line nobody begins before the one in front; the range is in order; the same question has the same answer", () => {
  const durations = fc
    .array(fc.integer({ min: 1, max: 1e6 }), { minLength: 1, maxLength: 9 })
    .map((all) => all.toSorted((a, b) => a - b));
  fc.assert(
    fc.property(
      fc.array(fc.option(fc.tuple(fc.nat(1e6), durations)), { minLength: 1, maxLength: 8 }),
      fc.array(durations.map(build), { maxLength: 20 }),
      (machines, queue) => {
        const serving = machines.map((work) => (work === null ? idle : busy(work[0], work[1])));
        const all = forecast(serving, queue);
        expect(forecast(serving, queue)).toEqual(all);
        for (const [i, each] of all.entries()) {
          if (!each) throw new Error("all is known, so there is an estimate");
          expect(each.earliestMs <= each.aboutMs && each.aboutMs <= each.latestMs).toBe(true);
          expect(each.aboutMs).toBeGreaterThanOrEqual(all[i - 1]?.aboutMs ?? 0);
        }
      },
    ),
  );
});

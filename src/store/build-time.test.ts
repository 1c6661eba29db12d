/** The decision whether a build that the farm failed is tried once more, without a database. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ms, seconds } from "../farm/ids.ts";
import { afterLoss, type LostAttempt } from "./build-time.ts";

const LIMIT = seconds(300);
const BUDGET = { retries: 3, attempts: 20 };

const lost = (tookMs: number, facts: Partial<LostAttempt> = {}): LostAttempt => ({
  tookMs,
  counts: true,
  machineFault: false,
  cameToCommands: false,
  ...facts,
});
const hung = { machineFault: true };
const broke = { machineFault: true, cameToCommands: true };

test.each<[string, readonly LostAttempt[], ReturnType<typeof afterLoss>]>([
  ["a machine hung in step 0 for all of the time", [lost(LIMIT, hung)], "again"],
  ["three did", [lost(LIMIT, hung), lost(LIMIT, hung), lost(LIMIT, hung)], "again"],
  ["as many as the budget has", [1, 2, 3, 4].map(() => lost(LIMIT, hung)), "spent"],
  ["the source did not come in all of the time", [lost(LIMIT)], "late"],
  ["it did not come in two halves of it", [lost(LIMIT / 2), lost(LIMIT, hung), lost(LIMIT / 2)], "late"],
  ["a machine broke when it had run commands for nearly all of the time", [lost(LIMIT - 1, broke)], "again"],
  ["and one after it", [lost(LIMIT - 1, broke), lost(1, broke)], "late"],
  ["the farm's own restart ended it late", [lost(LIMIT, { counts: false })], "again"],
  ["a clock was wrong", [lost(LIMIT * 1000), lost(-LIMIT)], "again"],
])("%s: %j is %s", (_, attempts, next) => {
  expect(afterLoss(attempts, attempts.length, LIMIT, BUDGET)).toBe(next);
});

const ATTEMPT = fc.record({
  tookMs: fc.integer({ min: 0, max: 2 * LIMIT }),
  counts: fc.boolean(),
  machineFault: fc.boolean(),
  cameToCommands: fc.boolean(),
});

test("no build is tried without end: of what the farm took at most one attempt is over its time, of the rest there are as many as the budget has", () => {
  fc.assert(
    fc.property(fc.array(ATTEMPT, { minLength: 25, maxLength: 25 }), (attempts) => {
      const again = (tried: number) => afterLoss(attempts.slice(0, tried), tried, LIMIT, BUDGET) === "again";
      let tried = 1;
      while (again(tried)) tried++;
      const charged = attempts.slice(0, tried).filter(({ counts }) => counts);
      const before = attempts.slice(0, tried - 1).filter((a) => a.counts && (a.cameToCommands || !a.machineFault));
      const used = before.reduce((sum, { tookMs }) => sum + tookMs, 0);
      return tried <= BUDGET.attempts && charged.length <= BUDGET.retries + 1 && used < LIMIT;
    }),
  );
});

test("the first loss is never the last where a machine failed the build in step 0, whatever the build's time is", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 40 }), fc.integer({ min: 1, max: 2 ** 31 }), (took, limit) => {
      return afterLoss([lost(took, hung)], 1, ms(limit), BUDGET) === "again";
    }),
  );
});

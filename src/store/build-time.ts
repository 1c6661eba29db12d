/**
 * How much of its time limit (`buildTimeLimit`) a build has used. It has that time twice, so that a commit is judged by
 * its own commands only:
 *
 *   for its commands  from the end of step 0 of an attempt on. When it is used up, the build has failed.
 *   for the farm      step 0 of each attempt, and the whole of each lost attempt that is charged to the build.
 *                     When it is used up, the farm has failed the build.
 *
 * Not counted: waiting between attempts; waiting for a machine to come back, in vain or not; an attempt that is not
 * charged, because the farm's own restart ended it or its machine was unfit for more tests. An attempt that its machine
 * failed during step 0 is not counted either: one machine that hangs must not end a build while there are others.
 */
import type { Recipe } from "../farm/build.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";

/** The time limit of a build whose builder has none of its own. */
const BUILD_LIMIT: Ms = minutes(6 * 60);
/** How far over its limit a measured time may be. Beyond this, a wrong clock began the attempt or looks at it. */
export const CREDIBLE: Ms = minutes(60);

/** When step 0 of attempt `a`, while it is at that step, would have begun if its machine had never been away. */
export const SOURCE_FROM = "a.started_at + (select away from lease where lease.id = a.lease_id)";

const COMMANDS = `
  select max(s.ended_at + l.away - coalesce(s.away, '0')) from attempt e join step s on s.attempt_id = e.id join lease l on l.id = e.lease_id
  where s.number = 0 and s.outcome = 'success'`;

/** When the time of attempt `a`'s commands starts to count. Null while it is at step 0. */
export const COMMANDS_FROM: string = `(${COMMANDS} and e.id = a.id)`;

/** The same for the latest attempt of build `b`, with the tests `t`, that has reached its commands. */
export const LATEST_COMMANDS_FROM: string = `coalesce((${COMMANDS} and e.build_id = b.id), t.listed_at)`;

export function timeOf({ limits }: Recipe): Ms {
  return ms(limits?.buildMs ?? BUILD_LIMIT);
}

/** An attempt that the farm failed. */
export interface LostAttempt {
  /** How long the attempt took without the waits for its machine. The clocks that measured it may have been wrong. */
  readonly tookMs: number;
  /** False: the farm's own restart ended the attempt, or its machine was unfit for more tests. */
  readonly counts: boolean;
  readonly machineFault: boolean;
  /** The attempt's step 0 had ended well. */
  readonly cameToCommands: boolean;
}

/** All lost attempts of build $1, with their machines. */
export const LOST_ATTEMPTS = `
  select coalesce(extract(epoch from a.ended_at - a.started_at - l.away) * 1000, 0)::double precision as "tookMs", a.counts,
    a.machine_fault as "machineFault", a.machine_id as machine,
    exists (select from step s where s.attempt_id = a.id and s.number = 0 and s.outcome = 'success') as "cameToCommands"
  from attempt a join lease l on l.id = a.lease_id
  where a.build_id = $1 and a.outcome = 'infra_failure'`;

export interface RetryBudget {
  /** How many infra failures are tried again. */
  readonly retries: number;
  /** How many attempts a build has at most, whatever ended them. */
  readonly attempts: number;
}

/**
 * Decides whether a build gets another attempt after the last of its `attempts` was lost, and if not, why. `lost`
 * includes that attempt.
 */
export function afterLoss(
  lost: readonly LostAttempt[],
  attempts: number,
  limit: Ms,
  budget: RetryBudget,
): "again" | "spent" | "late" {
  const charged = lost.filter(({ counts }) => counts);
  const farms = charged.filter(({ machineFault, cameToCommands }) => cameToCommands || !machineFault);
  const used = farms.reduce((sum, { tookMs }) => sum + (isCredible(tookMs, limit) ? tookMs : 0), 0);
  if (used >= limit) return "late";
  return charged.length <= budget.retries && attempts < budget.attempts ? "again" : "spent";
}

/** One attempt may have used up the time of its step 0, and then that of its commands. */
function isCredible(tookMs: number, limit: Ms): boolean {
  return tookMs >= 0 && tookMs <= 2 * limit + CREDIBLE;
}

/**
 * What a build has used of its time (`buildTimeLimit`). It has that twice, so that a commit answers for its own commands only:
 *
 *   for its commands  from the end of step 0 of an attempt on. Used up: it has failed
 *   for the farm      step 0 of each attempt; and all that attempts took that were lost and are charged to it. Used up: the farm has failed it
 *
 * Not counted is what it waited between its attempts and for a machine to come back, in vain or not, nor what one took that the farm's own restart
 * ended. What a machine took that failed it in step 0 is that machine's: a build is not ended by one that hangs while there are others.
 */
import type { Recipe } from "../farm/build.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";

/** Where the builder has no limit of its own. */
const BUILD_LIMIT: Ms = minutes(6 * 60);
/** What seems to have taken more than this over its limit was begun by a clock that was wrong, or is looked at by one. */
export const CREDIBLE: Ms = minutes(60);

/** For attempt `a` while it is at step 0: from when on the time of that would have passed at one stretch. */
export const SOURCE_FROM = "a.started_at + (select away from lease where lease.id = a.lease_id)";

const COMMANDS = `
  select max(s.ended_at + l.away - coalesce(s.away, '0')) from attempt e join step s on s.attempt_id = e.id join lease l on l.id = e.lease_id
  where s.number = 0 and s.outcome = 'success'`;

/** For attempt `a`: from when on the time of its commands counts; null while it is at step 0. */
export const COMMANDS_FROM: string = `(${COMMANDS} and e.id = a.id)`;

/** For build `b` with the tests `t`: the same of its latest attempt that came to its commands. */
export const LATEST_COMMANDS_FROM: string = `coalesce((${COMMANDS} and e.build_id = b.id), t.listed_at)`;

export function timeOf({ limits }: Recipe): Ms {
  return ms(limits?.buildMs ?? BUILD_LIMIT);
}

/** An attempt that the farm failed. */
export interface LostAttempt {
  /** Without the waits for its machine, and by clocks that may have been wrong. */
  readonly tookMs: number;
  /** False: the farm's own restart ended it. */
  readonly counts: boolean;
  readonly machineFault: boolean;
  /** Its step 0 had ended well. */
  readonly cameToCommands: boolean;
}

/** All lost attempts of build $1, with the machines that they were on. */
export const LOST_ATTEMPTS = `
  select coalesce(extract(epoch from a.ended_at - a.started_at - l.away) * 1000, 0)::double precision as "tookMs", a.counts,
    a.machine_fault as "machineFault", a.machine_id as machine,
    exists (select from step s where s.attempt_id = a.id and s.number = 0 and s.outcome = 'success') as "cameToCommands"
  from attempt a join lease l on l.id = a.lease_id
  where a.build_id = $1 and a.outcome = 'infra_failure'`;

export interface RetryBudget {
  /** Infra failures that are tried again. */
  readonly retries: number;
  /** Attempts of one build, whatever ended them. */
  readonly attempts: number;
}

/** What becomes of a build of whose `attempts` the last one was lost now, as those in `lost`: another attempt, or why there is none. */
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

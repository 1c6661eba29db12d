/**
 * What a build has used of its time (`buildTimeLimit`). It has that twice, so that a commit answers for its own commands only:
 *
 *   for its commands  from the end of step 0 of an attempt on. Used up: it has failed
 *   for the farm      step 0, and all that attempts took that were lost and are charged to it. Used up: the farm has failed it
 *
 * Not counted is what it waited between its attempts and for a machine to come back, in vain or not, nor what one took that the farm's own restart
 * ended.
 */
import type { Recipe } from "../farm/build.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";

/** Where the builder has no limit of its own. */
const BUILD_LIMIT: Ms = minutes(6 * 60);
/** What seems to have taken more than this over its limit was begun by a clock that was wrong, or is looked at by one. */
export const CREDIBLE: Ms = minutes(60);

/** For attempt `a`: from when on the farm's part of its build's time would have passed at one stretch. */
export const COUNTS_FROM = `a.started_at - (
  select coalesce(sum(e.ended_at - e.started_at - l.away), interval '0') from attempt e join lease l on l.id = e.lease_id
  where e.build_id = a.build_id and e.number < a.number and e.counts and e.ended_at > e.started_at)`;

const COMMANDS = `
  select max(s.ended_at + l.away) from attempt e join step s on s.attempt_id = e.id join lease l on l.id = e.lease_id
  where s.number = 0 and s.outcome = 'success'`;

/** For attempt `a`: from when on the time of its commands counts; null while it is at step 0. */
export const COMMANDS_FROM: string = `(${COMMANDS} and e.id = a.id)`;

/** For build `b` with the tests `t`: the same of its latest attempt that came to its commands. */
export const LATEST_COMMANDS_FROM: string = `coalesce((${COMMANDS} and e.build_id = b.id), t.listed_at)`;

/** Of several attempts that were lost: milliseconds that they took and that are charged. */
export const LOST_MS = `coalesce(
  sum(extract(epoch from ended_at - started_at - (select away from lease where lease.id = lease_id)) * 1000) filter (where counts and ended_at > started_at), 0)::double precision`;

export function timeOf({ limits }: Recipe): Ms {
  return ms(limits?.buildMs ?? BUILD_LIMIT);
}

/** Whether attempts that took `lostMs` leave a build no time to be tried again: the last of them may have had all that its commands have. */
export function isUsedUp(lostMs: number, limit: Ms): boolean {
  return lostMs >= limit && lostMs <= 2 * limit + CREDIBLE;
}

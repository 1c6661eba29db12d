/**
 * What a build has used of its time (`buildTimeLimit`). It has that twice, so that a commit answers for its own commands only:
 *
 *   for its commands  from the end of step 0 of an attempt on. Used up: it has failed
 *   for the farm      step 0, and all that attempts took that were lost and are charged to it. Used up: the farm has failed it
 *
 * Not counted is what it waited between its attempts, nor what one took that the farm's own restart ended.
 */
import type { Recipe } from "../farm/build.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";

/** Where the builder has no limit of its own. */
const BUILD_LIMIT: Ms = minutes(6 * 60);
/** What seems to have taken more than this over its limit was begun by a clock that was wrong, or is looked at by one. */
export const CREDIBLE: Ms = minutes(60);

/** For attempt `a`: from when on the farm's part of its build's time would have passed at one stretch. */
export const COUNTS_FROM = `a.started_at - (
  select coalesce(sum(e.ended_at - e.started_at), interval '0') from attempt e
  where e.build_id = a.build_id and e.number < a.number and e.counts and e.ended_at > e.started_at)`;

/** For attempt `a`: when its commands began; null while it is at step 0. */
export const COMMANDS_FROM = "(select ended_at from step where attempt_id = a.id and number = 0)";

/** For build `b` with the tests `t`: when the commands began of its latest attempt that came to them. */
export const LATEST_COMMANDS_FROM = `coalesce((
  select max(s.ended_at) from attempt e join step s on s.attempt_id = e.id
  where e.build_id = b.id and s.number = 0 and s.outcome = 'success'), t.listed_at)`;

/** Of several attempts that were lost: milliseconds that they took and that are charged. */
export const LOST_MS = `coalesce(
  sum(extract(epoch from ended_at - started_at) * 1000) filter (where counts and ended_at > started_at), 0)::double precision`;

export function timeOf({ limits }: Recipe): Ms {
  return ms(limits?.buildMs ?? BUILD_LIMIT);
}

/** Whether attempts that took `lostMs` leave a build no time to be tried again: the last of them may have had all that its commands have. */
export function isUsedUp(lostMs: number, limit: Ms): boolean {
  return lostMs >= limit && lostMs <= 2 * limit + CREDIBLE;
}

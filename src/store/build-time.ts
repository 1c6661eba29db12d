/**
 * What a build has used of its time (`buildTimeLimit`): what all its attempts took that are charged to it. Not what it waited between them, nor
 * what an attempt took that the farm's own restart ended.
 */

/** For attempt `a`: from when on its build's time would have passed at one stretch. */
export const COUNTS_FROM = `a.started_at - (
  select coalesce(sum(e.ended_at - e.started_at), interval '0') from attempt e
  where e.build_id = a.build_id and e.number < a.number and e.counts and e.ended_at > e.started_at)`;

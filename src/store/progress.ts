/** Builds as one line each, for the terminal and `-once`. */
import type { BuildState, Outcome } from "../farm/build.ts";
import type { BuildId, EpochMs, LogId } from "../farm/ids.ts";
import type { Sql } from "./sql.ts";

export interface BuildLine {
  readonly id: BuildId;
  readonly repo: string;
  readonly branch: string;
  readonly builder: string;
  readonly hostType: string;
  readonly hash: string;
  readonly message: string;
  readonly state: BuildState;
  readonly outcome: Outcome | null;
  readonly reason: string | null;
  readonly createdAt: EpochMs;
  readonly startedAt: EpochMs | null;
  readonly endedAt: EpochMs | null;
  /** The step of the newest attempt that runs, or that ended it. Null before the first step. */
  readonly step: string | null;
  readonly stepLog: LogId | null;
  readonly machine: string | null;
}

const LINE = `
  select b.id, b.repo, b.branch, b.builder, b.host_type as "hostType", c.hash, c.message, b.state, b.outcome, b.reason,
         b.created_at as "createdAt", b.started_at as "startedAt", b.ended_at as "endedAt",
         s.name as step, s.log_id as "stepLog", m.name as machine
    from build b
    join commit c on c.id = b.commit_id
    left join lateral (select id, machine_id from attempt where build_id = b.id order by number desc limit 1) a on true
    left join machine m on m.id = a.machine_id
    left join lateral (select name, log_id from step
                        where attempt_id = a.id and started_at is not null order by number desc limit 1) s on true`;

/** Builds that are open, and those that ended since `since`; oldest first. */
export function buildsSince(sql: Sql, since: Date): Promise<BuildLine[]> {
  return sql.query(`${LINE} where b.state <> 'ended' or b.ended_at >= $1 order by b.id`, [since]);
}

/** One builder's answer about one commit, by one recipe. */
export interface Wanted {
  readonly repo: string;
  readonly hash: string;
  readonly builder: string;
  /** The digest of the recipe. */
  readonly recipe: string;
}

/** The newest build of each of `wanted` that has one, in the order in which they were made. */
export function newestBuilds(sql: Sql, wanted: readonly Wanted[]): Promise<BuildLine[]> {
  return sql.query(
    `${LINE}
      where b.id in (select max(h.id) from build h
                       join commit hc on hc.id = h.commit_id
                       join jsonb_to_recordset($1::jsonb) as w (repo text, hash text, builder text, recipe text)
                         on w.repo = hc.repo and w.hash = hc.hash and w.builder = h.builder and w.recipe = h.recipe
                      group by h.commit_id, h.builder)
      order by b.id`,
    [JSON.stringify(wanted)],
  );
}

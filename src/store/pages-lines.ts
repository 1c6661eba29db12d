/**
 * Reading for pages: a build as one line, and how long builders usually take.
 *
 * The pages-*.ts files hold the read models of web/. They only read, join what belongs together on a page, and keep
 * each statement to what an index serves. So a page costs the same with a thousand builds in the database and with a
 * million.
 */
import type { BuildState, Outcome } from "../farm/build.ts";
import { at, type Sql } from "./sql.ts";

export interface BuildLineRow {
  readonly id: number;
  readonly repo: string;
  readonly branch: string;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
  readonly builder: string;
  /** For a build of a pair: the other repository. */
  readonly otherRepo: string | null;
  readonly otherBranch: string | null;
  readonly otherHash: string | null;
  readonly hostType: string;
  readonly state: BuildState;
  readonly outcome: Outcome | null;
  readonly reason: string | null;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly attempts: number;
  readonly machine: string | null;
  readonly machineType: string | null;
  readonly step: string | null;
  /** The number of listed tests. Null while there is no list. */
  readonly testsTotal: number | null;
  readonly testsEnded: number | null;
  readonly testsFailed: number | null;
  readonly testsFlaky: number | null;
}

/** The columns of BuildLineRow. To be followed by `where b.id ...` or a join. */
const LINE = `
  select b.id, b.repo, b.branch, c.hash, c.message, c.author_name as author, b.builder, b.host_type as "hostType",
    r.with_repo as "otherRepo", r.with_branch as "otherBranch", r.with_hash as "otherHash",
    b.state, b.outcome, b.reason, b.created_at as "createdAt",
    coalesce(b.started_at, a.started_at) as "startedAt", b.ended_at as "endedAt",
    coalesce(a.number, 0) as attempts, m.name as machine, m.host_type as "machineType",
    coalesce(b.failed_step, (
      select s.name from step s where s.attempt_id = a.id and s.started_at is not null order by s.number desc limit 1
    )) as step,
    t.total as "testsTotal", t.total - t.waiting - t.running as "testsEnded", t.failed as "testsFailed", t.flaky as "testsFlaky"
  from build b
    join commit c on c.id = b.commit_id
    join recipe r on r.digest = b.recipe
    left join lateral (
      select id, number, machine_id, started_at from attempt where build_id = b.id order by number desc limit 1
    ) a on true
    left join machine m on m.id = a.machine_id
    left join test_run t on t.build_id = b.id`;

export async function buildLines(sql: Sql, ids: readonly number[]): Promise<BuildLineRow[]> {
  return sql.query(`${LINE} where b.id = any ($1::bigint[]) order by b.id`, [ids]);
}

/** Builds that hold a machine. Those that began first come first. */
export async function runningLines(sql: Sql, limit: number): Promise<BuildLineRow[]> {
  return sql.query(
    `${LINE} where b.state <> 'ended' and b.state = 'running' order by b.started_at nulls last, b.id limit $1`,
    [limit],
  );
}

export async function recentLines(sql: Sql, limit: number): Promise<BuildLineRow[]> {
  return sql.query(
    `${LINE} where b.id in (
       select id from build where state = 'ended' and outcome <> 'skipped' order by ended_at desc limit $1)
     order by b.ended_at desc, b.id desc`,
    [limit],
  );
}

/** What a machine runs now. */
export async function machineRuns(sql: Sql, machine: number): Promise<BuildLineRow[]> {
  return sql.query(
    `${LINE} where b.id in (
       select build_id from attempt a join lease l on l.id = a.lease_id
       where l.machine_id = $1 and l.state = 'held' and a.state = 'running')`,
    [machine],
  );
}

/** The build says something about the code. What waits, was skipped or canceled does not, however much of it there is. */
const VERDICT = "outcome in ('success', 'failure')";

export interface Usual {
  readonly repo: string;
  readonly builder: string;
  readonly usualMs: number;
}

/** The median duration of the successes among each builder's last 50 verdicts. */
export async function usualDurations(
  sql: Sql,
  pairs: readonly { readonly repo: string; readonly builder: string }[],
): Promise<Usual[]> {
  if (pairs.length === 0) return [];
  const wanted = new Map(pairs.map(({ repo, builder }) => [`${repo}\n${builder}`, { repo, builder }]));
  const list = [...wanted.values()];
  return sql.query(
    `select p.repo, p.builder, d."usualMs"
     from unnest($1::text[], $2::text[]) p(repo, builder)
     cross join lateral (
       select percentile_cont(0.5) within group (order by extract(epoch from l.ended_at - l.started_at) * 1000)::float8 as "usualMs"
       from (
         select outcome, started_at, ended_at from build
         where repo = p.repo and builder = p.builder and ${VERDICT} order by id desc limit 50
       ) l where l.outcome = 'success' and l.started_at is not null
     ) d where d."usualMs" is not null`,
    [list.map((p) => p.repo), list.map((p) => p.builder)],
  );
}

/** What each builder's last 50 verdicts took of machines, of the build's own and its helpers together, the least first. */
export async function recentDurations(
  sql: Sql,
  pairs: readonly { readonly repo: string; readonly builder: string }[],
): Promise<{ repo: string; builder: string; durations: number[] }[]> {
  if (pairs.length === 0) return [];
  const wanted = new Map(pairs.map(({ repo, builder }) => [`${repo}\n${builder}`, { repo, builder }]));
  const list = [...wanted.values()];
  return sql.query(
    `select p.repo, p.builder, d.durations
     from unnest($1::text[], $2::text[]) p(repo, builder)
     cross join lateral (
       select array_agg(l.ms order by l.ms) as durations
       from (
         select extract(epoch from b.ended_at - b.started_at + coalesce(helped.span, interval '0'))::float8 * 1000 as ms
         from (
           select id, started_at, ended_at from build
           where repo = p.repo and builder = p.builder and ${VERDICT} order by id desc limit 50
         ) b left join lateral (
           select sum(greatest(least(l.ended_at, b.ended_at) - greatest(l.held_at, b.started_at), interval '0')) as span
           from helper h join lease l on l.id = h.lease_id where h.build_id = b.id and l.held_at is not null
         ) helped on true
       ) l where l.ms is not null
     ) d where d.durations is not null`,
    [list.map((p) => p.repo), list.map((p) => p.builder)],
  );
}

/** The newest verdict of each of the given pairs. */
export async function latestResults(
  sql: Sql,
  pairs: readonly { readonly repo: string; readonly builder: string }[],
): Promise<{ repo: string; builder: string; build: number; outcome: "success" | "failure" }[]> {
  return sql.query(
    `select p.repo, p.builder, l.id as build, l.outcome
     from unnest($1::text[], $2::text[]) p(repo, builder)
     cross join lateral (
       select id, outcome from build
       where repo = p.repo and builder = p.builder and ${VERDICT} order by id desc limit 1
     ) l order by p.builder, p.repo`,
    [pairs.map((p) => p.repo), pairs.map((p) => p.builder)],
  );
}

export interface HourRow {
  readonly hour: number; // 0 oldest, 23 the present one
  readonly success: number;
  /** Successes with tests that failed at first. The number of successes does not include them. */
  readonly flaky: number;
  readonly failure: number;
  readonly infra: number;
  readonly busyMs: number;
  readonly waitMs: number;
}

/** The builds that ended in each of the last 24 hours. Their whole time counts in the hour in which they ended. */
export async function dayHours(sql: Sql, now: number): Promise<HourRow[]> {
  return sql.query(
    `select least(23, floor(extract(epoch from ended_at - $1::timestamptz) / 3600))::int as hour,
       count(*) filter (where outcome = 'success' and flaky_tests = 0)::int as success,
       count(*) filter (where outcome = 'success' and flaky_tests > 0)::int as flaky,
       count(*) filter (where outcome = 'failure')::int as failure,
       count(*) filter (where outcome = 'infra_failure')::int as infra,
       coalesce(sum(extract(epoch from ended_at - started_at)) * 1000, 0)::float8 as "busyMs",
       coalesce(percentile_cont(0.5) within group (order by extract(epoch from started_at - created_at)) * 1000, 0)::float8 as "waitMs"
     from build where state = 'ended' and ended_at >= $1
     group by 1 order by 1`,
    [at((now - 24 * 3600_000) as Parameters<typeof at>[0])],
  );
}

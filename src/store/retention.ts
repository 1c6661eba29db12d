/**
 * Deletes old data in small bites. Each statement touches at most `limit` rows of the table that it is about, finds
 * them by an index, and waits for no locks (`skip locked`). Repeating one is harmless.
 *
 * Never deleted:
 *
 *   what is open
 *   the newest result of each builder on each branch that exists
 *   the newest build of each cell of a commit that is still in a branch's history
 *   the builds that tell since when a builder is red (`standing`), and their commits in a branch's history
 *   a build that another one is a rebuild of
 */
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/** Lets one coordinator at a time delete. False: another one does. Call this first in a transaction. */
export async function mayBite(tx: Sql): Promise<boolean> {
  const [row] = await tx.query<{ mine: boolean }>("select pg_try_advisory_xact_lock(7262002) as mine");
  return row?.mine ?? false;
}

/** How many tests the builds of one bite have together, not counting those of the first build. */
const TESTS_AT_ONCE = 20_000;

/** The logs of the builds in `doomed`. */
const LOGS = `
  select s.log_id as id from doomed join attempt a on a.build_id = doomed.id join step s on s.attempt_id = a.id where s.log_id is not null
  union all select g.log_id from doomed join test_group g on g.build_id = doomed.id`;

const IN_STORY = "exists (select from standing st where st.red_build = b.id or st.green_build = b.id)";

/**
 * Drops the logs of builds that ended before `before`, oldest first: of successes, or of all others. Returns how many
 * builds.
 */
export async function dropLogs(
  sql: Sql,
  succeeded: boolean,
  before: EpochMs,
  limit: number,
  now: EpochMs,
): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `with doomed as (
       select b.id from build b
       where b.state = 'ended' and b.logs_dropped_at is null and (b.outcome = 'success') = $1 and b.ended_at < $2 and not ${IN_STORY}
       order by b.ended_at, b.id limit $3 for update skip locked
     ), logs as (
       update log set dropped_at = $4 where id in (${LOGS}) and dropped_at is null
     ), marked as (
       update build set logs_dropped_at = $4 from doomed where build.id = doomed.id returning build.id
     )
     select count(*)::int as count from marked`,
    [succeeded, at(before), limit, at(now)],
  );
  return row?.count ?? 0;
}

/** Deletes the bytes of dropped logs. Returns how many chunks went. */
export async function emptyLogs(sql: Sql, limit: number): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `with l as (
       select id from log where dropped_at is not null and not emptied order by id limit $1 for update skip locked
     ), gone as (
       delete from log_chunk where ctid = any (array(select ctid from log_chunk where log_id in (select id from l) limit $1)) returning 1
     ), done as (
       update log set emptied = true from l where log.id = l.id and (select count(*) from gone) < $1 returning 1
     )
     select greatest((select count(*) from gone), (select count(*) from done))::int as count`,
    [limit],
  );
  return row?.count ?? 0;
}

/**
 * Takes commits that were found before `before` out of the history of the branches of `repo`, except for the newest
 * `history` of each and those that tell since when a builder is red. Of branches that were gone by then, takes all.
 */
export async function trimBranches(
  sql: Sql,
  repo: string,
  history: number,
  before: EpochMs,
  limit: number,
): Promise<number> {
  const rows = await sql.query(
    `delete from branch_commit where (repo, branch, position) in (
       select old.repo, old.branch, old.position
       from branch b cross join lateral (
         select bc.repo, bc.branch, bc.position from branch_commit bc join commit c on c.id = bc.commit_id
         where bc.repo = b.repo and bc.branch = b.name and c.found_at < $3
           and (b.gone_at < $3 or bc.position <= (select max(position) from branch_commit where repo = b.repo and branch = b.name) - $2
             and not exists (select from standing st where st.red_commit = c.id or st.green_commit = c.id))
         order by bc.position limit $4
       ) old where b.repo = $1 limit $4
     ) returning 1`,
    [repo, history, at(before), limit],
  );
  return rows.length;
}

/** Deletes branches that were gone before `before` and have neither history nor builds left. */
export async function deleteBranches(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from branch where (repo, name) in (
       select repo, name from branch b where gone_at < $1
         and not exists (select from branch_commit where repo = b.repo and branch = b.name)
         and not exists (select from build where repo = b.repo and branch = b.name) limit $2 for update skip locked
     ) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

/** How far a walk from old to new has come. Undefined: it is at its end. */
export interface Walk {
  readonly at: EpochMs;
  readonly id: number;
}
export interface Walked<W> {
  readonly next: W | undefined;
  readonly deleted: number;
}

/**
 * Looks at the next builds that ended before `before`, at most `limit`, fewer when they have many tests. Deletes those
 * that nothing needs, with everything that belongs to them.
 */
export async function deleteBuilds(sql: Sql, from: Walk, before: EpochMs, limit: number): Promise<Walked<Walk>> {
  const looked = await sql.query<{ id: number; at: EpochMs }>(
    `select id, at from (
       select b.id, b.ended_at as at, sum(t.total) over (order by b.ended_at, b.id) - t.total as tests_before
       from (
         select id, ended_at from build
         where state = 'ended' and ended_at < $3 and ended_at >= $1 and (ended_at, id) > ($1, $2) order by ended_at, id limit $4
       ) b cross join lateral (select coalesce((select total from test_run where build_id = b.id), 0) as total) t
     ) b where tests_before < ${TESTS_AT_ONCE} order by at, id`,
    [at(from.at), from.id, at(before), limit],
  );
  const last = looked.at(-1);
  if (!last) return { next: undefined, deleted: 0 };
  const [row] = await sql.query<{ count: number }>(
    `with old as (
       select b.id, b.repo, b.branch, b.builder, b.commit_id from build b
       where b.id = any ($1::bigint[]) and b.state = 'ended' and b.logs_dropped_at is not null and not ${IN_STORY}
         and not exists (select from build r where r.rebuild_of = b.id)
         and not (
           exists (select from branch_commit bc where bc.commit_id = b.commit_id)
           and not exists (select from build n where n.commit_id = b.commit_id and n.builder = b.builder and n.id > b.id))
       for update skip locked
     ), newest as (
       select n.id from (select distinct repo, branch, builder from old) o cross join lateral (
         select id from build where repo = o.repo and builder = o.builder and branch = o.branch and outcome in ('success', 'failure')
         order by id desc limit 1) n
       where not exists (select from branch br where br.repo = o.repo and br.name = o.branch and br.gone_at is not null)
     ), doomed as (
       select id from old where id not in (select id from newest)
     ), logs as (
       select id from (${LOGS}) l join log using (id) where log.emptied
     ), a as (
       delete from attempt using doomed where attempt.build_id = doomed.id returning attempt.id, attempt.lease_id
     ), s as (
       delete from step using a where step.attempt_id = a.id
     ), le as (
       delete from lease using a where lease.id = a.lease_id
     ), lo as (
       delete from log using logs where log.id = logs.id
     ), te as (
       delete from test using doomed where test.build_id = doomed.id
     ), tg as (
       delete from test_group using doomed where test_group.build_id = doomed.id
     ), tl as (
       delete from test_line using doomed where test_line.build_id = doomed.id
     ), tr as (
       delete from test_run using doomed where test_run.build_id = doomed.id
     ), he as (
       delete from helper using doomed where helper.build_id = doomed.id returning helper.lease_id
     ), hl as (
       delete from lease using he where lease.id = he.lease_id
     ), b as (
       delete from build using doomed where build.id = doomed.id returning 1
     )
     select count(*)::int as count from b`,
    [looked.map(({ id }) => id)],
  );
  return { next: { at: last.at, id: last.id }, deleted: row?.count ?? 0 };
}

/** Looks at the next `limit` commits found before `before`. Deletes those that no branch, build or snapshot has. */
export async function deleteCommits(sql: Sql, from: number, before: EpochMs, limit: number): Promise<Walked<number>> {
  const looked = await sql.query<{ id: number }>("select id from commit where id > $1 order by id limit $2", [
    from,
    limit,
  ]);
  const last = looked.at(-1);
  if (!last) return { next: undefined, deleted: 0 };
  const rows = await sql.query(
    `delete from commit c where c.id = any ($1::bigint[]) and c.found_at < $2
       and not exists (select from branch_commit where commit_id = c.id)
       and not exists (select from build where commit_id = c.id)
       and not exists (select from snapshot where commit_id = c.id)
       and not exists (select from standing where red_commit = c.id or green_commit = c.id) returning 1`,
    [looked.map(({ id }) => id), at(before)],
  );
  return { next: last.id, deleted: rows.length };
}

/** Looks at the next `limit` recipes by their digest. Deletes those that no build has. */
export async function deleteRecipes(sql: Sql, from: string, limit: number): Promise<Walked<string>> {
  const looked = await sql.query<{ digest: string }>(
    "select digest from recipe where digest > $1 order by digest limit $2",
    [from, limit],
  );
  const last = looked.at(-1);
  if (!last) return { next: undefined, deleted: 0 };
  const rows = await sql.query(
    "delete from recipe r where r.digest = any ($1::text[]) and not exists (select from build where recipe = r.digest) returning 1",
    [looked.map(({ digest }) => digest)],
  );
  return { next: last.digest, deleted: rows.length };
}

/**
 * Deletes the times of tests that have not passed since `before`: the test was renamed or is gone, or its builder is.
 */
export async function deleteTestTimes(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from test_time where ctid = any (array(
       select ctid from test_time where seen_at < $1 order by seen_at limit $2 for update skip locked)) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

/** Deletes sessions that closed before `before`, except for each machine's last, which says why it is away. */
export async function deleteSessions(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from session where id in (
       select s.id from session s where s.closed_at < $1
         and exists (select from session later where later.machine_id = s.machine_id and later.opened_at > s.opened_at)
       order by s.closed_at limit $2
     ) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

export async function deleteChanges(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    "delete from machine_change where ctid = any (array(select ctid from machine_change where at < $1 order by at limit $2)) returning 1",
    [at(before), limit],
  );
  return rows.length;
}

/** Deletes the leases of probes that ended before `before`. */
export async function deleteProbes(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from lease where id in (
       select id from lease where state = 'ended' and kind = 'probe' and ended_at < $1 order by ended_at limit $2) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

/** Deletes instances that ended before `before`, oldest first, after their commands. The audit keeps both. */
export async function deleteInstances(
  sql: Sql,
  before: EpochMs,
  limit: number,
): Promise<{ readonly instances: number; readonly commands: number }> {
  const [row] = await sql.query<{ instances: number; commands: number }>(
    `with old as (
       select l.id, g.id as instance from lease l left join gomote_instance g on g.lease_id = l.id
       where l.state = 'ended' and l.kind = 'gomote' and l.ended_at < $1 order by l.ended_at limit $2 for update of l skip locked
     ), ran as (
       delete from gomote_command where id in (select c.id from old join gomote_command c on c.instance_id = old.instance limit $2) returning 1
     ), gone as (
       delete from lease using old where lease.id = old.id and (select count(*) from ran) < $2 returning 1
     )
     select (select count(*) from gone)::int as instances, (select count(*) from ran)::int as commands`,
    [at(before), limit],
  );
  return row ?? { instances: 0, commands: 0 };
}

export async function deleteAudit(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    "delete from audit where id in (select id from audit where at < $1 order by at limit $2) returning 1",
    [at(before), limit],
  );
  return rows.length;
}

export async function deleteNotices(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    "delete from notice where id in (select id from notice where state <> 'waiting' and at < $1 order by at limit $2) returning 1",
    [at(before), limit],
  );
  return rows.length;
}

/** Deletes browser sessions that are over, and logins of programs that nobody allowed in time. */
export async function deleteLogins(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `with browsers as (
       delete from browser_session where sha256 in (select sha256 from browser_session where expires_at < $1 order by expires_at limit $2) returning 1
     ), devices as (
       delete from device_login where sha256 in (select sha256 from device_login where expires_at < $1 order by expires_at limit $2) returning 1
     )
     select greatest((select count(*) from browsers), (select count(*) from devices))::int as count`,
    [at(before), limit],
  );
  return row?.count ?? 0;
}

/** Deletes tokens that expired or were revoked before `before` and that no browser session refers to. */
export async function deleteTokens(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from api_token where id in (
       select t.id from api_token t where least(t.expires_at, t.revoked_at) < $1
         and not exists (select from browser_session s where s.token_id = t.id)
       order by least(t.expires_at, t.revoked_at) limit $2
     ) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

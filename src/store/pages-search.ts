/** Reading for pages: search, the active post-submit builds, and the numbers behind the gauges of /metrics. */
import type { Sql } from "./sql.ts";

export interface CommitHit {
  readonly repo: string;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
}

/** Commits whose hash begins with `prefix`. Hashes are stored in lower case. */
export async function commitsByHash(sql: Sql, prefix: string, limit: number): Promise<CommitHit[]> {
  return sql.query(
    `select c.repo, c.hash, c.message, c.author_name as author from repo r
     join commit c on c.repo = r.name and c.hash >= $1 and c.hash < $1 || 'g' order by c.repo, c.hash limit $2`,
    [prefix, limit],
  );
}

/** Those of the newest 20,000 commits whose message or author contains the text. */
export async function commitsByText(sql: Sql, like: string, limit: number): Promise<CommitHit[]> {
  return sql.query(
    `select repo, hash, message, author_name as author
     from (select id, repo, hash, message, author_name from commit order by id desc limit 20000) c
     where message ilike $1 or author_name ilike $1 order by id desc limit $2`,
    [like, limit],
  );
}

export async function branchesLike(sql: Sql, like: string, limit: number): Promise<{ repo: string; name: string }[]> {
  return sql.query(
    `select repo, name from branch where name ilike $1 and gone_at is null order by moved_at desc limit $2`,
    [like, limit],
  );
}

export async function machinesLike(
  sql: Sql,
  like: string,
  limit: number,
): Promise<{ name: string; hostType: string }[]> {
  return sql.query(
    `select name, host_type as "hostType" from machine where name ilike $1 or host_type ilike $1 order by last_seen_at desc limit $2`,
    [like, limit],
  );
}

/** Post-submit builds that hold a machine. */
export async function activePostSubmit(
  sql: Sql,
): Promise<{ id: number; builder: string; hash: string; otherHash: string | null }[]> {
  return sql.query(
    `select b.id, b.builder, c.hash, r.with_hash as "otherHash"
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where b.state <> 'ended' and b.state = 'running' and b.class = 2 order by b.id`,
  );
}

export async function openBuilds(sql: Sql): Promise<{ running: number; scheduled: number; total: number }> {
  const [row] = await sql.query<{ running: number; scheduled: number; total: number }>(
    `select count(*) filter (where state = 'running')::int as running, count(*) filter (where state = 'scheduled')::int as scheduled,
       (select coalesce(max(id), 0) from build) as total
     from build where state <> 'ended'`,
  );
  return row ?? { running: 0, scheduled: 0, total: 0 };
}

export interface EndedRow {
  readonly id: number;
  readonly endedAt: number;
  readonly builder: string;
  readonly hostType: string;
  /** The build's outcome, or `flaky` for a success with tests that failed at first. */
  readonly outcome: string;
  readonly tookMs: number | null;
  /** From the moment its last attempt was wanted until it held a machine. */
  readonly waitMs: number | null;
}

/**
 * Builds that ended after (`since`, `id`) on machines of one coordinator, in order: those that its histograms have not
 * counted yet.
 */
export async function endedSince(
  sql: Sql,
  coordinator: string,
  since: Date,
  id: number,
  limit: number,
): Promise<EndedRow[]> {
  return sql.query(
    `select b.id, b.ended_at as "endedAt", b.builder, b.host_type as "hostType",
       case when b.outcome = 'success' and b.flaky_tests > 0 then 'flaky' else b.outcome end as outcome,
       (extract(epoch from b.ended_at - b.started_at) * 1000)::float8 as "tookMs",
       (extract(epoch from l.held_at - l.wanted_at) * 1000)::float8 as "waitMs"
     from build b join lateral (select lease_id from attempt where build_id = b.id order by number desc limit 1) a on true
       join lease l on l.id = a.lease_id and l.coordinator_id = $1
     where b.state = 'ended' and b.ended_at >= $2 and (b.ended_at, b.id) > ($2, $3) order by b.ended_at, b.id limit $4`,
    [coordinator, since, id, limit],
  );
}

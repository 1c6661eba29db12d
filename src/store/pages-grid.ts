/**
 * Reading for pages: the grid.
 *
 * One row per commit comes out of the database, not one per cell: 20,000 rows would cost more on the way than in the index. The index build_cell
 * (commit_id, builder, id desc) gives each commit's builds in the order wanted, whatever else the table holds; they are only joined, value by
 * value, since putting them together in the statement took three times as long. Only who asks for an author pays for looking for one: with a
 * condition that may be none, the plan that a connection keeps compares every commit with every other.
 */
import type { Sql } from "./sql.ts";

export interface GridCommitRow {
  readonly id: number;
  readonly hash: string;
  readonly author: string;
  readonly committedAt: number;
  readonly message: string;
  /** Of each build of the commit, by builder, a builder's builds newest first: its builder, with LF between. "" when there are none. */
  readonly builders: string;
  /** One letter each: o success, f success with flaky tests, x failure, i infra failure, c canceled, s skipped, r running, w waiting. */
  readonly codes: string;
  /** `{1,2,3}` */
  readonly ids: string;
  /** Those that run, and since which second: `ID@SECONDS ID@SECONDS`. */
  readonly running: string;
  /** Of a row of pairs: the commit that this one was tested with. */
  readonly otherRepo: string | null;
  readonly otherBranch: string | null;
  readonly otherHash: string | null;
}

const CODE = `case state
  when 'ended' then case outcome
    when 'success' then case when flaky_tests > 0 then 'f' else 'o' end
    when 'failure' then 'x' when 'infra_failure' then 'i' when 'skipped' then 's' else 'c' end
  when 'running' then 'r' else 'w' end`;

const COMMITS = `c.id, c.hash, c.author_name as author, c.committed_at as "committedAt", c.message,
  coalesce(b.builders, '') as builders, coalesce(b.codes, '') as codes, coalesce(b.ids, '{}') as ids, coalesce(b.running, '') as running`;
/** The newest $3 commits of branch $2 of $1; those of an author, $4, where `author` is not "". */
function historyOf(author: string): string {
  const by = "join commit a on a.id = h.commit_id and (a.author_name ilike $4 or a.author_email ilike $4)";
  return `(
    select h.commit_id, h.position from branch_commit h ${author === "" ? "" : by}
    where h.repo = $1 and h.branch = $2 order by h.position desc limit $3
  ) h join commit c on c.id = h.commit_id`;
}
const RUNNING = `string_agg(id || '@' || floor(extract(epoch from started_at)), ' ')
  filter (where state = 'running' and started_at is not null) as running`;

/** The newest `limit` commits of a branch with all their builds, newest first. */
export async function gridCommits(
  sql: Sql,
  repo: string,
  branch: string,
  author: string,
  limit: number,
): Promise<GridCommitRow[]> {
  return sql.query(
    `select ${COMMITS}, null as "otherRepo", null as "otherBranch", null as "otherHash"
     from ${historyOf(author)}
       left join lateral (
         select string_agg(builder, E'\\n') as builders,
           string_agg(${CODE}, '') as codes,
           array_agg(id)::text as ids,
           ${RUNNING}
         from (
           select builder, state, outcome, flaky_tests, id, started_at from build where commit_id = h.commit_id order by builder, id desc
         ) one
       ) b on true
     order by h.position desc`,
    [repo, branch, limit, ...(author === "" ? [] : [author])],
  );
}

/**
 * The same for a repository that is tested with another one. A commit has a row for each branch of that: the newest commit of it that this one
 * was tested with; and one more for builds that are no pairs, where there are any.
 */
export async function gridPairs(
  sql: Sql,
  repo: string,
  branch: string,
  author: string,
  limit: number,
): Promise<GridCommitRow[]> {
  return sql.query(
    `select ${COMMITS},
       b.with_repo as "otherRepo", b.with_branch as "otherBranch", b.with_hash as "otherHash"
     from ${historyOf(author)}
       left join lateral (
         select with_repo, with_branch, with_hash,
           string_agg(builder, E'\\n' order by builder, id desc) as builders,
           string_agg(${CODE}, '' order by builder, id desc) as codes,
           array_agg(id order by builder, id desc)::text as ids,
           ${RUNNING}
         from (
           select builder, state, outcome, flaky_tests, build.id, started_at, with_repo, with_branch, with_hash,
             max(build.id) over (partition by with_repo, with_branch, with_hash) as newest_of_pair,
             max(build.id) over (partition by with_repo, with_branch) as newest
           from build join recipe on recipe.digest = build.recipe where commit_id = h.commit_id
         ) one
         where newest_of_pair = newest
         group by with_repo, with_branch, with_hash
       ) b on true
     order by h.position desc, b.with_repo nulls first, b.with_branch`,
    [repo, branch, limit, ...(author === "" ? [] : [author])],
  );
}

export async function repoState(
  sql: Sql,
  repo: string,
): Promise<{ fetchedAt: number | null; error: string | null } | undefined> {
  const [row] = await sql.query<{ fetchedAt: number | null; error: string | null }>(
    `select fetched_at as "fetchedAt", error from repo where name = $1`,
    [repo],
  );
  return row;
}

/** Watched branches that are there: the one that the remote's HEAD stands for, then the one that moved last. */
export async function branchesOf(sql: Sql, repo: string): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    `select b.name from branch b join repo r on r.name = b.repo where b.repo = $1 and b.gone_at is null
     order by b.name is distinct from r.head_branch, b.moved_at desc, b.name`,
    [repo],
  );
  return rows.map((row) => row.name);
}

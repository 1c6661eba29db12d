/**
 * Reading for pages: the grid.
 *
 * The database returns one row per commit, not one per cell: 20,000 rows would cost more on the way than in the index.
 * The index build_cell (commit_id, builder, id desc) gives each commit's builds in the wanted order, however large the
 * table is. The statement only joins them, value by value, since assembling them there took three times as long.
 *
 * A condition on the author is in the text only when somebody asks for one. With a condition that may be empty, the
 * plan that a connection keeps compares every commit with every other.
 */
import type { Sql } from "./sql.ts";

export interface GridCommitRow {
  readonly id: number;
  readonly hash: string;
  readonly author: string;
  readonly committedAt: number;
  readonly message: string;
  /**
   * The builder of each build of the commit, separated by LF: by builder, each builder's newest build first. "" for
   * none.
   */
  readonly builders: string;
  /**
   * One letter for each build: o success, f success with flaky tests, x failure, i infra failure, c canceled, s
   * skipped, r running, w waiting.
   */
  readonly codes: string;
  /** The build ids, as `{1,2,3}`. */
  readonly ids: string;
  /** The running builds and the second in which each began: `ID@SECONDS ID@SECONDS`. */
  readonly running: string;
  /** In a row of pairs: the other repository. */
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
/** SQL for the newest $3 commits of branch $2 of repository $1. Unless `author` is "": only those of the author $4. */
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
 * The same for a repository that is tested with another one. A commit has a row for each branch of the other
 * repository, for the newest commit of that branch that it was tested with. Builds that are no pairs have one more row,
 * if there are any.
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

/** The watched branches that exist: the default branch of the remote first, then the one that moved last. */
export async function branchesOf(sql: Sql, repo: string): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    `select b.name from branch b join repo r on r.name = b.repo where b.repo = $1 and b.gone_at is null
     order by b.name is distinct from r.head_branch, b.moved_at desc, b.name`,
    [repo],
  );
  return rows.map((row) => row.name);
}

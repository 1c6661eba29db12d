/** What the farm knows of repositories, their watched branches and the commits on them. source/ writes it. */
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/** A commit as git reports it. Texts have no NUL; PostgreSQL and JavaScript can both store the time. */
export interface FoundCommit {
  readonly hash: string;
  readonly parents: readonly string[];
  readonly authorName: string;
  readonly authorEmail: string;
  readonly committedAt: EpochMs;
  readonly message: string;
}

/** A commit that has its row. */
export interface KnownCommit {
  readonly id: number;
  readonly hash: string;
  readonly committedAt: EpochMs;
}

interface KnownRow {
  id: number;
  hash: string;
  committed_at: EpochMs;
}

/**
 * Stores the address of a repository. If the address has changed there may be another repository behind it, so its
 * branches are looked at as if for the first time.
 */
export async function recordRepo(sql: Sql, name: string, url: string): Promise<void> {
  await sql.query(
    `with moved as (
       update repo set url = $2, fetched_at = null, error = null, error_since = null where name = $1 and url <> $2 returning name
     ), history as (
       delete from branch_commit where repo in (select name from moved)
     ), heads as (
       delete from branch where repo in (select name from moved)
     )
     insert into repo (name, url) values ($1, $2) on conflict (name) do nothing`,
    [name, url],
  );
}

/**
 * Notes that the remote answered. Its HEAD is `headBranch`; undefined: unknown. `error` says what is wrong although it
 * answered; null clears the stored error.
 */
export async function recordAnswer(
  sql: Sql,
  name: string,
  headBranch: string | undefined,
  error: string | null,
  now: EpochMs,
): Promise<void> {
  await sql.query(
    `update repo set fetched_at = $2::timestamptz, error = $3::text, head_branch = $4,
       error_since = case when $3::text is null then null else coalesce(error_since, $2::timestamptz) end
     where name = $1`,
    [name, at(now), error, headBranch ?? null],
  );
}

/**
 * Notes that the remote has exactly `branches` of `repo`. Recorded branches that are not among them are gone, and their
 * heads are forgotten; gone branches that are among them are back. Returns whether something changed, and which
 * branches are gone from now on.
 */
export async function recordPresent(
  sql: Sql,
  repo: string,
  branches: readonly string[],
  now: EpochMs,
): Promise<{ readonly news: boolean; readonly gone: readonly string[] }> {
  const changed = await sql.query<{ name: string; gone: boolean }>(
    `with changed as (
       update branch set gone_at = case when name = any ($2::text[]) then null else $3::timestamptz end
       where repo = $1 and (gone_at is null) <> (name = any ($2::text[])) returning name, gone_at
     ), forgotten as (
       delete from standing using changed where repo = $1 and branch = changed.name and changed.gone_at is not null
     )
     select name, gone_at is not null as gone from changed order by name`,
    [repo, branches, at(now)],
  );
  return { news: changed.length > 0, gone: changed.filter(({ gone }) => gone).map(({ name }) => name) };
}

/** Whether the branch is gone from the remote. */
export async function isGone(sql: Sql, repo: string, branch: string): Promise<boolean> {
  const rows = await sql.query("select from branch where repo = $1 and name = $2 and gone_at is not null", [
    repo,
    branch,
  ]);
  return rows.length > 0;
}

/** Notes that the remote did not answer, or gave an answer that the farm cannot use. */
export async function recordFailure(sql: Sql, name: string, error: string, now: EpochMs): Promise<void> {
  await sql.query("update repo set error = $2, error_since = coalesce(error_since, $3::timestamptz) where name = $1", [
    name,
    error,
    at(now),
  ]);
}

/** The recorded heads of the branches of `repo`. */
export async function branchHeads(sql: Sql, repo: string): Promise<Map<string, string>> {
  const rows = await sql.query<{ name: string; head: string }>("select name, head from branch where repo = $1", [repo]);
  return new Map(rows.map((row) => [row.name, row.head]));
}

/** The newest commit of a branch that is or was watched and still exists. */
export interface BranchTip {
  readonly repo: string;
  readonly branch: string;
  readonly commit: KnownCommit;
}

/**
 * The tips of `repos`, of which only this transaction may now plan pairs. When two transactions each record one half of
 * a new pair, the later one sees what the earlier one recorded.
 */
export async function lockedTips(sql: Sql, repos: readonly string[]): Promise<BranchTip[]> {
  await sql.query("select pg_advisory_xact_lock(hashtext('pairs of commits'))");
  const rows = await sql.query<KnownRow & { repo: string; branch: string }>(
    `select b.repo, b.name as branch, c.id, c.hash, c.committed_at from branch b join commit c on c.repo = b.repo and c.hash = b.head
     where b.gone_at is null and b.repo = any ($1::text[]) order by b.repo, b.name`,
    [repos],
  );
  return rows.map((row) => ({ repo: row.repo, branch: row.branch, commit: knownCommit(row) }));
}

/**
 * Records that `branch` of `repo`, which stood at `was` (undefined: it was not known), now ends with `commits`:
 * first-parent history, newest first, beginning with the head.
 *
 * Commits behind the newest of them that the branch had before stay; those after it are replaced. With `keepTail` a
 * branch that had none of them keeps what it had, and there is a gap.
 *
 * Returns the commits that are new to the branch, newest first. Returns undefined when the branch does not stand at
 * `was` any more: another coordinator was quicker, and may have seen something newer. Call this within a transaction.
 */
export async function recordBranch(
  sql: Sql,
  found: {
    readonly repo: string;
    readonly branch: string;
    readonly was: string | undefined;
    readonly commits: readonly FoundCommit[];
    readonly keepTail: boolean;
  },
  now: EpochMs,
): Promise<KnownCommit[] | undefined> {
  const { repo, branch, was, commits } = found;
  const head = commits[0]?.hash;
  if (head === undefined) return [];
  // This comes first: the row is the lock that separates two coordinators which saw the same push.
  const [taken] = await sql.query(
    `insert into branch (repo, name, head, moved_at) values ($1, $2, $3, $4)
     on conflict (repo, name) do update set head = excluded.head, gone_at = null,
       moved_at = case when branch.head = excluded.head then branch.moved_at else excluded.moved_at end
     where branch.head = $5
     returning head`,
    [repo, branch, head, at(now), was ?? null],
  );
  if (!taken) return undefined;
  const known = await insertCommits(sql, repo, commits, now);
  const [common] = await sql.query<{ hash: string; position: number }>(
    `select c.hash, bc.position from branch_commit bc join commit c on c.id = bc.commit_id
     where bc.repo = $1 and bc.branch = $2 and bc.commit_id = any ($3::bigint[]) order by bc.position desc limit 1`,
    [repo, branch, known.map((c) => c.id)],
  );
  let last = common?.position;
  if (last === undefined && found.keepTail) last = await lastPosition(sql, repo, branch);
  await sql.query("delete from branch_commit where repo = $1 and branch = $2 and position > $3", [
    repo,
    branch,
    last ?? -1,
  ]);
  const fresh =
    common === undefined
      ? known
      : known.slice(
          0,
          known.findIndex((c) => c.hash === common.hash),
        );
  await sql.query(
    `insert into branch_commit (repo, branch, position, commit_id)
     select $1, $2, $3::bigint + n, id from unnest($4::bigint[]) with ordinality as x (id, n)`,
    [repo, branch, last ?? 0, fresh.map((c) => c.id).reverse()],
  );
  return fresh;
}

/** The newest `count` commits of a branch, newest first. */
export async function newestCommits(sql: Sql, repo: string, branch: string, count: number): Promise<KnownCommit[]> {
  const rows = await sql.query<KnownRow>(
    `select c.id, c.hash, c.committed_at from branch_commit bc join commit c on c.id = bc.commit_id
     where bc.repo = $1 and bc.branch = $2 order by bc.position desc limit $3`,
    [repo, branch, count],
  );
  return rows.map(knownCommit);
}

/** The rows of `commits`, in the same order. */
async function insertCommits(
  sql: Sql,
  repo: string,
  commits: readonly FoundCommit[],
  now: EpochMs,
): Promise<KnownCommit[]> {
  // Oldest first, so that ids rise with history.
  const oldestFirst = commits.toReversed().map((c) => ({
    hash: c.hash,
    parents: c.parents,
    author_name: c.authorName,
    author_email: c.authorEmail,
    committed_at: at(c.committedAt),
    message: c.message,
  }));
  await sql.query(
    `insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at)
     select $1, x.hash, x.parents, x.author_name, x.author_email, x.committed_at, x.message, $3::timestamptz
     from jsonb_to_recordset($2::jsonb) as x (hash text, parents text[], author_name text, author_email text,
       committed_at timestamptz, message text)
     on conflict (repo, hash) do nothing`,
    [repo, JSON.stringify(oldestFirst), at(now)],
  );
  const rows = await sql.query<KnownRow>(
    "select id, hash, committed_at from commit where repo = $1 and hash = any ($2::text[])",
    [repo, commits.map((c) => c.hash)],
  );
  const byHash = new Map(rows.map((row) => [row.hash, knownCommit(row)]));
  return commits.map((c) => byHash.get(c.hash)).filter((c) => c !== undefined);
}

async function lastPosition(sql: Sql, repo: string, branch: string): Promise<number | undefined> {
  const [row] = await sql.query<{ position: number | null }>(
    "select max(position) as position from branch_commit where repo = $1 and branch = $2",
    [repo, branch],
  );
  return row?.position ?? undefined;
}

function knownCommit(row: KnownRow): KnownCommit {
  return { id: row.id, hash: row.hash, committedAt: row.committed_at };
}

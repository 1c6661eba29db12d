/** Reading for pages: one build with its attempts, steps and neighbours, and one commit. */
import type { AttemptState, BuildState, Outcome, Provenance, Recipe } from "../farm/build.ts";
import type { LogId } from "../farm/ids.ts";
import type { Sql } from "./sql.ts";

/** The names of the steps that a build is going to have. */
export async function recipeSteps(sql: Sql, build: number): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    `select step.value ->> 'name' as name
     from build b join recipe r on r.digest = b.recipe,
       jsonb_array_elements(r.body -> 'steps' || case when r.body ? 'tests' then '[{"name": "tests"}]' else '[]' end::jsonb)
         with ordinality as step (value, number)
     where b.id = $1 order by step.number`,
    [build],
  );
  return rows.map((row) => row.name);
}

export interface BuildFacts {
  readonly id: number;
  readonly commitId: number;
  readonly repo: string;
  readonly branch: string;
  readonly builder: string;
  /** The digest of the recipe. */
  readonly recipe: string;
  /** The farm planned the build to find out which commit broke the builder. */
  readonly narrows: boolean;
  readonly state: BuildState;
  readonly outcome: Outcome | null;
  readonly committedAt: number;
  readonly provenance: Provenance;
  readonly requestedBy: string | null;
  readonly canceledBy: string | null;
  readonly rebuildOf: number | null;
  /** For a build of a pair: the branch of the other repository. */
  readonly otherBranch: string | null;
}

export async function buildFacts(sql: Sql, id: number): Promise<BuildFacts | undefined> {
  const [row] = await sql.query<BuildFacts>(
    `select b.id, b.commit_id as "commitId", b.repo, b.branch, b.builder, b.recipe, b.narrows, b.state, b.outcome, b.provenance,
       b.requested_by as "requestedBy", b.canceled_by as "canceledBy", b.rebuild_of as "rebuildOf",
       c.committed_at as "committedAt", r.with_branch as "otherBranch"
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where b.id = $1`,
    [id],
  );
  return row;
}

/** The recipe of a build, with the commit that it is for. */
export async function recipeOf(
  sql: Sql,
  build: number,
): Promise<{ repo: string; hash: string; recipe: Recipe } | undefined> {
  const [row] = await sql.query<{ repo: string; hash: string; recipe: Recipe }>(
    `select b.repo, c.hash, r.body as recipe
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where b.id = $1`,
    [build],
  );
  return row;
}

/** The steps of a build's last attempt, with the outcomes of those that have ended. */
export async function lastAttemptSteps(
  sql: Sql,
  build: number,
): Promise<{ readonly name: string; readonly outcome: Outcome | null }[]> {
  return sql.query(
    `select name, outcome from step
     where attempt_id = (select id from attempt where build_id = $1 order by number desc limit 1) order by number`,
    [build],
  );
}

export interface AttemptFacts {
  readonly id: number;
  readonly number: number;
  readonly state: AttemptState;
  readonly outcome: Outcome | null;
  readonly reason: string | null;
  readonly machine: string | null;
  readonly machineType: string | null;
  readonly createdAt: number;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  /** What happened to the snapshot of the attempt's tree. */
  readonly snapshotNote: string | null;
  /** How long the attempt waits for its machine to come back with what it runs. Null: it does not wait. */
  readonly parkedUntil: number | null;
}

export async function attemptsOf(sql: Sql, build: number): Promise<AttemptFacts[]> {
  return sql.query(
    `select a.id, a.number, a.state, a.outcome, a.reason, m.name as machine, m.host_type as "machineType", a.created_at as "createdAt",
       a.started_at as "startedAt", a.ended_at as "endedAt", a.snapshot_note as "snapshotNote",
       case when l.state = 'held' then l.parked_until end as "parkedUntil"
     from attempt a join lease l on l.id = a.lease_id left join machine m on m.id = a.machine_id where a.build_id = $1 order by a.number`,
    [build],
  );
}

export interface StepFacts {
  readonly number: number;
  readonly name: string;
  readonly logId: LogId | null;
  /** When the log was deleted because of its age. */
  readonly logDroppedAt: number | null;
  readonly status: string | null;
  readonly outcome: Outcome | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
}

export async function stepsOf(sql: Sql, attempt: number): Promise<StepFacts[]> {
  return sql.query(
    `select s.number, s.name, s.log_id as "logId", l.dropped_at as "logDroppedAt", s.status, s.outcome, s.started_at as "startedAt",
       s.ended_at as "endedAt"
     from step s left join log l on l.id = s.log_id where s.attempt_id = $1 order by s.number`,
    [attempt],
  );
}

/**
 * The log of a step by the names in its address. Without an attempt's number: of the last attempt that has the step.
 */
export async function logOfStep(
  sql: Sql,
  build: number,
  step: string,
  attempt: number | null,
): Promise<LogId | undefined> {
  const [row] = await sql.query<{ logId: LogId }>(
    `select s.log_id as "logId" from attempt a join step s on s.attempt_id = a.id
     where a.build_id = $1 and s.name = $2 and s.log_id is not null and ($3::int is null or a.number = $3)
     order by a.number desc, s.number limit 1`,
    [build, step, attempt],
  );
  return row?.logId;
}

export interface NeighbourRow {
  readonly build: number;
  readonly commitId: number;
  readonly hash: string;
  readonly builder: string;
  readonly state: BuildState;
  readonly outcome: Outcome | null;
  /** For a build of a pair: the other repository. */
  readonly otherRepo: string | null;
  readonly otherBranch: string | null;
  readonly otherHash: string | null;
  readonly flaky: number;
}

const OTHER = `r.with_repo as "otherRepo", r.with_branch as "otherBranch", r.with_hash as "otherHash"`;

/**
 * This builder's builds of earlier commits of its branch, newest first. Of each commit the newest build that was
 * neither canceled nor skipped. For a build of a pair: only those with the same branch of the other repository.
 */
export async function earlierOf(sql: Sql, build: BuildFacts, limit: number): Promise<NeighbourRow[]> {
  return sql.query(
    `select b.id as build, h.commit_id as "commitId", c.hash, b.builder, b.state, b.outcome, ${OTHER}, b.flaky_tests as flaky
     from (
       select commit_id, position from branch_commit where repo = $1 and branch = $2 and position <= (
         select max(position) from branch_commit where repo = $1 and branch = $2 and commit_id = $3)
       order by position desc limit $5
     ) h
       join commit c on c.id = h.commit_id
       join lateral (
         select one.id, one.builder, one.state, one.outcome, one.recipe, one.flaky_tests
         from build one join recipe w on w.digest = one.recipe
         where one.commit_id = h.commit_id and one.builder = $4 and w.with_branch is not distinct from $6
         order by coalesce(one.outcome in ('canceled', 'skipped'), false), one.id desc limit 1
       ) b on true
       join recipe r on r.digest = b.recipe
     order by h.position desc`,
    [build.repo, build.branch, build.commitId, build.builder, limit, build.otherBranch],
  );
}

/**
 * The newest build of each builder for a commit; of pairs, one for each branch of the other repository. A canceled or
 * skipped build only where there is no other.
 */
export async function elsewhereOf(sql: Sql, commitId: number): Promise<NeighbourRow[]> {
  return sql.query(
    `select distinct on (b.builder, r.with_branch)
       b.id as build, b.commit_id as "commitId", c.hash, b.builder, b.state, b.outcome, ${OTHER}, b.flaky_tests as flaky
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where b.commit_id = $1
     order by b.builder, r.with_branch, coalesce(b.outcome in ('canceled', 'skipped'), false), b.id desc`,
    [commitId],
  );
}

/** All builds of one commit on one builder, oldest first. */
export async function againOf(sql: Sql, commitId: number, builder: string): Promise<NeighbourRow[]> {
  return sql.query(
    `select b.id as build, b.commit_id as "commitId", c.hash, b.builder, b.state, b.outcome, ${OTHER}, b.flaky_tests as flaky
     from build b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where b.commit_id = $1 and b.builder = $2 order by b.id limit 100`,
    [commitId, builder],
  );
}

export interface CommitFacts {
  readonly id: number;
  readonly repo: string;
  readonly hash: string;
  readonly author: string;
  readonly email: string;
  readonly committedAt: number;
  readonly message: string;
  readonly parents: readonly string[];
  readonly branches: readonly string[];
}

/** The commit whose hash begins with `prefix`, if there is exactly one. */
export async function commitFacts(sql: Sql, repo: string, prefix: string): Promise<CommitFacts | undefined> {
  const rows = await sql.query<CommitFacts>(
    `select c.id, c.repo, c.hash, c.author_name as author, c.author_email as email, c.committed_at as "committedAt", c.message, c.parents,
       array(select distinct branch from branch_commit where commit_id = c.id order by branch) as branches
     from commit c where c.repo = $1 and c.hash >= $2 and c.hash < $2 || 'g' order by c.hash limit 2`,
    [repo, prefix],
  );
  return rows.length === 1 ? rows[0] : undefined;
}

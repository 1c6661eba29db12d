/**
 * Lines in the database: the commits of a branch with one builder's answers about them, where each red builder stands,
 * and the builds that narrow a range. builds/culprit.ts decides by these rows, builds/narrowing.ts acts.
 */
import type { BuildState, Outcome, Recipe } from "../farm/build.ts";
import { type BuildId, buildId, type EpochMs } from "../farm/ids.ts";
import { LEASE_CLASSES, type LeaseClass } from "../farm/lease.ts";
import { type BuildRef, buildRef, recipeDigest } from "./builds.ts";
import { at, type Sql } from "./sql.ts";

/** One builder's answers about one branch. */
export interface LineName {
  readonly repo: string;
  readonly branch: string;
  readonly builder: string;
}

export interface LineBuild {
  readonly id: BuildId;
  readonly state: BuildState;
  /**
   * `infra_failure` for a build that failed only by tests whose machines were lost, since that says nothing about the
   * code.
   */
  readonly outcome: Outcome | null;
  /** The digest of the recipe. */
  readonly recipe: string;
  /** For a build of a pair: the other repository, its branch, and its commit. */
  readonly pair: readonly [repo: string | null, branch: string | null, hash: string | null];
  /** The farm planned the build to narrow a range. */
  readonly narrows: boolean;
  /** The build was planned for this branch, not for another one that has the commit too. */
  readonly ours: boolean;
  /** Somebody asked for the build. */
  readonly requested: boolean;
}

export interface LineCommit {
  readonly commitId: number;
  readonly hash: string;
  /** The hash of the first parent. Null: the commit is a root. */
  readonly parent: string | null;
  /** Oldest first; a rebuild stands next to the build that it repeats. */
  readonly builds: readonly LineBuild[];
}

/** SQL for the outcome of the build `o`, as far as it says something about the code. */
export const SAYS = `
  case when o.outcome = 'failure'
    and exists (select from test_run where build_id = o.id and ended_at is not null)
    and exists (select from test where build_id = o.id and outcome = 'unschedulable')
    and not exists (select from test where build_id = o.id and outcome = 'failure')
  then 'infra_failure' else o.outcome end`;

/**
 * SQL for the position down to which a branch is read: the newest $4 commits from `top.position` on, and further as far
 * as a commit that was green before one of the `standings` (a condition on `s`) turned red. So what is known of a
 * culprit does not get lost while more and more commits are red.
 */
function bottom(repo: string, branch: string, standings: string): string {
  return `least(
    (select min(position) from (
       select position from branch_commit where repo = ${repo} and branch = ${branch} and position <= top.position
       order by position desc limit $4) newest),
    (select min(g.position) from standing s join branch_commit g on g.commit_id = s.green_commit
     where ${standings} and g.repo = ${repo} and g.branch = ${branch}))`;
}

/**
 * The newest `limit` commits of the branch with all builds that this builder has of them, newest first. While the line
 * is stored as red, it goes back at least to the green commit before that. With `upTo` the commits from that one back;
 * none when the branch does not have it.
 */
export async function readLine(
  sql: Sql,
  line: LineName,
  limit: number,
  upTo: number | null = null,
): Promise<LineCommit[]> {
  return sql.query(
    `with top as (
       select case when $5::bigint is null
         then (select max(position) from branch_commit where repo = $1 and branch = $2)
         else (select max(position) from branch_commit where repo = $1 and branch = $2 and commit_id = $5) end as position
     ), ends as (
       select position as top, ${bottom("$1", "$2", "s.repo = $1 and s.branch = $2 and s.builder = $3")} as bottom from top
     )
     select h.commit_id as "commitId", c.hash, c.parents[1] as parent, coalesce(b.builds, '[]') as builds
     from ends join branch_commit h on h.repo = $1 and h.branch = $2 and h.position between ends.bottom and ends.top
       join commit c on c.id = h.commit_id
       left join lateral (
         select jsonb_agg(jsonb_build_object(
           'id', o.id, 'state', o.state, 'outcome', ${SAYS}, 'recipe', o.recipe, 'narrows', o.narrows, 'ours', o.branch = $2,
           'pair', jsonb_build_array(r.with_repo, r.with_branch, r.with_hash), 'requested', o.requested_by is not null
         ) order by coalesce(o.rebuild_of, o.id), o.id) as builds
         from build o join recipe r on r.digest = o.recipe where o.commit_id = h.commit_id and o.builder = $3
       ) b on true
     order by h.position desc`,
    [line.repo, line.branch, line.builder, limit, upTo],
  );
}

const OF_OWN = "s.builder = $2 and s.repo = (select repo from commit where id = $1)";

/**
 * The other axis of a pair: the commits of the branch that `recipe` tests with, from the recipe's own commit back, as
 * far back as readLine. Each has the builds of commit `own` with it. A build whose recipe differs from `recipe` only by
 * that commit is shown with `recipe`, so that the two compare as equal.
 */
export async function readOtherLine(
  sql: Sql,
  { own, builder, recipe }: { readonly own: number; readonly builder: string; readonly recipe: string },
  limit: number,
): Promise<LineCommit[]> {
  return sql.query(
    `with asked as (
       select with_repo, with_branch, with_hash, body #- '{with,hash}' as rest from recipe where digest = $3 and with_repo is not null
     ), top as (
       select a.*, (
           select max(t.position) from branch_commit t join commit c on c.id = t.commit_id
           where t.repo = a.with_repo and t.branch = a.with_branch and c.hash = a.with_hash) as position
       from asked a
     ), ends as (
       select with_repo, with_branch, position as top, ${bottom("with_repo", "with_branch", OF_OWN)} as bottom from top
     ), h as (
       select l.commit_id, l.position
       from ends join branch_commit l on l.repo = with_repo and l.branch = with_branch and l.position between ends.bottom and ends.top
     )
     select h.commit_id as "commitId", c.hash, c.parents[1] as parent, coalesce(b.builds, '[]') as builds
     from h cross join asked a join commit c on c.id = h.commit_id
       left join lateral (
         select jsonb_agg(jsonb_build_object('id', o.id, 'state', o.state, 'outcome', ${SAYS},
           'recipe', case when r.body #- '{with,hash}' = a.rest then $3 else o.recipe end, 'narrows', o.narrows,
           'ours', false, 'pair', jsonb_build_array(r.with_repo, r.with_branch, r.with_hash), 'requested', o.requested_by is not null
         ) order by coalesce(o.rebuild_of, o.id), o.id) as builds
         from build o join recipe r on r.digest = o.recipe
         where o.commit_id = $1 and o.builder = $2 and r.with_repo = a.with_repo and r.with_branch = a.with_branch and r.with_hash = c.hash
       ) b on true
     order by h.position desc`,
    [own, builder, recipe, limit],
  );
}

/** The lines of those of `builds` that have ended: one for each branch that has the commit. */
export async function linesOfBuilds(sql: Sql, builds: readonly BuildId[]): Promise<LineName[]> {
  return sql.query(
    `select distinct h.repo, h.branch, b.builder from build b join branch_commit h on h.commit_id = b.commit_id
     where b.id = any ($1::bigint[]) and b.state = 'ended'`,
    [builds],
  );
}

/**
 * Those of `lines` that may need something: red among their newest `limit` commits, stored as standing, or being
 * narrowed.
 */
export async function linesToLookAt(sql: Sql, lines: readonly LineName[], limit: number): Promise<LineName[]> {
  return sql.query(
    `select l.repo, l.branch, l.builder from unnest($1::text[], $2::text[], $3::text[]) l (repo, branch, builder)
     where exists (select from standing s where (s.repo, s.branch, s.builder) = (l.repo, l.branch, l.builder))
        or exists (
             select from build b
             where (b.repo, b.branch, b.builder) = (l.repo, l.branch, l.builder) and b.narrows and b.state <> 'ended')
        or 'failure' in (
              select distinct on (r.with_repo, r.with_branch) b.outcome from (
                select commit_id, position from branch_commit h
                where h.repo = l.repo and h.branch = l.branch order by position desc limit $4
              ) h join build b on b.commit_id = h.commit_id and b.builder = l.builder and b.outcome in ('success', 'failure')
                join recipe r on r.digest = b.recipe
              order by r.with_repo, r.with_branch, h.position desc, b.id desc)`,
    [lines.map((l) => l.repo), lines.map((l) => l.branch), lines.map((l) => l.builder), limit],
  );
}

/** All watched branches that exist. */
export async function allBranches(sql: Sql): Promise<{ repo: string; branch: string }[]> {
  return sql.query("select repo, name as branch from branch where gone_at is null order by repo, name");
}

/** Keeps other coordinators and the planning of new commits away from the branch until the transaction ends. */
export async function lockBranch(sql: Sql, repo: string, branch: string): Promise<void> {
  await sql.query("select from branch where repo = $1 and name = $2 for update", [repo, branch]);
}

export interface NewNarrowing {
  readonly line: LineName;
  readonly commitId: number;
  /**
   * The recipe of the commits that this one is to be compared with. For a pair they may have another commit of the
   * other repository.
   */
  readonly recipe: Recipe;
  readonly class: LeaseClass;
  /** The branch is a release branch. */
  readonly release: boolean;
  readonly starvesAt: EpochMs;
}

/** The flow of all builds that narrow. Pages show it; no repository or person has a name like it. */
const SEARCH = "the search for culprits";

/** Inserts a build of one more commit of a line. Undefined: a build of it by that recipe is open already. */
export async function insertNarrowing(sql: Sql, wanted: NewNarrowing, now: EpochMs): Promise<BuildRef | undefined> {
  const { digest, body } = recipeDigest(wanted.recipe);
  const [row] = await sql.query<Parameters<typeof buildRef>[0]>(
    `with r as (
       insert into recipe (digest, body) values ($3, $12::jsonb) on conflict do nothing
     ), b as (
       insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, narrows, rebuild_of, created_at)
       select $1, $2::bigint, $8, $9, $10, $3::text, 'submitted', $4, true, (
           select coalesce(rebuild_of, id) from build
           where commit_id = $2 and builder = $9 and recipe = $3 and outcome is distinct from 'skipped' order by id desc limit 1
         ), $5
       where not exists (select from build where commit_id = $2 and builder = $9 and recipe = $3 and state <> 'ended')
       returning id, repo, commit_id, builder, host_type, provenance, class
     ), l as (
       insert into lease (kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at)
       select 'build', class, host_type, $6, repo, $11, provenance, $13, $5, $7 from b returning id
     ), a as (
       insert into attempt (build_id, number, lease_id, created_at) select b.id, 1, l.id, $5 from b, l
     )
     select id, repo, commit_id, builder, host_type from b`,
    [
      wanted.line.repo,
      wanted.commitId,
      digest,
      LEASE_CLASSES[wanted.class],
      at(now),
      SEARCH,
      at(wanted.starvesAt),
      wanted.line.branch,
      wanted.line.builder,
      wanted.recipe.hostType,
      wanted.release,
      JSON.stringify(body),
      now,
    ],
  );
  return row && buildRef(row);
}

/** Open builds that narrow a range of this branch and whose commit is not on it any more. */
export async function narrowingOfGone(sql: Sql, repo: string, branch: string): Promise<BuildId[]> {
  const rows = await sql.query<{ id: number }>(
    `select id from build b where repo = $1 and branch = $2 and narrows and state <> 'ended' and requested_by is null
       and not exists (select from branch_commit h where h.repo = b.repo and h.branch = b.branch and h.commit_id = b.commit_id)
     order by id`,
    [repo, branch],
  );
  return rows.map((row) => buildId(row.id));
}

export type StandingKind = "commit" | "recipe" | "range" | "never green";

/** Since when a builder, or one of its tests, is red on a branch, as far as that is known. */
export interface StandingRow {
  /** Null: the builder as a whole. */
  readonly test: string | null;
  readonly kind: StandingKind;
  readonly redBuild: number;
  readonly redCommit: number;
  readonly greenBuild: number | null;
  readonly greenCommit: number | null;
  /** How many commits between the two nobody knows about. */
  readonly between: number;
}

/** Digests of the recipes by which a line was judged. */
export interface ToldBy {
  /** The recipe whose builds tell since when the line is red. */
  readonly recipe: string;
  /** The recipe that narrowing used. */
  readonly looking: string;
}

/** The different recipes of a line's standings. */
export async function toldBy(sql: Sql, { repo, branch, builder }: LineName): Promise<ToldBy[]> {
  return sql.query(
    `select recipe, looking from standing where repo = $1 and branch = $2 and builder = $3
     group by recipe, looking order by min(place)`,
    [repo, branch, builder],
  );
}

/**
 * Stores where a line stands, in place of what was stored of it. Empty `standings`: the line is not red. Returns
 * whether that changed anything.
 */
export async function keepStandings(
  sql: Sql,
  line: LineName,
  standings: readonly (StandingRow & ToldBy)[],
  now: EpochMs,
): Promise<boolean> {
  const [row] = await sql.query<{ news: number }>(
    `with gone as (
       delete from standing where repo = $1 and branch = $2 and builder = $3 and place >= $4 returning 1
     ), kept as (
       insert into standing as s (repo, branch, builder, place, test, kind, red_build, red_commit, green_build, green_commit, between,
         recipe, looking, changed_at)
       select $1, $2, $3, w.place - 1, w.test, w.kind, w.red_build, w.red_commit, w.green_build, w.green_commit, w.between,
         w.recipe, w.looking, $5
       from unnest(
           $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::integer[], $13::text[], $14::text[])
         with ordinality as w (test, kind, red_build, red_commit, green_build, green_commit, between, recipe, looking, place)
       on conflict (repo, branch, builder, place) do update set test = excluded.test, kind = excluded.kind,
         red_build = excluded.red_build, red_commit = excluded.red_commit, green_build = excluded.green_build,
         green_commit = excluded.green_commit, between = excluded.between, recipe = excluded.recipe, looking = excluded.looking,
         changed_at = excluded.changed_at
       where (s.test, s.kind, s.red_build, s.red_commit, s.green_build, s.green_commit, s.between, s.recipe, s.looking)
         is distinct from (excluded.test, excluded.kind, excluded.red_build, excluded.red_commit, excluded.green_build,
           excluded.green_commit, excluded.between, excluded.recipe, excluded.looking)
       returning 1
     )
     select (select count(*) from gone) + (select count(*) from kept) as news`,
    [
      line.repo,
      line.branch,
      line.builder,
      standings.length,
      at(now),
      standings.map(({ test }) => test),
      standings.map(({ kind }) => kind),
      standings.map(({ redBuild }) => redBuild),
      standings.map(({ redCommit }) => redCommit),
      standings.map(({ greenBuild }) => greenBuild),
      standings.map(({ greenCommit }) => greenCommit),
      standings.map(({ between }) => between),
      standings.map(({ recipe }) => recipe),
      standings.map(({ looking }) => looking),
    ],
  );
  return (row?.news ?? 0) > 0;
}

/** Lines with standings or open builds that narrow, also of builders and branches that are not built any more. */
export async function standingLines(sql: Sql): Promise<LineName[]> {
  return sql.query(
    `select repo, branch, builder from standing
     union select repo, branch, builder from build where narrows and state <> 'ended'`,
  );
}

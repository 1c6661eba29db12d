/**
 * Builds in the database: planned, asked for again, canceled. attempts.ts has what happens to their attempts.
 *
 * A build is inserted together with its first attempt and that attempt's lease, in one statement. An open build can
 * therefore always go on.
 */
import { createHash } from "node:crypto";
import type {
  Limits,
  OtherTree,
  Provenance,
  Recipe,
  SnapshotSpec,
  SourcePart,
  Step,
  TestsSpec,
} from "../farm/build.ts";
import { FarmError } from "../farm/errors.ts";
import { type BuildId, buildId, type EpochMs } from "../farm/ids.ts";
import { LEASE_CLASSES, type LeaseClass } from "../farm/lease.ts";
import { unnamed } from "../farm/person.ts";
import { newAct, recordAudit } from "./audit.ts";
import { endTests, lockTests } from "./left-tests.ts";
import { at, type Sql } from "./sql.ts";

export interface NewBuild {
  /** The commit is the newest of its branch. */
  readonly head: boolean;
  readonly repo: string;
  readonly commitId: number;
  readonly branch: string;
  readonly recipe: Recipe;
  readonly provenance: Provenance;
  readonly class: LeaseClass;
  /** The branch is a release branch. Default false. */
  readonly release?: boolean;
  readonly rank: number;
  readonly starvesAt: EpochMs;
}

/** What a message about a build needs to know of it. */
export interface BuildRef {
  readonly id: BuildId;
  readonly repo: string;
  readonly commitId: number;
  readonly builder: string;
  readonly hostType: string;
}

interface RefRow {
  id: number;
  repo: string;
  commit_id: number;
  builder: string;
  host_type: string;
}

export function buildRef(row: RefRow): BuildRef {
  return {
    id: buildId(row.id),
    repo: row.repo,
    commitId: row.commit_id,
    builder: row.builder,
    hostType: row.host_type,
  };
}

/**
 * A recipe as it is stored, and the digest that names it. Fields have one order and absent parts are left out, so that
 * equal recipes have equal digests.
 */
export function recipeDigest(recipe: Recipe): { readonly digest: string; readonly body: Recipe } {
  const { sources, tests, snapshot, limits, stopAfterMake, compileOnly } = recipe;
  const body: Recipe = {
    builder: recipe.builder,
    hostType: recipe.hostType,
    env: recipe.env,
    sourceDir: recipe.sourceDir,
    ...(recipe.with && { with: otherBody(recipe.with) }),
    ...(sources && { sources: sources.map(sourceBody) }),
    steps: recipe.steps.map(stepBody),
    ...(tests && { tests: testsBody(tests) }),
    ...(snapshot && { snapshot: snapshotBody(snapshot) }),
    ...(limits && { limits: limitsBody(limits) }),
    ...(stopAfterMake && { stopAfterMake }),
    ...(compileOnly && { compileOnly }),
  };
  return { digest: createHash("sha256").update(JSON.stringify(body)).digest("hex"), body };
}

function sourceBody(part: SourcePart): SourcePart {
  const place = { dir: part.dir, ...(part.name !== undefined && { name: part.name }) };
  if ("url" in part) return { ...place, url: part.url };
  return "file" in part ? { ...place, file: part.file, text: part.text } : { ...place, commit: part.commit };
}

function otherBody({ repo, branch, hash, builtBy }: OtherTree): OtherTree {
  return { repo, branch, hash, ...(builtBy !== undefined && { builtBy }) };
}

function stepBody({ name, command, dir, env, path, timeLimitMs, showCommand, makesOther }: Step): Step {
  const step = { name, command, dir, env, path, timeLimitMs };
  return { ...step, ...(showCommand && { showCommand }), ...(makesOther && { makesOther }) };
}

function testsBody({ list, run, names, results, groupTargetMs, unknownMs, ...rest }: TestsSpec): TestsSpec {
  return {
    list: "command" in list ? { command: stepBody(list.command) } : list,
    ...(rest.only && { only: rest.only }),
    ...(rest.alone && { alone: rest.alone }),
    ...(rest.dialect && { dialect: rest.dialect }),
    run: stepBody(run),
    names,
    results: typeof results === "string" ? results : { junit: results.junit },
    groupTargetMs,
    unknownMs,
    helpers: rest.helpers,
    tryHelpers: rest.tryHelpers,
    keepGoing: rest.keepGoing,
  };
}

function limitsBody({ buildMs, silenceMs, uploadMs }: Limits): Limits {
  return {
    ...(buildMs !== undefined && { buildMs }),
    ...(silenceMs !== undefined && { silenceMs }),
    ...(uploadMs !== undefined && { uploadMs }),
  };
}

function snapshotBody({ exclude, remove, limitBytes, keepMs }: SnapshotSpec): SnapshotSpec {
  return { exclude, ...(remove && { remove }), limitBytes, keepMs };
}

/**
 * Inserts those of `builds` whose commit has no planned build of that builder yet, each with its first attempt and a
 * wanted lease. Returns the inserted ones. The head of a branch is also built again when the recipe has changed, and
 * when its build was skipped as an older commit of another branch.
 */
export async function insertBuilds(sql: Sql, builds: readonly NewBuild[], now: EpochMs): Promise<BuildRef[]> {
  const recipes = new Map<string, Recipe>();
  const rows = new Map<string, object>();
  for (const build of builds) {
    const { digest, body } = recipeDigest(build.recipe);
    recipes.set(digest, body);
    rows.set(`${build.commitId} ${digest}`, {
      place: rows.size,
      head: build.head,
      repo: build.repo,
      commit_id: build.commitId,
      branch: build.branch,
      builder: body.builder,
      host_type: body.hostType,
      recipe: digest,
      provenance: build.provenance,
      class: LEASE_CLASSES[build.class],
      release: build.release ?? false,
      rank: build.rank,
      starves_at: new Date(build.starvesAt),
    });
  }
  const inserted = await sql.query<RefRow>(
    `with input as (
       select * from jsonb_to_recordset($1::jsonb) as x (place integer, head boolean, repo text, commit_id bigint, branch text, builder text, host_type text,
         recipe text, provenance text, class smallint, release boolean, rank bigint, starves_at timestamptz)
       -- A conflict would use up a number, and builds are called by theirs.
       where not exists (select from build where commit_id = x.commit_id and builder = x.builder and rebuild_of is null
                           and (not x.head or (recipe = x.recipe and outcome is distinct from 'skipped')))
     ), r as (
       insert into recipe (digest, body)
       select digest, body from jsonb_to_recordset($2::jsonb) as x (digest text, body jsonb)
       where digest in (select recipe from input) on conflict do nothing
     ), b as (
       insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, created_at)
       select repo, commit_id, branch, builder, host_type, recipe, provenance, class, $3::timestamptz from input order by place
       on conflict (commit_id, builder, recipe) where rebuild_of is null and outcome is distinct from 'skipped' do nothing
       returning id, repo, commit_id, builder, recipe, host_type, provenance, class
     ), numbered as (
       select b.*, input.release, input.rank, input.starves_at, nextval(pg_get_serial_sequence('lease', 'id')) as lease_id
       from b join input using (commit_id, recipe)
     ), l as (
       insert into lease (id, kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at) overriding system value
       select lease_id, 'build', class, host_type, repo, repo, release, provenance, rank, $3, starves_at from numbered
     ), a as (
       insert into attempt (build_id, number, lease_id, created_at) select id, 1, lease_id, $3 from numbered
     )
     select id, repo, commit_id, builder, host_type from numbered order by id`,
    [
      JSON.stringify([...rows.values()]),
      JSON.stringify([...recipes].map(([digest, body]) => ({ digest, body }))),
      at(now),
    ],
  );
  return inserted.map(buildRef);
}

/** Those of `hostTypes` whose machines are run by the community. */
export async function communityHostTypes(sql: Sql, hostTypes: readonly string[]): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    "select name from host_type where name = any ($1::text[]) and trust = 'community' order by name",
    [hostTypes],
  );
  return rows.map((row) => row.name);
}

export interface Rebuild {
  readonly of: BuildId;
  readonly who: string;
  readonly class: LeaseClass;
  readonly rank: number;
  readonly starvesAt: EpochMs;
}

/**
 * Makes a further build of the same commit by the same recipe. If a build of that cell is already open, it becomes the
 * one that `who` asked for: it is not skipped any more, and waits in the class that they asked for.
 */
export async function insertRebuild(
  sql: Sql,
  rebuild: Rebuild,
  now: EpochMs,
): Promise<{ build: BuildRef; made: boolean }> {
  const act = newAct(now);
  return sql.tx(async (tx) => {
    const [old] = await tx.query<RefRow & { root: number }>(
      "select id, repo, commit_id, builder, host_type, coalesce(rebuild_of, id) as root from build where id = $1",
      [rebuild.of],
    );
    if (!old) throw notFound(rebuild.of);
    await tx.query("select id from build where id = $1 for update", [old.root]); // two people who ask at once get one build
    const [open] = await tx.query<RefRow>(
      `select b.id, b.repo, b.commit_id, b.builder, b.host_type
       from build b join recipe r on r.digest = b.recipe, build o join recipe w on w.digest = o.recipe
       where b.commit_id = $1 and b.builder = $2 and b.state <> 'ended' and o.id = $3
         and (r.with_repo, r.with_branch, r.with_hash) is not distinct from (w.with_repo, w.with_branch, w.with_hash)
       order by b.id desc limit 1`,
      [old.commit_id, old.builder, rebuild.of],
    );
    if (open) {
      await tx.query(
        `with b as (
           update build set requested_by = coalesce(requested_by, $2) where id = $1 and state <> 'ended' returning id
         )
         update lease set class = $3, flow = $2, rank = $4, starves_at = least(lease.starves_at, $5) from b join attempt a on a.build_id = b.id
         where lease.id = a.lease_id and lease.state = 'wanted' and lease.class > $3`,
        [open.id, rebuild.who, LEASE_CLASSES[rebuild.class], rebuild.rank, at(rebuild.starvesAt)],
      );
      return { build: buildRef(open), made: false };
    }
    const [made] = await tx.query<RefRow>(
      `with b as (
         insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, requested_by, rebuild_of, created_at)
         select repo, commit_id, branch, builder, host_type, recipe, provenance, $2, $3, $4, $5 from build where id = $1
         returning id, repo, commit_id, builder, host_type, provenance, class
       ), l as (
         insert into lease (kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at)
         select 'build', class, host_type, $3, repo,
           coalesce((select l.release from attempt a join lease l on l.id = a.lease_id where a.build_id = $1 order by a.number limit 1), false),
           provenance, $6, $5, $7 from b returning id
       ), a as (
         insert into attempt (build_id, number, lease_id, created_at) select b.id, 1, l.id, $5 from b, l
       )
       select id, repo, commit_id, builder, host_type from b`,
      [rebuild.of, LEASE_CLASSES[rebuild.class], rebuild.who, old.root, at(now), rebuild.rank, at(rebuild.starvesAt)],
    );
    if (!made) throw notFound(rebuild.of);
    await recordAudit(tx, {
      ...act,
      who: rebuild.who,
      action: "rebuild",
      subject: `build:${rebuild.of}`,
      detail: `build:${made.id}`,
    });
    return { build: buildRef(made), made: true };
  });
}

export interface Canceled {
  readonly build: BuildRef;
  /** False: the build had ended before, and nothing was changed. */
  readonly changed: boolean;
}

/**
 * Ends a build that is still open, with its attempt, lease and tests. The stored reason, which everybody sees, does not
 * name `who`; they are stored beside it for those who may see them. Throws `not-found`.
 */
export async function cancelBuild(sql: Sql, id: BuildId, who: string, now: EpochMs): Promise<Canceled> {
  const act = newAct(now);
  return sql.tx(async (tx) => {
    await lockTests(tx, { builds: [id] });
    // The attempt is locked first, as everywhere: this waits for a driver that ends a step at this moment.
    await tx.query("select id from attempt where build_id = $1 and state <> 'ended' for update", [id]);
    const reason = `canceled by ${unnamed(who)}`;
    const [build] = await tx.query<RefRow & { changed: boolean }>(
      `with b as (
         update build set state = 'ended', outcome = 'canceled', reason = $2, canceled_by = $4, ended_at = $3 where id = $1 and state <> 'ended' returning id
       ), a as (
         update attempt set state = 'ended', outcome = 'canceled', reason = $2, ended_at = $3
         from b where attempt.build_id = b.id and attempt.state <> 'ended' returning attempt.id, attempt.lease_id
       ), s as (
         update step set outcome = 'canceled', status = 'canceled', ended_at = $3
         from a where step.attempt_id = a.id and step.started_at is not null and step.ended_at is null
       ), l as (
         update lease set state = 'ended', end_reason = $2, ended_at = $3
         from a where lease.id = a.lease_id and lease.state <> 'ended'
       )
       select id, repo, commit_id, builder, host_type, exists (select from b) as changed from build where id = $1`,
      [id, reason, at(now), who],
    );
    if (!build) throw notFound(id);
    if (!build.changed) return { build: buildRef(build), changed: false };
    await endTests(tx, [id], reason, now);
    await recordAudit(tx, { ...act, who, action: "cancel", subject: `build:${id}`, detail: null });
    return { build: buildRef(build), changed: true };
  });
}

function notFound(id: BuildId): FarmError {
  return new FarmError("not-found", `Cannot find build ${id}`);
}

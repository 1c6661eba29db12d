/**
 * Helpers: further machines for the tests of a build. Wanted while they are useful, whatever happened to earlier ones.
 *
 * A machine that failed a build as its helper leaves it to other machines for a pause. The pause doubles with each
 * failure, and ends when a helper of the build has done well. So a machine that breaks, or cannot get the tree, is not
 * tried without end; and the build has helpers again soon after the trouble is over.
 *
 * A wanted lease is kept from all pausing machines until the last pause ends. The next turn of a machine that works at
 * the tests lets in those whose pause has ended before.
 */
import type { Recipe } from "../farm/build.ts";
import { type BuildId, type EpochMs, epochMs, type LeaseId, type Ms, minutes, seconds } from "../farm/ids.ts";
import type { LeaseClass } from "../farm/lease.ts";
import { leftMs, usefulHelpers } from "../schedule/test-groups.ts";
import { LATEST_COMMANDS_FROM } from "./build-time.ts";
import { type BuildRef, buildRef } from "./builds.ts";
import { MAY_WORK } from "./drain.ts";
import { leaseClass } from "./leases.ts";
import { at, type Sql } from "./sql.ts";
import { TestRun, type Turn, type TurnRules } from "./test-run.ts";

/** The pause of a machine after its first failure. It doubles with each failure, up to LONGEST_PAUSE. */
const FIRST_PAUSE: Ms = seconds(1);
const LONGEST_PAUSE: Ms = minutes(5);

type HelperRules = Pick<TurnRules, "spec" | "helpers">;

/** Notes that helpers can now get the tree that they start from. Returns true if some are wanted. */
export async function helpersMayCome(sql: Sql, build: BuildId, rules: HelperRules, now: EpochMs): Promise<boolean> {
  return sql.tx(async (tx) => {
    const run = await TestRun.lock(tx, build, undefined);
    if (!run || run.ended || !run.open) return false;
    await run.invite(tx, now);
    return adjustHelpers({ tx, run, rules, now }, leastOf(run));
  });
}

/** Wants helpers where they are useful, if there can be any. Returns true if further ones are wanted. */
export async function wantHelpers(sql: Sql, build: BuildId, rules: HelperRules, now: EpochMs): Promise<boolean> {
  return sql.tx(async (tx) => {
    const run = await TestRun.lock(tx, build, undefined);
    if (!run || run.ended || !run.open) return false;
    return adjustHelpers({ tx, run, rules, now }, leastOf(run));
  });
}

/** One helper is useful when nobody works at the tests, however little is left. */
function leastOf({ working: { main, helpers } }: TestRun): number {
  return main + helpers === 0 ? 1 : 0;
}

/**
 * Notes that the tree which was kept for helpers since `from` is gone: no further ones are wanted. Helpers that have it
 * go on. It is not kept again, since tests have changed the tree on the build's own machine. Nothing happens when
 * another attempt has kept it since.
 */
export async function helpersMayNotCome(sql: Sql, build: BuildId, from: EpochMs, now: EpochMs): Promise<void> {
  await sql.query(
    `with gone as (
       update test_run set helpers_from = null where build_id = $1 and helpers_from = $2 returning build_id
     )
     update lease set state = 'ended', ended_at = $3, end_reason = 'the tree of the build is not kept any more'
     from gone join helper h on h.build_id = gone.build_id where lease.id = h.lease_id and lease.state = 'wanted'`,
    [build, at(from), at(now)],
  );
}

/** Tests that nobody works at and no helper is wanted for: the build's own machine is away and waited for. */
export interface LeftAlone {
  /** The lease of the machine that is waited for. */
  readonly lease: LeaseId;
  readonly build: BuildRef;
  readonly recipe: Recipe;
  /** The same as in HelperJob. */
  readonly commandsFrom: EpochMs;
  readonly class: LeaseClass;
  /** How many tests wait. Beside that: the groups that run, if they do, while no coordinator listens. */
  readonly waiting: number;
  readonly groups: readonly { readonly startedAt: EpochMs; readonly expectedMs: number }[];
}

/** Such tests of all builds whose helpers can get a tree. */
export async function testsLeftAlone(sql: Sql): Promise<LeftAlone[]> {
  const rows = await sql.query<
    Parameters<typeof buildRef>[0] & Omit<LeftAlone, "build" | "class"> & { readonly class: number }
  >(
    `select l.id as lease, b.id, b.repo, b.commit_id, b.builder, b.host_type, r.body as recipe, l.class, t.waiting, g.groups,
       ${LATEST_COMMANDS_FROM} as "commandsFrom"
     from lease l join attempt a on a.lease_id = l.id join build b on b.id = a.build_id join recipe r on r.digest = b.recipe
       join test_run t on t.build_id = b.id cross join lateral (
         select coalesce(jsonb_agg(jsonb_build_object(
           'expectedMs', g.expected, 'startedAt', floor(extract(epoch from g.started_at) * 1000)
         )), '[]') as groups
         from (
           select started_at, (
             select sum(coalesce(expected_ms, (r.body -> 'tests' ->> 'unknownMs')::double precision)) from test
             where build_id = b.id and number = any (test_group.tests) and state = 'running') as expected
           from test_group where build_id = b.id and state = 'running'
         ) g where g.expected is not null
       ) g
     where l.state = 'held' and l.parked_until is not null and a.state = 'running' and b.state <> 'ended'
       and t.ended_at is null and t.helpers_from is not null and not t.stopped
       and not exists (select from helper h join lease o on o.id = h.lease_id
                       where h.build_id = b.id and (o.state = 'wanted' or (o.state = 'held' and o.parked_until is null)))
     order by b.id`,
  );
  return rows.map((row) => ({ ...row, build: buildRef(row), class: leaseClass(row.class) }));
}

export interface HelperJob {
  readonly build: BuildRef;
  readonly hash: string;
  readonly recipe: Recipe;
  /** When the time of the build's commands starts to count (build-time.ts). */
  readonly commandsFrom: EpochMs;
  /** Since when helpers can get the tree that they start from. Null: they cannot any more. */
  readonly treeFrom: EpochMs | null;
}

/** The work that a helper's lease is for. Undefined: nobody needs it any more. */
export async function helperJob(sql: Sql, lease: LeaseId): Promise<HelperJob | undefined> {
  const [row] = await sql.query<{
    id: number;
    repo: string;
    commit_id: number;
    builder: string;
    host_type: string;
    hash: string;
    recipe: Recipe;
    commands_from: number;
    tree_from: number | null;
  }>(
    `select b.id, b.repo, b.commit_id, b.builder, b.host_type, c.hash, r.body as recipe,
       ${LATEST_COMMANDS_FROM} as commands_from, t.helpers_from as tree_from
     from helper h join lease l on l.id = h.lease_id join build b on b.id = h.build_id join test_run t on t.build_id = b.id
       join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where h.lease_id = $1 and l.state = 'held' and b.state <> 'ended' and t.ended_at is null and (t.waiting > 0 or t.running > 0)`,
    [lease],
  );
  if (!row) return undefined;
  return {
    build: buildRef(row),
    hash: row.hash,
    recipe: row.recipe,
    commandsFrom: epochMs(row.commands_from),
    treeFrom: row.tree_from === null ? null : epochMs(row.tree_from),
  };
}

/**
 * Whether another machine may take what this one has failed: one that works for the build, or a free one that may join.
 * A wanted helper does not count: on a busy farm none comes, and the machine that failed would stand idle while others
 * wait for one.
 */
export async function anotherMay({ tx, run, rules, worker, now }: Turn): Promise<boolean> {
  const { main, helpers } = run.working;
  if (main + helpers > 1) return true;
  if (!run.invited || rules.helpers === 0) return false;
  const [other] = await tx.query(
    `with pausing as (${PAUSING})
     select from helper h join lease l on l.id = h.lease_id
     where h.build_id = $1 and l.state = 'held' and l.parked_until is null and l.id <> $3 -- it came since the turn began
     union all
     select from pausing, build b join host_type t on t.name = b.host_type join machine m on m.host_type = t.name
       join session s on s.machine_id = m.id join coordinator c on c.id = s.coordinator_id
     where b.id = $1 and ${MAY_WORK}
       and m.id <> all (pausing.machines) and not exists (select from lease where session_id = s.id and state = 'held') limit 1`,
    [run.build, at(now), worker.lease],
  );
  return other !== undefined;
}

/**
 * How many helpers must exist, however little is left. One more than now if a test waits for a machine other than the
 * only one that works, and such a machine is free.
 */
export async function neededAnyway(turn: Turn): Promise<number> {
  const { tx, run, now } = turn;
  const { main, helpers } = run.working;
  if (main + helpers > 1) return 0;
  const [waits] = await tx.query(
    "select from test where build_id = $1 and state = 'waiting' and avoid is not null and avoid_until > $2 limit 1",
    [run.build, at(now)],
  );
  return waits !== undefined && (await anotherMay(turn)) ? helpers + 1 : 0;
}

/**
 * Wants further machines while they are useful, away from those that have failed lately. Takes back leases that are
 * still wanted when they are not useful; `least` helpers always are. Returns true if helpers are wanted again, or other
 * machines may take those that are wanted.
 */
export async function adjustHelpers(
  { tx, run, rules, now }: Pick<Turn, "tx" | "run" | "now"> & { readonly rules: HelperRules },
  least: number,
): Promise<boolean> {
  const { spec, helpers: most } = rules;
  const { helpers, wanted } = run.working;
  const left = leftMs(run.left, run.unknownMs(spec));
  const useful =
    run.stopped || !run.invited || most === 0 ? 0 : Math.max(least, usefulHelpers(left, spec.groupTargetMs, most));
  const helping = helpers + wanted;
  const changed = wanted > 0 && (await tx.query(KEEP_FROM, [run.build, at(now)])).length > 0;
  if (useful > helping) {
    await tx.query(WANT_HELPERS, [run.build, at(now), useful - helping]);
    return true;
  }
  if (wanted > 0 && useful < helping) {
    await tx.query(
      `update lease set state = 'ended', ended_at = $3, end_reason = 'the tests are nearly done'
       where state = 'wanted' and id in (
         select h.lease_id from helper h join lease l on l.id = h.lease_id
         where h.build_id = $1 and l.state = 'wanted' order by h.lease_id desc limit $2 for update of l skip locked)`,
      [run.build, helping - useful, at(now)],
    );
  }
  return changed;
}

/** For build $1 at $2: the machines that pause because they have failed it, and when the last pause ends. */
const PAUSING = `
  select coalesce(array_agg(machine_id order by machine_id), '{}') as machines, max(until) as until from (
    select machine_id, least(max(ended_at), $2) + make_interval(
      secs => least(${LONGEST_PAUSE / 1000}, ${FIRST_PAUSE / 1000} * power(2, least(count(*), 20) - 1))) as until
    from helper
    where build_id = $1 and failed
      and ended_at > coalesce((select max(ended_at) from helper where build_id = $1 and machine_fault is false), '-infinity')
    group by machine_id
  ) failing where until > $2`;

/** Keeps the build's wanted helpers from the machines that pause now, and from no others. */
const KEEP_FROM = `
  with pausing as (${PAUSING})
  update lease set avoid = pausing.machines, avoid_until = pausing.until
  from pausing, helper h
  where h.build_id = $1 and lease.id = h.lease_id and lease.state = 'wanted'
    and (lease.avoid, lease.avoid_until) is distinct from (pausing.machines, pausing.until) returning lease.id`;

/**
 * Wants $3 helpers. Their leases are like that of the build's own machine, but never starve: a build does not wait for
 * its helpers.
 */
const WANT_HELPERS = `
with pausing as (${PAUSING}
), l as (
  insert into lease (kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at, avoid, avoid_until)
  select 'helper', o.class, o.queue, o.flow, o.repo, o.release, o.provenance, o.rank, $2::timestamptz, $2::timestamptz + interval '1 year',
    pausing.machines, pausing.until
  from (select l.* from attempt a join lease l on l.id = a.lease_id where a.build_id = $1 order by a.number desc limit 1) o,
    pausing, generate_series(1, $3::integer)
  returning id
)
insert into helper (lease_id, build_id) select id, $1 from l`;

/**
 * The tests of a build in the database: listed once, taken in groups by whichever machine is free, settled once.
 *
 *   waiting  nobody runs it; after a failure or a loss it avoids that machine for a while
 *   running  in a group that a lease holds; in two, when the first is late and another machine has nothing else to do: the first to end
 *            decides, and what the other says then counts for nothing
 *   ended    has an outcome
 *
 *   waiting -taken-> running -passed, failed twice, failed for good-> ended
 *   running -failed once, no result of its own, machine lost-> waiting;  running -machine lost LOSSES times-> ended
 *
 * A turn is one transaction: it stores what a group came to, takes back what the leases that have ended were running, and hands out the next
 * group, or writes the verdict when there is nothing left. All turns of a build follow one another (the lock of its `test_run`),
 * so the sums there are right, and the last one is known to be the last. A turn is refused to a lease that is not held any more: what a
 * machine says after it lost its lease counts for nothing, since others run its tests. Repeating a turn whose answer got lost is harmless:
 * its group has ended, and the lease still has the group that it was given.
 *
 * Locks are taken in this order: test_run, attempt, build, lease.
 */
import type { Recipe, TestsSpec } from "../farm/build.ts";
import {
  type BuildId,
  type EpochMs,
  epochMs,
  type LeaseId,
  logId,
  type MachineId,
  type Ms,
  plus,
} from "../farm/ids.ts";
import {
  type GroupRules,
  lateAfter,
  leftMs,
  median,
  nextGroup,
  type TestsLeft,
  unknownTime,
  usefulHelpers,
  type WaitingTest,
} from "../schedule/test-groups.ts";
import { type BuildRef, buildRef } from "./builds.ts";
import { emptyLog, endLogParams, endLogWhile, type LogEnd, type OpenLog } from "./logs.ts";
import { at, type Sql } from "./sql.ts";

/** A test that took so many machines with it fails the build. */
export const LOSSES = 3;
/** What is kept of each test's durations, per builder. */
const RECENT = 9;
/** The longest of what waits, of which a group is chosen. */
const OFFERED = 1000;
/** Helpers that broke are replaced, but not for ever. */
const LEASES_PER_HELPER = 3;
/** Of a test's name, in a sentence. */
const NAME_SHOWN = 200;

/** A machine that works for a build. */
export interface TestWorker {
  readonly build: BuildId;
  readonly lease: LeaseId;
  /** Of the lease: what a machine does that was adopted since counts for nothing. */
  readonly epoch: number;
  readonly machine: MachineId;
}

export interface TestGroup {
  readonly id: number;
  readonly log: OpenLog;
  readonly nonce: string;
  readonly tests: readonly GroupTest[];
}

export interface GroupTest {
  readonly number: number;
  readonly name: string;
  /** null: it never ran before. */
  readonly expectedMs: number | null;
}

/**
 * What became of a test in its group.
 *
 *   success, skipped  it has passed
 *   failure           it failed; once more, elsewhere, when that was the first time and it is not `final`
 *   again             the group says nothing about it: it runs alone
 */
export interface TestRan {
  readonly number: number;
  readonly result: "success" | "skipped" | "failure" | "again";
  readonly final: boolean;
  /** null: unknown. */
  readonly durationMs: number | null;
  readonly from: number;
  readonly to: number;
}

export interface GroupEnd {
  readonly group: number;
  readonly status: string;
  readonly log: LogEnd | undefined;
  readonly tests: readonly TestRan[];
}

export interface TurnRules {
  readonly spec: Pick<TestsSpec, "groupTargetMs" | "unknownMs" | "keepGoing">;
  readonly mostTests: number;
  readonly mostBytes: number;
  readonly helpers: number;
  /** For so long after a failure another machine goes first, where there is one. */
  readonly elsewhereFirst: Ms;
  /** What signs the markers of the next group. */
  readonly nonce: string;
  /** False: the machine tells how its last group went, and is not used again. */
  readonly takes: boolean;
}

export interface TestCounts {
  readonly total: number;
  readonly ended: number;
  readonly failed: number;
  readonly flaky: number;
}

export type Turn =
  | { readonly next: "group"; readonly group: TestGroup; readonly helpersWanted: boolean }
  /** Others run what is left, or what waits is not for this machine before `again`. */
  | { readonly next: "wait"; readonly again: EpochMs | null; readonly running: number; readonly helpersWanted: boolean }
  /** All tests have ended, and the build with them. */
  | { readonly next: "over"; readonly counts: TestCounts }
  /** The lease is not held any more, or nobody wants the build. */
  | { readonly next: "lost" };

interface RunRow {
  build_id: number;
  total: number;
  waiting: number;
  running: number;
  failed: number;
  flaky: number;
  known_ms: number;
  unknown: number;
  learned: number;
  learned_ms: number;
  stopped: boolean;
  helpers: boolean;
  ended: boolean;
  /** The build, and the lease that asks. */
  open: boolean;
  held: boolean;
  /** The lease has a group that it was given already. */
  given: boolean;
  /** A lease has ended that has one. */
  lost: boolean;
  main: number;
  helping: number;
  wanted: number;
  made: number;
}

/** Names with what each is expected to take: the median of this builder's recent runs, else of the repository's other builders'. */
export async function expectedTimes(
  sql: Sql,
  repo: string,
  builder: string,
  names: readonly string[],
): Promise<Map<string, number>> {
  const rows = await sql.query<{ name: string; builder: string; recent: number[] }>(
    "select name, builder, recent from test_time where repo = $1 and name = any ($2::text[])",
    [repo, names],
  );
  const own = new Map<string, number>();
  const others = new Map<string, number[]>();
  for (const row of rows) {
    if (row.builder === builder) own.set(row.name, median(row.recent) ?? 0);
    else others.set(row.name, [...(others.get(row.name) ?? []), ...row.recent]);
  }
  for (const [name, times] of others) if (!own.has(name)) own.set(name, median(times) ?? 0);
  return own;
}

export interface NewTest {
  readonly name: string;
  readonly expectedMs: number | null;
  readonly alone: boolean;
}

/** Stores the tests of a build, once: those that are there already stay as they are. */
export async function storeTests(sql: Sql, build: BuildId, tests: readonly NewTest[], now: EpochMs): Promise<void> {
  await sql.query(
    `with r as (
       insert into test_run (build_id, listed_at, total, waiting, known_ms, unknown)
       select $1, $2, count(*), count(*), coalesce(sum(ms), 0), count(*) filter (where ms is null) from unnest($4::integer[]) as t (ms)
       on conflict do nothing returning build_id
     )
     insert into test (build_id, number, name, expected_ms, alone)
     select r.build_id, t.number, t.name, t.ms, t.alone
     from r, unnest($3::text[], $4::integer[], $5::boolean[]) with ordinality as t (name, ms, alone, number)`,
    [
      build,
      at(now),
      tests.map(({ name }) => name),
      tests.map(({ expectedMs }) => expectedMs),
      tests.map(({ alone }) => alone),
    ],
  );
}

/** How the tests of a build stand; undefined while they are not listed. */
export async function testCounts(sql: Sql, build: BuildId): Promise<TestCounts | undefined> {
  const [row] = await sql.query<TestCounts>(
    "select total, total - waiting - running as ended, failed, flaky from test_run where build_id = $1",
    [build],
  );
  return row;
}

/** From now on helpers find what they start from. True: some are wanted. */
export async function helpersMayCome(
  sql: Sql,
  build: BuildId,
  rules: Pick<TurnRules, "spec" | "helpers">,
  now: EpochMs,
): Promise<boolean> {
  return sql.tx(async (tx) => {
    const [run] = await tx.query<RunRow>(LOCK_RUN, [build, null, null, null]);
    if (!run || run.ended || !run.open) return false;
    await tx.query("update test_run set helpers_from = coalesce(helpers_from, $2) where build_id = $1", [
      build,
      at(now),
    ]);
    const unknownMs = unknownTime(rules.spec.unknownMs, run.learned, run.learned_ms);
    return adjustHelpers(tx, rules, workingFor(run), { ...run, helpers: true }, unknownMs, 0, now);
  });
}

/** $1 build, $2 the lease that asks, $3 its epoch, $4 the group that it has run. One round trip, since machines wait for one another here. */
const LOCK_RUN = `
select t.build_id, t.total, t.waiting, t.running, t.failed, t.flaky, t.known_ms, t.unknown, t.learned, t.learned_ms, t.stopped,
  t.helpers_from is not null as helpers, t.ended_at is not null as ended, b.state <> 'ended' as open,
  exists (select from lease where id = $2 and state = 'held' and epoch = $3) as held,
  exists (select from test_group where lease_id = $2 and state = 'running' and id is distinct from $4) as given,
  exists (select from test_group g join lease l on l.id = g.lease_id
          where g.build_id = $1 and g.state = 'running' and l.state = 'ended') as lost,
  (select count(*) from attempt where build_id = $1 and state = 'running') as main, w.helpers as helping, w.wanted, w.made
from test_run t join build b on b.id = t.build_id cross join lateral (
  select count(*) filter (where l.state = 'held') as helpers, count(*) filter (where l.state = 'wanted') as wanted, count(*) as made
  from helper h join lease l on l.id = h.lease_id where h.build_id = $1
) w where t.build_id = $1 for update of t`;

export interface HelperJob {
  readonly build: BuildRef;
  readonly hash: string;
  readonly recipe: Recipe;
  /** When its last attempt began. */
  readonly startedAt: EpochMs;
}

/** What a helper's lease is for; undefined: nobody needs it any more. */
export async function helperJob(sql: Sql, lease: LeaseId): Promise<HelperJob | undefined> {
  const [row] = await sql.query<{
    id: number;
    repo: string;
    commit_id: number;
    builder: string;
    host_type: string;
    hash: string;
    recipe: Recipe;
    started_at: number;
  }>(
    `select b.id, b.repo, b.commit_id, b.builder, b.host_type, c.hash, r.body as recipe,
       coalesce((select max(started_at) from attempt where build_id = b.id), t.listed_at) as started_at
     from helper h join lease l on l.id = h.lease_id join build b on b.id = h.build_id join test_run t on t.build_id = b.id
       join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
     where h.lease_id = $1 and l.state = 'held' and b.state <> 'ended' and t.ended_at is null and (t.waiting > 0 or t.running > 0)`,
    [lease],
  );
  return row && { build: buildRef(row), hash: row.hash, recipe: row.recipe, startedAt: epochMs(row.started_at) };
}

/** The group that `lease` was given and has not told the end of. From now on whoever drives it in `epoch` writes its log. */
export async function heldGroup(
  sql: Sql,
  { lease, epoch }: Pick<TestWorker, "lease" | "epoch">,
): Promise<TestGroup | undefined> {
  const [row] = await sql.query<{ id: number; log_id: number; length: number; lines: number; nonce: string }>(
    `with g as (
       select g.id, g.log_id, g.nonce from test_group g join lease l on l.id = g.lease_id
       where g.lease_id = $1 and g.state = 'running' and l.epoch = $2
     ), taken as (
       update log set epoch = $2 from g where log.id = g.log_id and not log.ended returning log.id, log.length, log.lines
     )
     select g.id, g.log_id, g.nonce, taken.length, taken.lines from g join taken on taken.id = g.log_id`,
    [lease, epoch],
  );
  if (!row) return undefined;
  const tests = await sql.query<GroupTest>(
    `select t.number, t.name, t.expected_ms as "expectedMs"
     from test_group g, unnest(g.tests) with ordinality as n (number, place) join test t on t.number = n.number
     where g.id = $1 and t.build_id = g.build_id order by n.place`,
    [row.id],
  );
  const { id, nonce, length, lines } = row;
  return { id, log: { id: logId(row.log_id), epoch, length, lines }, nonce, tests };
}

/** See the head of this file. `done` is the group that `worker` has run since its last turn. */
export async function testTurn(
  sql: Sql,
  worker: TestWorker,
  done: GroupEnd | undefined,
  rules: TurnRules,
  now: EpochMs,
): Promise<Turn> {
  return sql.tx(async (tx) => {
    const [row] = await tx.query<RunRow>(LOCK_RUN, [worker.build, worker.lease, worker.epoch, done?.group ?? null]);
    if (!row) return { next: "lost" };
    if (row.ended) return { next: "over", counts: countsOf(row) };
    if (!row.open || !row.held) return { next: "lost" };
    const run = { ...row };
    const working = workingFor(row);
    if (done) await settle(tx, worker, done, rules, working, run, now);
    if (run.lost) await takeBack(tx, worker.build, rules, run, now);
    if (run.failed > 0 && !rules.spec.keepGoing) run.stopped = true;
    if (run.running === 0 && (run.waiting === 0 || run.stopped)) {
      const counts = await writeVerdict(tx, worker.build, run, now);
      return { next: "over", counts };
    }
    const unknownMs = unknownTime(rules.spec.unknownMs, run.learned, run.learned_ms);
    const given = run.given ? await heldGroup(tx, worker) : undefined; // by this very turn, whose answer got lost
    const nothingNew = run.stopped || !rules.takes;
    const failed = done?.tests.some(({ result }) => result === "failure") ?? false;
    const least = failed || working.wanted > 0 ? await neededAnyway(tx, worker.build, working, now) : 0;
    const others = working.main + working.helpers + working.wanted > 1 || least > 0;
    const group =
      given ?? (nothingNew ? undefined : await hand(tx, worker, rules, working, others, run, unknownMs, now));
    const helpersWanted = await adjustHelpers(tx, rules, working, run, unknownMs, least, now);
    await saveRun(tx, run);
    if (group) return { next: "group", group, helpersWanted };
    const late = nothingNew ? NONE_LATE : await lateTests(tx, worker, rules, unknownMs, now);
    const again = await handLate(tx, worker, late.tests, rules, working, unknownMs, now);
    if (again) return { next: "group", group: again, helpersWanted };
    const tries = [late.next, run.waiting > 0 ? await nextTry(tx, worker, now) : null].filter((each) => each !== null);
    const next = tries.length === 0 ? null : epochMs(Math.min(...tries));
    return { next: "wait", again: next, running: run.running, helpersWanted };
  });
}

/** Who works for a build. */
interface Working {
  /** 1 while the build's own attempt has a machine. */
  readonly main: number;
  readonly helpers: number;
  /** Helpers' leases that wait for a machine, and all that there were. */
  readonly wanted: number;
  readonly made: number;
}

interface SettledRow {
  number: number;
  name: string;
  state: "waiting" | "ended";
  outcome: string | null;
  expected_ms: number | null;
  duration_ms: number | null;
  passed: boolean;
}

function workingFor({ main, helping, wanted, made }: RunRow): Working {
  return { main, helpers: helping, wanted, made };
}

/** Whether another machine may take what this one has failed: one that works for the build, or a free one that may join. */
async function anotherMay(
  tx: Sql,
  build: BuildId,
  rules: Pick<TurnRules, "helpers">,
  working: Working,
  run: RunRow,
): Promise<boolean> {
  if (working.main + working.helpers + working.wanted > 1) return true;
  if (!run.helpers || working.made >= rules.helpers * LEASES_PER_HELPER) return false;
  const [free] = await tx.query(
    `select from build b join machine m on m.host_type = b.host_type join session s on s.machine_id = m.id
     where b.id = $1 and s.closed_at is null and m.drained_at is null and m.set_aside_at is null
       and not exists (select from lease where session_id = s.id and state = 'held') limit 1`,
    [build],
  );
  return free !== undefined;
}

/** 1 while a test waits for another machine than the only one that works for the build. */
async function neededAnyway(tx: Sql, build: BuildId, { main, helpers }: Working, now: EpochMs): Promise<0 | 1> {
  if (main + helpers > 1) return 0;
  const [waits] = await tx.query(
    "select from test where build_id = $1 and state = 'waiting' and avoid is not null and avoid_until > $2 limit 1",
    [build, at(now)],
  );
  return waits === undefined ? 0 : 1;
}

/** What a group came to. Nothing, when it was taken from this lease in the meantime. */
async function settle(
  tx: Sql,
  worker: TestWorker,
  done: GroupEnd,
  rules: TurnRules,
  working: Working,
  run: RunRow,
  now: EpochMs,
): Promise<void> {
  const ran = done.tests.map(({ number, result, final, durationMs, from, to }) => ({
    number,
    result,
    final,
    duration: durationMs === null ? null : Math.min(Math.round(durationMs), 2 ** 31 - 1),
    from_byte: from,
    to_byte: to,
  }));
  const failed = ran.some(({ result, final }) => result === "failure" && !final);
  const rows = await tx.query<SettledRow>(
    `with ${endLogWhile("true")}, g as (
       update test_group set state = 'ended', status = $14, ended_at = $15
       where id = $12 and lease_id = $13 and state = 'running' returning id, build_id
     ), ran as (
       select g.id as group_id, g.build_id, r.*
       from g, jsonb_to_recordset($11::jsonb) as r (number integer, result text, final boolean, duration integer, from_byte bigint, to_byte bigint)
     )
     update test t set
       state = case when r.result = 'again' or (r.result = 'failure' and t.failures = 0 and not r.final) then 'waiting' else 'ended' end,
       outcome = case when r.result = 'again' or (r.result = 'failure' and t.failures = 0 and not r.final) then null
                      when r.result = 'failure' then 'failure' when t.failures > 0 then 'flaky' else r.result end,
       alone = t.alone or r.result in ('again', 'failure'),
       failures = t.failures + (r.result = 'failure')::integer,
       avoid = case when r.result = 'failure' then $16 else t.avoid end,
       avoid_until = case when r.result = 'failure' then $17 else t.avoid_until end,
       group_id = r.group_id, duration_ms = r.duration, from_byte = r.from_byte, to_byte = r.to_byte,
       failed_group = case when r.result = 'failure' and t.failures = 0 then r.group_id else t.failed_group end,
       failed_from = case when r.result = 'failure' and t.failures = 0 then r.from_byte else t.failed_from end,
       failed_to = case when r.result = 'failure' and t.failures = 0 then r.to_byte else t.failed_to end
     from ran r
     where t.build_id = $18 and t.number = any ($19::integer[]) and t.number = r.number and t.state = 'running'
     returning t.number, t.name, t.state, t.outcome, t.expected_ms, t.duration_ms, r.result = 'success' as passed`,
    [
      ...endLogParams(done.log),
      JSON.stringify(ran),
      done.group,
      worker.lease,
      done.status,
      at(now),
      worker.machine,
      failed && (await anotherMay(tx, worker.build, rules, working, run)) ? at(plus(now, rules.elsewhereFirst)) : null,
      worker.build,
      ran.map(({ number }) => number),
    ],
  );
  count(run, rows);
  const timed = rows.filter((row) => row.passed && row.duration_ms !== null);
  for (const { expected_ms, duration_ms } of timed) {
    if (expected_ms !== null) continue;
    run.learned++;
    run.learned_ms += duration_ms ?? 0;
  }
  if (timed.length > 0) await remember(tx, worker.build, timed, now);
}

/** Tests leave `running`: the sums follow. */
function count(run: RunRow, rows: readonly Pick<SettledRow, "state" | "outcome" | "expected_ms">[]): void {
  for (const { state, outcome, expected_ms } of rows) {
    run.running--;
    if (state === "waiting") {
      run.waiting++;
      if (expected_ms === null) run.unknown++;
      else run.known_ms += expected_ms;
    } else if (outcome === "flaky") run.flaky++;
    else if (outcome === "failure" || outcome === "unschedulable") run.failed++;
  }
}

/** In the order of names, so that two builds that end at once do not wait for each other crosswise. */
async function remember(tx: Sql, build: BuildId, timed: readonly SettledRow[], now: EpochMs): Promise<void> {
  await tx.query(
    `insert into test_time as known (repo, name, builder, recent, seen_at)
     select b.repo, t.name, b.builder, array[t.ms], date_trunc('day', $4::timestamptz)
     from build b, unnest($2::text[], $3::integer[]) as t (name, ms) where b.id = $1 order by t.name
     on conflict (repo, name, builder) do update set recent = (excluded.recent || known.recent)[1:${RECENT}], seen_at = excluded.seen_at`,
    [build, timed.map(({ name }) => name), timed.map(({ duration_ms }) => duration_ms), at(now)],
  );
}

/** What the leases that have ended were running is free again, or lost for good. */
async function takeBack(tx: Sql, build: BuildId, rules: TurnRules, run: RunRow, now: EpochMs): Promise<void> {
  const rows = await tx.query<SettledRow>(
    `with g as (
       update test_group set state = 'ended', status = coalesce(l.end_reason, 'its machine was lost'), ended_at = $2
       from lease l where test_group.build_id = $1 and test_group.state = 'running' and l.id = test_group.lease_id and l.state = 'ended'
       returning test_group.id, test_group.log_id, test_group.machine_id, test_group.tests
     ), logs as (
       update log set ended = true from g where log.id = g.log_id and not log.ended
     )
     update test t set losses = t.losses + 1, alone = true, avoid = g.machine_id, avoid_until = $3,
       state = case when t.losses + 1 >= ${LOSSES} then 'ended' else 'waiting' end,
       outcome = case when t.losses + 1 >= ${LOSSES} then 'unschedulable' end
     from g, unnest(g.tests) as n (number)
     where t.build_id = $1 and t.number = n.number and t.state = 'running' and t.group_id = g.id
     returning t.number, t.name, t.state, t.outcome, t.expected_ms, t.duration_ms, false as passed`,
    [build, at(now), at(plus(now, rules.elsewhereFirst))],
  );
  count(run, rows);
}

/** The next group for `worker`, which runs it from now on; undefined when nothing is for this machine now. */
async function hand(
  tx: Sql,
  worker: TestWorker,
  rules: TurnRules,
  working: Working,
  elsewhere: boolean,
  run: RunRow,
  unknownMs: number,
  now: EpochMs,
): Promise<TestGroup | undefined> {
  if (run.waiting === 0) return undefined;
  const offered = await tx.query<WaitingTest>(OFFER, [worker.build, worker.machine, at(now), !elsewhere, OFFERED]);
  const left: TestsLeft = { knownMs: run.known_ms, unknown: run.unknown, machines: working.main + working.helpers };
  const groupRules: GroupRules = { ...rules, targetMs: rules.spec.groupTargetMs, unknownMs };
  const numbers = nextGroup(offered, left, groupRules);
  const group = await insertGroup(tx, worker, offered, numbers, rules, now);
  for (const { expectedMs } of group?.tests ?? []) {
    if (expectedMs === null) run.unknown--;
    else run.known_ms -= expectedMs;
  }
  run.waiting -= numbers.length;
  run.running += numbers.length;
  return group;
}

/** Tests `numbers` of those offered, as a group that `worker` runs; undefined for none. */
async function insertGroup(
  tx: Sql,
  worker: TestWorker,
  offered: readonly WaitingTest[],
  numbers: readonly number[],
  { nonce }: TurnRules,
  now: EpochMs,
): Promise<TestGroup | undefined> {
  if (numbers.length === 0) return undefined;
  const [made] = await tx.query<{ id: number; log_id: number }>(
    `with l as (
       insert into log (epoch) values ($7) returning id
     ), g as (
       insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, started_at)
       select $1, $2, $3, l.id, $4::integer[], $5, $6 from l returning id, log_id
     ), t as (
       update test set state = 'running', group_id = g.id from g where build_id = $1 and number = any ($4::integer[])
     )
     select id, log_id from g`,
    [worker.build, worker.lease, worker.machine, numbers, nonce, at(now), worker.epoch],
  );
  if (!made) return undefined;
  const byNumber = new Map(offered.map((test) => [test.number, test]));
  const tests = numbers.flatMap((number): GroupTest[] => {
    const each = byNumber.get(number);
    return each ? [{ number, name: each.name, expectedMs: each.expectedMs }] : [];
  });
  return { id: made.id, log: emptyLog(logId(made.log_id), worker.epoch), nonce, tests };
}

/** What other machines run for longer than it should take, and when there is more of it. */
interface LateTests {
  readonly tests: readonly WaitingTest[];
  readonly next: EpochMs | null;
}

const NONE_LATE: LateTests = { tests: [], next: null };

async function lateTests(
  tx: Sql,
  { build, machine }: TestWorker,
  { spec }: TurnRules,
  unknownMs: number,
  now: EpochMs,
): Promise<LateTests> {
  const rows = await tx.query<WaitingTest & { startedAt: number; groupMs: number }>(
    `select t.number, t.name, t.expected_ms as "expectedMs", t.alone, g.started_at as "startedAt",
       (sum(coalesce(t.expected_ms, $4::double precision)) over (partition by g.id))::double precision as "groupMs"
     from test_group g join test t on t.build_id = g.build_id and t.number = any (g.tests) and t.state = 'running' and t.group_id = g.id
     where g.build_id = $1 and g.state = 'running' and g.machine_id <> $2
       and (t.avoid_until is null or t.avoid_until <= $3 or t.avoid <> $2)
       and not exists (select from test_group o where o.build_id = $1 and o.state = 'running' and o.id <> g.id and t.number = any (o.tests))`,
    [build, machine, at(now), unknownMs],
  );
  const due = (row: (typeof rows)[number]): number => row.startedAt + lateAfter(row.groupMs, spec.groupTargetMs);
  const later = rows.map(due).filter((time) => time > now);
  return {
    tests: rows.filter((row) => due(row) <= now),
    next: later.length === 0 ? null : epochMs(Math.ceil(Math.min(...later))),
  };
}

/** Some of what is late once more, for `worker`; the sums stay, since it is running already. */
async function handLate(
  tx: Sql,
  worker: TestWorker,
  late: readonly WaitingTest[],
  rules: TurnRules,
  { main, helpers }: Working,
  unknownMs: number,
  now: EpochMs,
): Promise<TestGroup | undefined> {
  const knownMs = late.reduce((sum, { expectedMs }) => sum + (expectedMs ?? 0), 0);
  const unknown = late.filter(({ expectedMs }) => expectedMs === null).length;
  const groupRules: GroupRules = { ...rules, targetMs: rules.spec.groupTargetMs, unknownMs };
  const numbers = nextGroup(late, { knownMs, unknown, machines: main + helpers }, groupRules);
  return insertGroup(tx, worker, late, numbers, rules, now);
}

/** $1 build, $2 machine, $3 now, $4 whether to take what avoids this machine, $5 how many of each kind. */
const OFFER = `
(select number, name, expected_ms as "expectedMs", alone from test
 where build_id = $1 and state = 'waiting' and expected_ms is not null and ($4 or avoid_until is null or avoid_until <= $3 or avoid <> $2)
 order by expected_ms desc nulls last, number limit $5)
union all
(select number, name, expected_ms, alone from test
 where build_id = $1 and state = 'waiting' and expected_ms is null and ($4 or avoid_until is null or avoid_until <= $3 or avoid <> $2)
 order by number limit $5)`;

/** When the first of the tests that avoid this machine may run here after all. */
async function nextTry(tx: Sql, worker: TestWorker, now: EpochMs): Promise<EpochMs | null> {
  const [row] = await tx.query<{ until: number | null }>(
    "select min(avoid_until) as until from test where build_id = $1 and state = 'waiting' and avoid = $2 and avoid_until > $3",
    [worker.build, worker.machine, at(now)],
  );
  return row?.until == null ? null : epochMs(row.until);
}

/** Wants further machines while they are useful, and takes back what nobody has given yet when they are not. True: some are wanted anew. */
async function adjustHelpers(
  tx: Sql,
  rules: Pick<TurnRules, "spec" | "helpers">,
  working: Working,
  run: RunRow,
  unknownMs: number,
  least: 0 | 1,
  now: EpochMs,
): Promise<boolean> {
  const left = leftMs({ knownMs: run.known_ms, unknown: run.unknown }, unknownMs);
  const useful =
    run.stopped || !run.helpers ? 0 : Math.max(least, usefulHelpers(left, rules.spec.groupTargetMs, rules.helpers));
  const helping = working.helpers + working.wanted;
  const more = Math.min(useful - helping, rules.helpers * LEASES_PER_HELPER - working.made);
  if (more > 0) {
    await tx.query(WANT_HELPERS, [run.build_id, more, at(now)]);
    return true;
  }
  if (working.wanted > 0 && useful < helping) {
    await tx.query(
      `update lease set state = 'ended', ended_at = $3, end_reason = 'the tests are nearly done'
       where id in (select h.lease_id from helper h join lease l on l.id = h.lease_id
                    where h.build_id = $1 and l.state = 'wanted' order by h.lease_id desc limit $2 for update of l skip locked) and state = 'wanted'`,
      [run.build_id, helping - useful, at(now)],
    );
  }
  return false;
}

/** $1 build, $2 how many, $3 now. As the build's own lease, but never starving: a build does not wait for its helpers. */
const WANT_HELPERS = `
with l as (
  insert into lease (kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at)
  select 'helper', o.class, o.queue, o.flow, o.repo, o.release, o.provenance, o.rank, $3::timestamptz, $3::timestamptz + interval '1 year'
  from (select l.* from attempt a join lease l on l.id = a.lease_id where a.build_id = $1 order by a.number desc limit 1) o,
    generate_series(1, $2::integer)
  returning id
)
insert into helper (lease_id, build_id) select id, $1 from l`;

async function saveRun(tx: Sql, run: RunRow): Promise<void> {
  await tx.query(
    `update test_run set waiting = $2, running = $3, failed = $4, flaky = $5, known_ms = $6, unknown = $7, learned = $8, learned_ms = $9,
       stopped = $10 where build_id = $1`,
    [
      run.build_id,
      run.waiting,
      run.running,
      run.failed,
      run.flaky,
      run.known_ms,
      run.unknown,
      run.learned,
      run.learned_ms,
      run.stopped,
    ],
  );
}

/** The build, its attempt, the step of its tests, and all its leases end together. */
async function writeVerdict(tx: Sql, build: BuildId, run: RunRow, now: EpochMs): Promise<TestCounts> {
  const [bad] = await tx.query<{ name: string; outcome: string }>(
    `select name, outcome from test where build_id = $1 and outcome in ('failure', 'unschedulable') order by outcome desc, number limit 1`,
    [build],
  );
  const outcome = bad ? "failure" : "success";
  await tx.query("select id from attempt where build_id = $1 and state <> 'ended' order by id for update", [build]);
  await tx.query(
    `with skipped as (
       update test set state = 'ended', outcome = 'skipped' where build_id = $1 and state = 'waiting'
     ), r as (
       update test_run set waiting = 0, running = 0, failed = $5, flaky = $6, known_ms = 0, unknown = 0, stopped = $7, ended_at = $4 where build_id = $1
     ), g as (
       update test_group set state = 'ended', status = 'others had ended its tests', ended_at = $4
       where build_id = $1 and state = 'running' returning log_id
     ), logs as (
       update log set ended = true from g where log.id = g.log_id and not log.ended
     ), a as (
       update attempt set state = 'ended', outcome = $2, reason = $3, ended_at = $4
       where build_id = $1 and state <> 'ended' returning id, lease_id
     ), s as (
       update step set outcome = case when last.number = step.number then $2 else 'canceled' end,
         status = case when last.number = step.number then coalesce($3, 'ok') else 'others had run the tests' end, ended_at = $4
       from a, lateral (select max(number) as number from step where attempt_id = a.id) last
       where step.attempt_id = a.id and step.started_at is not null and step.ended_at is null
     ), b as (
       update build set state = 'ended', outcome = $2, reason = $3, failed_step = case when $2 = 'failure' then 'tests' end, flaky_tests = $6, ended_at = $4
       where id = $1 and state <> 'ended'
     )
     update lease set state = 'ended', end_reason = 'the tests have ended', ended_at = $4
     where (id in (select lease_id from a) or id in (select lease_id from helper where build_id = $1)) and state <> 'ended'`,
    [build, outcome, bad ? failedText(run, bad) : null, at(now), run.failed, run.flaky, run.stopped],
  );
  return countsOf({ ...run, waiting: 0, running: 0 });
}

function failedText(
  { failed, total, stopped }: RunRow,
  first: { readonly name: string; readonly outcome: string },
): string {
  const name = first.name.length > NAME_SHOWN ? `${first.name.slice(0, NAME_SHOWN - 1)}…` : first.name;
  const why =
    first.outcome === "unschedulable" ? `, unschedulable: ${LOSSES} machines were lost while they ran it` : "";
  const others = failed === 1 ? "" : ` and ${failed - 1} more`;
  return `${failed} of ${total} tests failed: ${name}${why}${others}${stopped ? "; the rest was not run" : ""}`;
}

function countsOf({ total, waiting, running, failed, flaky }: RunRow): TestCounts {
  return { total, ended: total - waiting - running, failed, flaky };
}

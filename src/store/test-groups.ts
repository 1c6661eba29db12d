/**
 * Groups of tests that machines run: chosen for a machine, chosen again when they are slow, and found again when
 * another driver goes on with one.
 */
import { durationText } from "../farm/duration-text.ts";
import { type EpochMs, epochMs, logId, ms } from "../farm/ids.ts";
import { nextGroup, slowAfter, type TestsLeft, type WaitingTest } from "../schedule/test-groups.ts";
import { emptyLog, type OpenLog } from "./logs.ts";
import { at, type Sql } from "./sql.ts";
import { statement } from "./statement.ts";
import { againLine, linesStored, slowLine } from "./test-lines.ts";
import type { TestWorker, Turn } from "./test-run.ts";

/** How many waiting tests, the longest ones, a group is chosen from. */
const OFFERED = 1000;

export interface TestGroup {
  readonly id: number;
  readonly log: OpenLog;
  readonly nonce: string;
  readonly tests: readonly GroupTest[];
  /**
   * Whether all reports of earlier groups were removed. Null: nobody has tried, and the group's command has not begun.
   */
  readonly reportsRemoved: boolean | null;
}

export interface GroupTest {
  readonly number: number;
  readonly name: string;
  /** Null: the test never ran before. */
  readonly expectedMs: number | null;
}

/**
 * The group that `lease` was given and whose end is not stored. From now on the driver of `epoch` writes its log.
 * Undefined: there is none.
 */
export async function heldGroup(
  sql: Sql,
  { lease, epoch }: Pick<TestWorker, "lease" | "epoch">,
): Promise<TestGroup | undefined> {
  const [row] = await sql.query<{
    id: number;
    log_id: number;
    length: number;
    lines: number;
    nonce: string;
    reports_removed: boolean | null;
  }>(
    `with g as (
       select g.id, g.log_id, g.nonce, g.reports_removed from test_group g join lease l on l.id = g.lease_id
       where g.lease_id = $1 and g.state = 'running' and l.epoch = $2
     ), taken as (
       update log set epoch = $2 from g where log.id = g.log_id and not log.ended returning log.id, log.length, log.lines
     )
     select g.id, g.log_id, g.nonce, g.reports_removed, taken.length, taken.lines from g join taken on taken.id = g.log_id`,
    [lease, epoch],
  );
  if (!row) return undefined;
  const tests = await sql.query<GroupTest>(
    `select t.number, t.name, t.expected_ms as "expectedMs"
     from test_group g, unnest(g.tests) with ordinality as n (number, place) join test t on t.number = n.number
     where g.id = $1 and t.build_id = g.build_id order by n.place`,
    [row.id],
  );
  const { id, nonce, length, lines, reports_removed: reportsRemoved } = row;
  return { id, log: { id: logId(row.log_id), epoch, length, lines }, nonce, tests, reportsRemoved };
}

/**
 * Notes, before the command of a group begins, that the reports of earlier ones were removed: `all` of them or not.
 * False: another driver has the group.
 */
export async function storeReportsRemoved(sql: Sql, { id, log }: TestGroup, all: boolean): Promise<boolean> {
  const [row] = await sql.query(
    `update test_group set reports_removed = $3 from lease l
     where test_group.id = $1 and test_group.state = 'running' and l.id = lease_id and l.state = 'held' and l.epoch = $2 returning test_group.id`,
    [id, log.epoch, all],
  );
  return row !== undefined;
}

interface OfferedTest extends WaitingTest {
  /** The test has failed, and runs once more. */
  readonly failed: boolean;
}

/** The tests that the machine of this turn runs next. Empty when there are none for it now. */
export async function chooseNext(turn: Turn, elsewhere: boolean): Promise<GroupTest[]> {
  const { tx, run, worker, now } = turn;
  if (run.waiting === 0) return [];
  const offered = await tx.query<OfferedTest>(OFFER, [worker.build, worker.machine, at(now), !elsewhere, OFFERED]);
  const tests = choose(turn, offered, run.left);
  run.take(tests);
  const again = tests.filter(({ failed }) => failed).map(({ number }) => number);
  if (again.length > 0) turn.said.push(...(await againLines(tx, worker, again)));
  return tests;
}

/** Those of `offered` that this machine runs next, in their order. */
function choose<T extends WaitingTest>(
  { run, rules }: Turn,
  offered: readonly T[],
  left: Omit<TestsLeft, "machines">,
): T[] {
  const { spec, mostTests, mostBytes } = rules;
  const { main, helpers } = run.working;
  const groupRules = { targetMs: spec.groupTargetMs, unknownMs: run.unknownMs(spec), mostTests, mostBytes };
  const numbers = nextGroup(offered, { ...left, machines: main + helpers }, groupRules);
  const byNumber = new Map(offered.map((test) => [test.number, test]));
  return numbers.flatMap((number) => byNumber.get(number) ?? []);
}

/** Lines that say, for tests which failed, where each runs again. */
async function againLines(tx: Sql, worker: TestWorker, numbers: readonly number[]): Promise<string[]> {
  const failed = await tx.query<{ name: string; failed_on: string; again_on: string }>(
    `select t.name, m.name as failed_on, (select name from machine where id = $3) as again_on
     from test t join test_group g on g.id = t.failed_group join machine m on m.id = g.machine_id
     where t.build_id = $1 and t.number = any ($2::integer[]) order by t.number`,
    [worker.build, numbers, worker.machine],
  );
  return failed.map(({ name, failed_on, again_on }) => againLine(name, failed_on, again_on));
}

/**
 * Ends a turn: stores the sums, the lines, and `chosen` as a group that the machine runs from now on. Returns the
 * group; undefined when `chosen` is empty.
 */
export async function storeTurn(
  { tx, run, worker, rules: { nonce }, now, said }: Turn,
  chosen: readonly GroupTest[],
): Promise<TestGroup | undefined> {
  const { build, lease, machine, epoch } = worker;
  const numbers = chosen.map(({ number }) => number);
  const [made] = await tx.query<{ id: number; log_id: number }>(
    ...statement`with ${run.saved()}, ${linesStored(build, said)}, l as (
       insert into log (epoch) select ${epoch}::integer where ${numbers.length}::integer > 0 returning id
     ), g as (
       insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, started_at)
       select ${build}, ${lease}, ${machine}, l.id, ${numbers}::integer[], ${nonce}, ${at(now)} from l returning id, log_id
     ), t as (
       update test set state = 'running', group_id = g.id from g where build_id = ${build} and number = any (${numbers}::integer[])
     )
     select id, log_id from g`,
  );
  if (!made) return undefined;
  const tests = chosen.map(({ number, name, expectedMs }) => ({ number, name, expectedMs }));
  return { id: made.id, log: emptyLog(logId(made.log_id), epoch), nonce, tests, reportsRemoved: null };
}

interface SlowTest extends WaitingTest {
  readonly startedAt: number;
  readonly group: number;
  readonly machine: string;
  /** The name of the machine whose turn it is. */
  readonly here: string;
}

/** Tests that other machines have run for too long, and when further ones will count as slow. */
interface SlowTests {
  readonly tests: readonly SlowTest[];
  readonly next: EpochMs | null;
}

export const NONE_SLOW: SlowTests = { tests: [], next: null };

export async function slowTests({ tx, run, worker, rules: { spec }, now }: Turn): Promise<SlowTests> {
  const { build, machine } = worker;
  const rows = await tx.query<SlowTest & { groupMs: number }>(
    `select t.number, t.name, t.expected_ms as "expectedMs", t.alone, g.started_at as "startedAt", g.id as "group", m.name as machine,
       (select name from machine where id = $2) as here,
       (sum(coalesce(t.expected_ms, $4::double precision)) over (partition by g.id))::double precision as "groupMs"
     from test_group g join test t on t.build_id = g.build_id and t.number = any (g.tests) and t.state = 'running' and t.group_id = g.id
       join machine m on m.id = g.machine_id
     where g.build_id = $1 and g.state = 'running' and g.machine_id <> $2
       and (t.avoid_until is null or t.avoid_until <= $3 or t.avoid <> $2)
       and not exists (select from test_group o where o.build_id = $1 and o.state = 'running' and o.id <> g.id and t.number = any (o.tests))`,
    [build, machine, at(now), run.unknownMs(spec)],
  );
  const due = (row: (typeof rows)[number]): number => row.startedAt + slowAfter(row.groupMs, spec.groupTargetMs);
  const later = rows.map(due).filter((time) => time > now);
  return {
    tests: rows.filter((row) => due(row) <= now),
    next: later.length === 0 ? null : epochMs(Math.ceil(Math.min(...later))),
  };
}

/**
 * Chooses some slow tests for the machine of this turn, too. The sums stay as they are, since these tests already run.
 */
export function chooseSlow(turn: Turn, slow: readonly SlowTest[]): GroupTest[] {
  const knownMs = slow.reduce((sum, { expectedMs }) => sum + (expectedMs ?? 0), 0);
  const unknown = slow.filter(({ expectedMs }) => expectedMs === null).length;
  const again = choose(turn, slow, { knownMs, unknown });
  turn.said.push(...slowLines(again, turn.now));
  return again;
}

/** One line for each group with tests that run once more. */
function slowLines(again: readonly SlowTest[], now: EpochMs): string[] {
  return [...Map.groupBy(again, ({ group }) => group).values()].flatMap(([first, ...others]) => {
    if (first === undefined) return [];
    const slow = { machine: first.machine, count: 1 + others.length, first: first.name };
    return [slowLine(slow, durationText(ms(now - first.startedAt)), first.here)];
  });
}

/**
 * The tests that a machine may run: $1 build, $2 machine, $3 now, $4 whether to include tests that avoid this machine,
 * $5 how many of each kind. The order of each part is written exactly as in its index.
 */
export const OFFER: string = `
(select number, name, expected_ms as "expectedMs", alone, failures > 0 as failed from test
 where build_id = $1 and state = 'waiting' and expected_ms is not null and ($4 or avoid_until is null or avoid_until <= $3 or avoid <> $2)
 order by expected_ms desc nulls last, number limit $5)
union all
(select number, name, expected_ms, alone, failures > 0 from test
 where build_id = $1 and state = 'waiting' and expected_ms is null and ($4 or avoid_until is null or avoid_until <= $3 or avoid <> $2)
 order by expected_ms desc nulls last, number limit $5)`;

/** Tests that wait for another machine than the one whose turn it is. */
export interface KeptTests {
  /** The test that may run here first after all, at `until`. */
  readonly name: string;
  readonly until: EpochMs;
  readonly count: number;
}

export async function keptTests({ tx, worker, now }: Turn): Promise<KeptTests | null> {
  const [row] = await tx.query<KeptTests>(
    `select name, avoid_until as until, (count(*) over ())::integer as count from test
     where build_id = $1 and state = 'waiting' and avoid = $2 and avoid_until > $3 order by avoid_until, number limit 1`,
    [worker.build, worker.machine, at(now)],
  );
  return row ?? null;
}

/**
 * The tests of a build as a whole: listed once, and the sums of how they stand.
 *
 * Whoever changes tests of a build holds the lock of this row, so the sums are right.
 */
import type { TestsSpec } from "../farm/build.ts";
import type { BuildId, EpochMs, LeaseId, Ms } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

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

export interface NewTest {
  readonly name: string;
  readonly expectedMs: number | null;
  readonly alone: boolean;
}

/**
 * Stores the tests of a build and what its log says of them, once: those that are there already stay as they are. False: the lease does not
 * hold a running attempt of the build any more, and nothing was stored.
 */
export async function storeTests(
  sql: Sql,
  by: { readonly build: BuildId; readonly lease: LeaseId; readonly epoch: number },
  tests: readonly NewTest[],
  line: string,
  now: EpochMs,
): Promise<boolean> {
  const [row] = await sql.query<{ live: boolean }>(
    `with live as (
       select a.build_id from attempt a join lease l on l.id = a.lease_id
       where a.build_id = $1 and a.state = 'running' and l.id = $7 and l.state = 'held' and l.epoch = $8 for update of a, l
     ), r as (
       insert into test_run (build_id, listed_at, total, waiting, known_ms, unknown)
       select live.build_id, $2, t.*
       from live, (select count(*), count(*), coalesce(sum(ms), 0), count(*) filter (where ms is null) from unnest($4::integer[]) as t (ms)) t
       on conflict do nothing returning build_id
     ), l as (
       insert into test_line (build_id, line) select build_id, $6 from r
     ), t as (
       insert into test (build_id, number, name, expected_ms, alone)
       select r.build_id, t.number, t.name, t.ms, t.alone
       from r, unnest($3::text[], $4::integer[], $5::boolean[]) with ordinality as t (name, ms, alone, number)
     )
     select exists (select from live) as live`,
    [
      by.build,
      at(now),
      tests.map(({ name }) => name),
      tests.map(({ expectedMs }) => expectedMs),
      tests.map(({ alone }) => alone),
      line,
      by.lease,
      by.epoch,
    ],
  );
  return row?.live ?? false;
}

/** How the tests of a build stand; undefined while they are not listed. */
export async function testCounts(sql: Sql, build: BuildId): Promise<TestCounts | undefined> {
  const [row] = await sql.query<TestCounts>(
    "select total, total - waiting - running as ended, failed, flaky from test_run where build_id = $1",
    [build],
  );
  return row;
}

/** What a turn works with. */
export interface Run extends RunRow {
  /** Lines that the log of the tests gets (test-lines.ts). */
  readonly said: string[];
}

export interface RunRow {
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

/**
 * The tests of `build`, whose turns wait from now on, as they stand for `lease` that asks in `epoch` after it has run group `done`; undefined
 * while they are not listed. The lock is a statement of its own: one that waits for a row has seen everything else before it waited.
 */
export async function lockRun(
  tx: Sql,
  build: BuildId,
  by: { readonly lease: LeaseId; readonly epoch: number; readonly done: number | null } | undefined,
): Promise<RunRow | undefined> {
  await tx.query("select from test_run where build_id = $1 for update", [build]);
  const [row] = await tx.query<RunRow>(
    `select t.build_id, t.total, t.waiting, t.running, t.failed, t.flaky, t.known_ms, t.unknown, t.learned, t.learned_ms, t.stopped,
       t.helpers_from is not null as helpers, t.ended_at is not null as ended, b.state <> 'ended' as open,
       exists (select from lease where id = $2 and state = 'held' and epoch = $3) as held,
       exists (select from test_group where lease_id = $2 and state = 'running' and id is distinct from $4) as given,
       exists (select from test_group g join lease l on l.id = g.lease_id
               where g.build_id = $1 and g.state = 'running' and l.state = 'ended') as lost,
       (select count(*) from attempt where build_id = $1 and state = 'running') as main, w.helpers as helping, w.wanted, w.made
     from test_run t join build b on b.id = t.build_id cross join lateral (
       select count(*) filter (where l.state = 'held') as helpers, count(*) filter (where l.state = 'wanted') as wanted, count(*) as made
       from helper h join lease l on l.id = h.lease_id where h.build_id = $1
     ) w where t.build_id = $1`,
    [build, by?.lease ?? null, by?.epoch ?? null, by?.done ?? null],
  );
  return row;
}

export async function saveRun(tx: Sql, run: RunRow): Promise<void> {
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

export function countsOf({ total, waiting, running, failed, flaky }: RunRow): TestCounts {
  return { total, ended: total - waiting - running, failed, flaky };
}

/**
 * The tests of a build as a whole: listed once, and the sums of how they stand.
 *
 * Whoever changes tests of a build holds the lock of this row, so the sums are right.
 */
import type { TestsSpec } from "../farm/build.ts";
import type { BuildId, EpochMs, Ms } from "../farm/ids.ts";
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

/** Stores the tests of a build and what its log says of them, once: those that are there already stay as they are. */
export async function storeTests(
  sql: Sql,
  build: BuildId,
  tests: readonly NewTest[],
  line: string,
  now: EpochMs,
): Promise<void> {
  await sql.query(
    `with r as (
       insert into test_run (build_id, listed_at, total, waiting, known_ms, unknown)
       select $1, $2, count(*), count(*), coalesce(sum(ms), 0), count(*) filter (where ms is null) from unnest($4::integer[]) as t (ms)
       on conflict do nothing returning build_id
     ), l as (
       insert into test_line (build_id, line) select build_id, $6 from r
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
      line,
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

/** $1 build, $2 the lease that asks, $3 its epoch, $4 the group that it has run. One round trip, since machines wait for one another here. */
export const LOCK_RUN = `
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

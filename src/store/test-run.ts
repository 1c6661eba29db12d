/**
 * The tests of a build as a whole: listed once, the sums of how they stand, and the data for a turn at them
 * (test-turn.ts).
 *
 * Changing tests of a build requires the lock of this row, so the sums are right. They change in these ways only:
 *
 *   take    tests go from `waiting` to `running`
 *   leave   a test that ran waits again, or has ended
 *   learn   a test that never ran before shows how long such a test takes
 *   stop    no further test begins
 */
import type { TestsSpec } from "../farm/build.ts";
import type { BuildId, EpochMs, LeaseId, MachineId, Ms } from "../farm/ids.ts";
import { unknownTime } from "../schedule/test-groups.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part } from "./statement.ts";

/** A machine that works for a build. */
export interface TestWorker {
  readonly build: BuildId;
  readonly lease: LeaseId;
  /** The epoch of the lease. If another session has adopted the lease since, what this machine does has no effect. */
  readonly epoch: number;
  readonly machine: MachineId;
}

export interface TurnRules {
  readonly spec: Pick<TestsSpec, "groupTargetMs" | "unknownMs" | "keepGoing">;
  readonly mostTests: number;
  readonly mostBytes: number;
  readonly helpers: number;
  /** How long other machines go first after a failure, if there are any. */
  readonly elsewhereFirst: Ms;
  /** The key that signs the markers of the next group. */
  readonly nonce: string;
  /** False: the machine only reports its last group, and gets no other. */
  readonly takes: boolean;
}

/** One machine's turn: all that it does while it holds the lock of its build's tests. */
export interface Turn {
  readonly tx: Sql;
  readonly run: TestRun;
  readonly worker: TestWorker;
  readonly rules: TurnRules;
  readonly now: EpochMs;
  /** Lines for the log of the tests (test-lines.ts). */
  readonly said: string[];
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
 * Stores the list of a build's tests and a line about it, once: a list that exists stays as it is. False: the lease
 * does not hold a running attempt of the build any more, and nothing was stored.
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
       from live, (
         select count(*), count(*), coalesce(sum(ms), 0), count(*) filter (where ms is null) from unnest($4::integer[]) as t (ms)
       ) t
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

/** How the tests of a build stand. Undefined while they are not listed. */
export async function testCounts(sql: Sql, build: BuildId): Promise<TestCounts | undefined> {
  const [row] = await sql.query<TestCounts>(
    "select total, total - waiting - running as ended, failed, flaky from test_run where build_id = $1",
    [build],
  );
  return row;
}

/** The machines that work for a build. */
export interface Working {
  /**
   * 1 while the build's own attempt has a machine, otherwise 0. A machine that is away and waited for does not count,
   * neither here nor as a helper.
   */
  readonly main: number;
  readonly helpers: number;
  /** How many helpers' leases wait for a machine. */
  readonly wanted: number;
}

/** The new state of a test that was running until now. */
export interface LeftRunning {
  readonly state: "waiting" | "ended";
  readonly outcome: string | null;
  /** Null: the test never ran before. */
  readonly expectedMs: number | null;
}

interface Row {
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
  invited: boolean;
  ended: boolean;
  open: boolean;
  held: boolean;
  given: boolean;
  lost: boolean;
  main: number;
  helpers: number;
  wanted: number;
}

/** The tests of a build, for as long as their lock is held. */
export class TestRun {
  readonly build: BuildId;
  readonly total: number;
  readonly ended: boolean;
  /** The build has not ended. */
  readonly open: boolean;
  /** The lease that asks is held. */
  readonly held: boolean;
  /** The lease that asks has a running group already. */
  readonly given: boolean;
  /** A lease has ended while a group of it still counts as running. */
  readonly lost: boolean;
  readonly working: Working;
  #waiting: number;
  #running: number;
  #failed: number;
  #flaky: number;
  /** How long the waiting tests are expected to take, and how many of them never ran before. */
  #knownMs: number;
  #unknown: number;
  /** How many tests that never ran before this build have run in it, and how long they took. */
  #learned: number;
  #learnedMs: number;
  #stopped: boolean;
  #invited: boolean;

  private constructor(build: BuildId, row: Row) {
    const { main, helpers, wanted } = row;
    this.build = build;
    this.total = row.total;
    this.ended = row.ended;
    this.open = row.open;
    this.held = row.held;
    this.given = row.given;
    this.lost = row.lost;
    this.working = { main, helpers, wanted };
    this.#waiting = row.waiting;
    this.#running = row.running;
    this.#failed = row.failed;
    this.#flaky = row.flaky;
    this.#knownMs = row.known_ms;
    this.#unknown = row.unknown;
    this.#learned = row.learned;
    this.#learnedMs = row.learned_ms;
    this.#stopped = row.stopped;
    this.#invited = row.invited;
  }

  /**
   * Locks the tests of `build` and reads them for `lease`, which asks in `epoch` after it has run group `done`.
   * Undefined while they are not listed.
   *
   * The lock is a statement of its own: a statement that waits for a row has read everything else before it waited.
   */
  static async lock(
    tx: Sql,
    build: BuildId,
    by: { readonly lease: LeaseId; readonly epoch: number; readonly done: number | null } | undefined,
  ): Promise<TestRun | undefined> {
    await tx.query("select from test_run where build_id = $1 for update", [build]);
    const [row] = await tx.query<Row>(
      `select t.total, t.waiting, t.running, t.failed, t.flaky, t.known_ms, t.unknown, t.learned, t.learned_ms, t.stopped,
         t.helpers_from is not null as invited, t.ended_at is not null as ended, b.state <> 'ended' as open,
         exists (select from lease where id = $2 and state = 'held' and epoch = $3) as held,
         exists (select from test_group where lease_id = $2 and state = 'running' and id is distinct from $4) as given,
         exists (select from test_group g join lease l on l.id = g.lease_id
                 where g.build_id = $1 and g.state = 'running' and l.state = 'ended') as lost,
         (select count(*) from attempt a join lease l on l.id = a.lease_id
          where a.build_id = $1 and a.state = 'running' and l.state = 'held' and l.parked_until is null) as main, w.helpers, w.wanted
       from test_run t join build b on b.id = t.build_id cross join lateral (
         select count(*) filter (where l.state = 'held' and l.parked_until is null) as helpers,
           count(*) filter (where l.state = 'wanted') as wanted
         from helper h join lease l on l.id = h.lease_id where h.build_id = $1
       ) w where t.build_id = $1`,
      [build, by?.lease ?? null, by?.epoch ?? null, by?.done ?? null],
    );
    return row && new TestRun(build, row);
  }

  get waiting(): number {
    return this.#waiting;
  }

  get running(): number {
    return this.#running;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  /** Helpers can get the tree that they start from. */
  get invited(): boolean {
    return this.#invited;
  }

  get counts(): TestCounts {
    const ended = this.total - this.#waiting - this.#running;
    return { total: this.total, ended, failed: this.#failed, flaky: this.#flaky };
  }

  /** The tests that wait: how long they take as far as that is known, and for how many it is unknown. */
  get left(): { readonly knownMs: number; readonly unknown: number } {
    return { knownMs: this.#knownMs, unknown: this.#unknown };
  }

  /** No test runs, and none will. */
  get over(): boolean {
    return this.#running === 0 && (this.#waiting === 0 || this.#stopped);
  }

  /** How long a test that never ran is assumed to take. */
  unknownMs({ unknownMs }: Pick<TestsSpec, "unknownMs">): number {
    return unknownTime(unknownMs, this.#learned, this.#learnedMs);
  }

  take(tests: readonly Pick<LeftRunning, "expectedMs">[]): void {
    this.#waiting -= tests.length;
    this.#running += tests.length;
    for (const { expectedMs } of tests) this.#awaits(expectedMs, -1);
  }

  leave({ state, outcome, expectedMs }: LeftRunning): void {
    this.#running--;
    if (state === "waiting") {
      this.#waiting++;
      this.#awaits(expectedMs, 1);
    } else if (outcome === "flaky") this.#flaky++;
    else if (outcome === "failure" || outcome === "unschedulable") this.#failed++;
  }

  learn(durationMs: number): void {
    this.#learned++;
    this.#learnedMs += durationMs;
  }

  stop(): void {
    this.#stopped = true;
  }

  /** Notes that helpers can get the tree that they start from. */
  async invite(tx: Sql, now: EpochMs): Promise<void> {
    await tx.query("update test_run set helpers_from = coalesce(helpers_from, $2) where build_id = $1", [
      this.build,
      at(now),
    ]);
    this.#invited = true;
  }

  /** Stores the sums, as a common table expression. */
  saved(): Part {
    return part`sums as (
      update test_run set waiting = ${this.#waiting}, running = ${this.#running}, failed = ${this.#failed}, flaky = ${this.#flaky},
        known_ms = ${this.#knownMs}, unknown = ${this.#unknown}, learned = ${this.#learned}, learned_ms = ${this.#learnedMs},
        stopped = ${this.#stopped}
      where build_id = ${this.build}
    )`;
  }

  #awaits(expectedMs: number | null, count: 1 | -1): void {
    if (expectedMs === null) this.#unknown += count;
    else this.#knownMs += count * expectedMs;
  }
}

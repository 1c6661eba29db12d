/**
 * The tests of a build as a whole: listed once, the sums of how they stand, and what a turn at them (test-turn.ts) works with.
 *
 * Whoever changes tests of a build holds the lock of this row, so the sums are right. They change in these ways only:
 *
 *   take    tests leave `waiting` for `running`
 *   leave   one that ran waits again, or has ended
 *   learn   one that never ran before has told what such a test takes
 *   stop    nothing more is begun
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
  /** Of the lease: what a machine does that was adopted since counts for nothing. */
  readonly epoch: number;
  readonly machine: MachineId;
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

/** One machine's turn: all that it does while it holds the tests of its build. */
export interface Turn {
  readonly tx: Sql;
  readonly run: TestRun;
  readonly worker: TestWorker;
  readonly rules: TurnRules;
  readonly now: EpochMs;
  /** Lines that the log of the tests gets (test-lines.ts). */
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

/** How the tests of a build stand; undefined while they are not listed. */
export async function testCounts(sql: Sql, build: BuildId): Promise<TestCounts | undefined> {
  const [row] = await sql.query<TestCounts>(
    "select total, total - waiting - running as ended, failed, flaky from test_run where build_id = $1",
    [build],
  );
  return row;
}

/** Who works for a build. */
export interface Working {
  /** 1 while the build's own attempt has a machine. One that is waited for to come back does not work, nor does a helper that is. */
  readonly main: number;
  readonly helpers: number;
  /** Helpers' leases that wait for a machine. */
  readonly wanted: number;
}

/** How one test stands that ran until now. */
export interface LeftRunning {
  readonly state: "waiting" | "ended";
  readonly outcome: string | null;
  /** null: it never ran before. */
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
  /** The build is not over. */
  readonly open: boolean;
  /** The lease that asks is held. */
  readonly held: boolean;
  /** It has a group that it was given already. */
  readonly given: boolean;
  /** A lease has ended that has one. */
  readonly lost: boolean;
  readonly working: Working;
  #waiting: number;
  #running: number;
  #failed: number;
  #flaky: number;
  /** What the tests that wait are expected to take, and how many of them never ran before. */
  #knownMs: number;
  #unknown: number;
  /** How many of those have run in this build, and what they took. */
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
   * The tests of `build`, whose turns wait from now on, as they stand for `lease` that asks in `epoch` after it has run group `done`; undefined
   * while they are not listed. The lock is a statement of its own: one that waits for a row has seen everything else before it waited.
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

  /** Helpers find what they start from. */
  get invited(): boolean {
    return this.#invited;
  }

  get counts(): TestCounts {
    const ended = this.total - this.#waiting - this.#running;
    return { total: this.total, ended, failed: this.#failed, flaky: this.#flaky };
  }

  /** All that waits: what it is known to take, and how many nobody knows that of. */
  get left(): { readonly knownMs: number; readonly unknown: number } {
    return { knownMs: this.#knownMs, unknown: this.#unknown };
  }

  /** No test runs, and none will. */
  get over(): boolean {
    return this.#running === 0 && (this.#waiting === 0 || this.#stopped);
  }

  /** What a test that never ran is taken to need. */
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

  /** From now on helpers find what they start from. */
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

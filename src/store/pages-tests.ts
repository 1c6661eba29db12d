/** Reading for pages: the tests of a build, a page of them at a time, and where each test's output is. */
import type { BuildId, LogId } from "../farm/ids.ts";
import type { Sql } from "./sql.ts";

export type TestOutcome = "success" | "failure" | "flaky" | "skipped" | "unschedulable";

export interface TroubledTest {
  readonly number: number;
  readonly name: string;
  readonly outcome: TestOutcome;
  /** The machine on which the test failed first. */
  readonly machine: string;
}

/** Tests that did not simply pass: failures first, each kind in the order of the list. */
export async function troubledTests(sql: Sql, build: BuildId, limit: number): Promise<TroubledTest[]> {
  return sql.query(
    `select t.number, t.name, t.outcome, coalesce(m.name, '') as machine
     from test t left join test_group g on g.id = coalesce(t.failed_group, t.group_id) left join machine m on m.id = g.machine_id
     where t.build_id = $1 and t.outcome in ('failure', 'unschedulable', 'flaky')
     order by t.outcome = 'flaky', t.number limit $2`,
    [build, limit],
  );
}

/** A test as a list shows it. */
export interface TestRow {
  readonly number: number;
  readonly name: string;
  readonly state: "waiting" | "running" | "ended";
  readonly outcome: TestOutcome | null;
  readonly failures: number;
  readonly losses: number;
  readonly expectedMs: number | null;
  /** Null: the test was not measured by itself. */
  readonly durationMs: number | null;
  /** How many tests were in the group that ran it last. */
  readonly groupOf: number | null;
  readonly machine: string | null;
  readonly machineType: string | null;
  /** The group that ran it last, and the group in which it failed first. */
  readonly group: number | null;
  readonly failedGroup: number | null;
}

export const TEST_FILTERS = ["all", "failed", "flaky", "running", "waiting", "skipped", "passed"] as const;
export type TestFilter = (typeof TEST_FILTERS)[number];

/** Conditions on `t`. Constant texts, as statements must be. `rest`: the tests that no other part of the list has. */
const FILTERS: Readonly<Record<TestFilter | "rest", string>> = {
  all: "true",
  failed: "t.outcome in ('failure', 'unschedulable')",
  flaky: "t.outcome = 'flaky'",
  running: "t.state = 'running'",
  waiting: "t.state = 'waiting'",
  skipped: "t.outcome = 'skipped'",
  passed: "t.outcome = 'success'",
  rest: "t.state <> 'running' and coalesce(t.outcome in ('success', 'skipped'), true)",
};

/** The parts of the whole list, in their order. */
const PARTS = ["failed", "flaky", "running", "rest"] as const;

/** A place in a list: after test `number` of part `part`. */
export interface TestPosition {
  readonly part: number;
  readonly number: number;
}

/**
 * At most `limit` tests after `after` whose name contains `q`: failed ones, flaky ones, those that run, and the rest,
 * each in the order of the list.
 *
 * `number` is the second half of the primary key; outcomes and running tests have an index. So a page costs what is on
 * it, whatever the list holds. A search for a rare name reads all names, which takes a tenth of a second for 10^5.
 */
export async function testRows(
  sql: Sql,
  build: number,
  filter: TestFilter,
  q: string,
  after: TestPosition,
  limit: number,
): Promise<(TestRow & TestPosition)[]> {
  const parts = filter === "all" ? PARTS : [filter];
  const some = parts.map(
    (part, i) =>
      `(select ${i} as part, t.* from test t
        where t.build_id = $1 and ${i} >= $2 and (${i} > $2 or t.number > $3) and ($4 = '' or position(lower($4) in lower(t.name)) > 0)
          and ${FILTERS[part]} order by t.number limit $5)`,
  );
  return sql.query(
    `select t.part, t.number, t.name, t.state, t.outcome, t.failures, t.losses,
       t.expected_ms as "expectedMs", t.duration_ms as "durationMs", cardinality(g.tests) as "groupOf",
       m.name as machine, m.host_type as "machineType", t.group_id as "group", t.failed_group as "failedGroup"
     from (${some.join(" union all ")}) t left join test_group g on g.id = t.group_id left join machine m on m.id = g.machine_id
     order by t.part, t.number limit $5`,
    [build, after.part, after.number, q, limit],
  );
}

export interface TestSums {
  readonly total: number;
  readonly ended: number;
  readonly running: number;
  readonly failed: number;
  readonly flaky: number;
  /** Tests that passed by being skipped, or had not run when the build ended. */
  readonly skipped: number;
}

export async function testSums(sql: Sql, build: number): Promise<TestSums | undefined> {
  const [row] = await sql.query<TestSums>(
    `select total, total - waiting - running as ended, running, failed, flaky,
       (select count(*) from test where build_id = $1 and outcome = 'skipped') as skipped
     from test_run where build_id = $1`,
    [build],
  );
  return row;
}

/** The rest of a build's tests, when all of it waits for a machine other than the one that failed it. */
export interface KeptTests {
  /** The test that first stops waiting for another machine, at `until`. The others may wait a little longer. */
  readonly name: string;
  readonly until: number;
  readonly count: number;
}

/** Null: some tests may run on any machine, or none wait. */
export async function onlyKeptTests(sql: Sql, build: number): Promise<KeptTests | null> {
  const [row] = await sql.query<KeptTests>(
    `select name, avoid_until as until, (count(*) over ())::integer as count from test
     where build_id = $1 and state = 'waiting' and avoid is not null and avoid_until is not null
       and not exists (select from test where build_id = $1 and state = 'waiting' and (avoid is null or avoid_until is null))
     order by avoid_until, number limit 1`,
    [build],
  );
  return row ?? null;
}

export interface TestMachine {
  readonly name: string;
  readonly hostType: string;
  readonly helper: boolean;
  /** How many tests are in the group that the machine runs now. */
  readonly running: number;
  readonly groups: number;
}

/** The machines that work on the tests of a build, or have worked on them. */
export async function testMachines(sql: Sql, build: number): Promise<TestMachine[]> {
  return sql.query(
    `select m.name, m.host_type as "hostType", bool_and(h.lease_id is not null) as helper,
       coalesce(sum(cardinality(g.tests)) filter (where g.state = 'running'), 0)::integer as running, count(*) as groups
     from test_group g join machine m on m.id = g.machine_id left join helper h on h.lease_id = g.lease_id
     where g.build_id = $1 group by m.id order by helper, m.name limit 100`,
    [build],
  );
}

export interface TestPlace {
  readonly group: number;
  readonly log: LogId;
  readonly from: number;
  readonly to: number;
}

/** The log that has a test's output: that of its first failure if it failed, otherwise that of its last run. */
export async function testPlaces(
  sql: Sql,
  build: number,
  numbers: readonly number[],
): Promise<(TestPlace & { readonly number: number })[]> {
  return sql.query(
    `select t.number, g.id as "group", g.log_id as log,
       coalesce(case when t.failed_group is null then t.from_byte else t.failed_from end, 0) as "from",
       coalesce(case when t.failed_group is null then t.to_byte else t.failed_to end, 0) as "to"
     from test t join test_group g on g.id = coalesce(t.failed_group, t.group_id) join log l on l.id = g.log_id
     where t.build_id = $1 and l.dropped_at is null and t.number = any ($2::integer[]) order by t.number`,
    [build, numbers],
  );
}

export interface GroupFacts {
  readonly machine: string;
  readonly hostType: string;
  /** How many tests the group ran. */
  readonly count: number;
  /** Names of some of these tests: the one that was asked for, otherwise the first ones. */
  readonly names: readonly string[];
  readonly log: LogId;
  readonly status: string | null;
  readonly state: "running" | "ended";
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly logDroppedAt: number | null;
}

/** How many names stand for a whole group. */
const NAMES = 3;

/** A group of a build, for the page of its log. `test` is the one of its tests that somebody looks for. */
export async function groupFacts(
  sql: Sql,
  build: number,
  group: number,
  test: number | undefined,
): Promise<GroupFacts | undefined> {
  const [row] = await sql.query<GroupFacts>(
    `select g.log_id as log, g.status, g.state, g.started_at as "startedAt", g.ended_at as "endedAt", l.dropped_at as "logDroppedAt",
       m.name as machine, m.host_type as "hostType", cardinality(g.tests) as count,
       array(select t.name from test t
             where t.build_id = g.build_id and t.number = any (case when $3 = any (g.tests) then array[$3] else g.tests end)
             order by t.number limit $4) as names
     from test_group g join log l on l.id = g.log_id join machine m on m.id = g.machine_id where g.build_id = $1 and g.id = $2`,
    [build, group, test ?? 0, NAMES],
  );
  return row;
}

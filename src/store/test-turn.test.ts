import { expect, test, vi } from "vitest";
import { attemptId, type CoordinatorId, ms, plus } from "../farm/ids.ts";
import { beginAttempt, giveUpAttempt } from "./attempts.ts";
import { cancelBuild } from "./builds.ts";
import { helpersMayCome } from "./helper-leases.ts";
import { endHelper } from "./set-aside.ts";
import type { Sql } from "./sql.ts";
import { heldGroup, OFFER, storeReportsRemoved } from "./test-groups.ts";
import { storeTests } from "./test-run.ts";
import { testTurn } from "./test-turn.ts";
import { freshDatabase, type TestDatabase } from "./testing/database.ts";
import { addBuild, addCoordinator, addMachine, NOON, STOPS } from "./testing/farm.ts";
import { RULES, TESTS, workerOf } from "./testing/tests.ts";

/** A build whose attempt runs. */
async function running(sql: Sql) {
  const coordinator = await addCoordinator(sql);
  const build = await addBuild(sql);
  const worker = await workerOf(sql, coordinator, build, "main");
  if (!(await beginAttempt(sql, worker.claimed, NOON))) throw new Error("The attempt did not begin");
  return worker;
}

async function adopted(sql: Sql): Promise<void> {
  await sql.query("update lease set epoch = epoch + 1");
}

function groups(sql: Sql): Promise<{ state: string }[]> {
  return sql.query("select state from test_group order by id");
}

/** Resolves when a statement waits for a lock. */
async function waits({ sql }: TestDatabase): Promise<void> {
  await vi.waitFor(async () => {
    const waiting = await sql.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    expect(waiting.length).toBe(1);
  });
}

test("testTurn() hands nothing to a lease that was adopted while the turn waited for another one", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await storeTests(sql, worker, TESTS, "", NOON);
  const other = await database.pool.connect();
  try {
    await other.query("begin");
    await other.query("select from test_run for update");
    const turn = testTurn(sql, worker, undefined, RULES, NOON);
    await waits(database);
    await adopted(sql);
    await other.query("commit");
    expect(await turn).toEqual({ next: "lost" });
  } finally {
    other.release();
  }
  expect(await groups(sql)).toEqual([]);
});

test("testTurn() gives two tries of one turn the same group, though one waited for the other", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await storeTests(sql, worker, TESTS, "", NOON);
  // Two tries of one turn, the first of which lost its connection: the second is given what the first was.
  const [first, second] = await Promise.all([0, 1].map(() => testTurn(sql, worker, undefined, RULES, NOON)));
  expect(first).toMatchObject({ next: "group", group: { id: 1 } });
  expect(second).toMatchObject({ next: "group", group: { id: 1 } });
  expect(await groups(sql)).toEqual([{ state: "running" }]);
});

test("testTurn() settles nothing of a lease that is adopted in the middle of the turn", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await storeTests(sql, worker, TESTS, "", NOON);
  const given = await testTurn(sql, worker, undefined, RULES, NOON);
  if (given.next !== "group") throw new Error("There is no group");
  const ran = { result: "success", final: false, durationMs: 1, shareMs: null, from: 0, to: 0 } as const;
  const tests = given.group.tests.map(({ number }) => ({ number, ...ran }));
  const done = { group: given.group.id, status: "ok", line: "", log: undefined, tests };
  const late: Sql = {
    query: (text, params) => sql.query(text, params),
    tx: (work) =>
      sql.tx((tx) =>
        work({
          tx: (inner) => tx.tx(inner),
          query: async (text, params) => {
            if (text.includes("update test_group")) await adopted(sql);
            return tx.query(text, params);
          },
        }),
      ),
  };
  await testTurn(late, worker, done, RULES, NOON);
  const [group] = await groups(sql);
  expect(group).toEqual({ state: "running" });
  expect(await sql.query("select from test where state = 'ended'")).toEqual([]);
});

test.each([
  ["machine was lost", true, { losses: 1, alone: true }],
  ["coordinator was stopped", false, { losses: 0, alone: false }],
])(
  "a test whose %s, on the build's own machine and on a helper's, has lost it only if the machine did that",
  async (_what, machineFault, becomes) => {
    await using database = await freshDatabase();
    const { sql } = database;
    const main = await running(sql);
    await storeTests(sql, main, TESTS, "", NOON);
    await helpersMayCome(sql, main.build, RULES, NOON);
    const [session] = await sql.query<{ coordinator_id: never }>("select coordinator_id from session limit 1");
    if (!session) throw new Error("There is no session");
    const join = (name: string) => workerOf(sql, session.coordinator_id, main.build, name);
    const helper = await join("helper");
    for (const worker of [main, helper]) {
      expect(await testTurn(sql, worker, undefined, RULES, NOON)).toMatchObject({ next: "group" });
    }
    const giveUp = {
      epoch: main.epoch,
      by: "driver",
      reason: "gone",
      counts: machineFault,
      machineFault,
      end: undefined,
    } as const;
    const policy = { retries: 3, attempts: 20, elsewhereFirst: ms(0), pause: () => ms(0) };
    expect(await giveUpAttempt(sql, { attempt: attemptId(1), ...giveUp }, policy, NOON)).toMatchObject({ again: true });
    await endHelper(sql, helper.claimed, machineFault ? "machine" : undefined, "gone", NOON);
    const next = await join("next");
    await beginAttempt(sql, next.claimed, NOON);
    await testTurn(sql, next, undefined, RULES, NOON);
    const tests = await sql.query("select losses, alone from test where number <= 2 order by number");
    expect(tests).toEqual([becomes, becomes]);
  },
);

test("a test of which a machine did not tell in time what came of it is lost with it, and has failed nobody's code after three such losses", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await storeTests(sql, worker, TESTS.slice(0, 1), "", NOON);
  const stands: unknown[] = [];
  let turn = await testTurn(sql, worker, undefined, RULES, NOON);
  while (turn.next === "group") {
    const { id, tests } = turn.group;
    const ran = { result: "lost", final: false, durationMs: null, shareMs: null, from: 0, to: 0 } as const;
    const done = { group: id, status: "ok", line: `g${id}`, log: undefined };
    turn = await testTurn(
      sql,
      worker,
      { ...done, tests: tests.map(({ number }) => ({ number, ...ran })) },
      RULES,
      NOON,
    );
    stands.push(...(await sql.query("select losses, failures, alone, avoid, outcome from test")));
  }
  const lost = { failures: 0, alone: true, avoid: worker.machine };
  expect(stands).toEqual([
    { ...lost, losses: 1, outcome: null },
    { ...lost, losses: 2, outcome: null },
    { ...lost, losses: 3, outcome: "unschedulable" },
  ]);
  expect(turn).toMatchObject({ next: "over", counts: { failed: 1 } });
  const [build] = await sql.query("select outcome, reason from build");
  expect(build).toMatchObject({ outcome: "failure", reason: expect.stringContaining("unschedulable: 3 machines") });
});

test("storeReportsRemoved() tells whoever takes the group up, and stores nothing for who had it before", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await storeTests(sql, worker, TESTS, "", NOON);
  const turn = await testTurn(sql, worker, undefined, RULES, NOON);
  if (turn.next !== "group") throw new Error("There is no group");
  expect(turn.group.reportsRemoved).toBe(null);
  expect(await storeReportsRemoved(sql, turn.group, false)).toBe(true);
  await adopted(sql);
  expect(await storeReportsRemoved(sql, turn.group, true)).toBe(false);
  const next = { ...worker, epoch: worker.epoch + 1 };
  expect(await heldGroup(sql, next)).toMatchObject({ id: turn.group.id, reportsRemoved: false });
});

test.each([
  ["was canceled", (sql: Sql, build: Parameters<typeof cancelBuild>[1]) => cancelBuild(sql, build, "you", NOON)],
  ["goes on elsewhere", adopted],
])("storeTests() stores nothing for a build that %s", async (_what, happens) => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  await happens(sql, worker.build);
  expect(await storeTests(sql, worker, TESTS, "", NOON)).toBe(false);
  expect(await sql.query("select from test_run union all select from test_line")).toEqual([]);
});

test("storeTests() stores a list once, and says so again when its answer got lost", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  for (let i = 0; i < 2; i++) expect(await storeTests(sql, worker, TESTS, "listed\n", NOON)).toBe(true);
  const sums = await sql.query(
    "select total, waiting, known_ms, (select count(*) from test_line) as lines from test_run",
  );
  expect(sums).toEqual([{ total: 3, waiting: 3, known_ms: 3000, lines: 1 }]);
});

test("what a turn is offered comes out of its index in order, however many tests wait", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const worker = await running(sql);
  const many = Array.from({ length: 5000 }, (_, i) => ({ name: `t${i}`, expectedMs: i % 2 ? i : null, alone: false }));
  await storeTests(sql, worker, many, "", NOON);
  await sql.query("analyze test");
  const values = [worker.build, worker.machine, "now()", "false", "100"];
  const text = values.reduce<string>((offer, value, i) => offer.replaceAll(`$${i + 1}`, String(value)), OFFER);
  const plan = (await sql.query<{ "QUERY PLAN": string }>(`explain ${text}`))
    .map((row) => row["QUERY PLAN"])
    .join("\n");
  expect(plan.match(/Index Scan using test_waiting on test/g)?.length).toBe(2);
  expect(plan).not.toContain("Sort");
});

/** A build with one test that failed on its own machine, and may have a helper; that machine's next turn, and what is in the way of its help. */
async function failedOnce(sql: Sql) {
  const main = await running(sql);
  await storeTests(sql, main, TESTS.slice(0, 1), "", NOON);
  await helpersMayCome(sql, main.build, RULES, NOON);
  const rules = { ...RULES, elsewhereFirst: ms(60_000) };
  const turn = await testTurn(sql, main, undefined, rules, NOON);
  if (turn.next !== "group") throw new Error("There is no group");
  const ran = { result: "failure", final: false, durationMs: 1, shareMs: null, from: 0, to: 0 } as const;
  const done = {
    group: turn.group.id,
    status: "exit status 1",
    line: "",
    log: undefined,
    tests: [{ number: 1, ...ran }],
  };
  const next = (end?: typeof done) => testTurn(sql, main, end, rules, plus(NOON, ms(19_000)));
  const [by] = await sql.query<{ id: CoordinatorId }>("select id from coordinator");
  if (!by) throw new Error("There is no coordinator");
  return { main, done, next, coordinator: by.id };
}

test("a failed test waits for another machine while one is free: its name and how long at most are known; once none is, it runs here", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { done, next, coordinator } = await failedOnce(sql);
  const free = await addMachine(sql, "linux", "free", coordinator);
  const until = plus(NOON, ms(79_000));
  const kept = { name: "a", until, count: 1 };
  expect(await next(done)).toEqual({ next: "wait", again: until, running: 0, kept, helpersWanted: true });
  expect(await next()).toMatchObject({ next: "wait", kept });
  await sql.query("update session set closed_at = now() where id = $1", [free.id]);
  expect(await next()).toMatchObject({ next: "group", group: { tests: [{ name: "a" }] } });
  await next({ ...done, group: 2 });
  expect(await sql.query("select from lease where state = 'wanted'")).toEqual([]);
});

test.each(STOPS)(
  "a failed test runs once more where it failed when the free machine may take nothing: %s",
  async (stop) => {
    await using database = await freshDatabase();
    const { sql } = database;
    const { done, next } = await failedOnce(sql);
    await addMachine(sql, "linux", "free", await addCoordinator(sql, "P00000next"));
    await sql.query(`update ${stop} = now()`);
    expect(await next(done)).toMatchObject({ next: "group", group: { tests: [{ name: "a" }] } });
  },
);

test("on a busy farm a failed test runs once more where it failed, though a helper is wanted that nobody gives", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { main, done, next } = await failedOnce(sql);
  await sql.query("update test_run set known_ms = 1000000");
  await helpersMayCome(sql, main.build, RULES, NOON);
  expect(await sql.query("select from lease where state = 'wanted'")).toHaveLength(1);
  expect(await next(done)).toMatchObject({ next: "group", group: { tests: [{ name: "a" }] } });
});

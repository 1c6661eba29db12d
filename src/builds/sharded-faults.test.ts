/** Machines that hang, are slow, or give unusable answers, in the middle of a build's tests. */
import { expect, test, vi } from "vitest";
import { durationText } from "../farm/duration-text.ts";
import { epochMs, minutes, ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { FLUSH_AFTER } from "../logs/writer.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, type TestDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import type { FakeMachine, Script } from "./testing/fake-machine.ts";
import { TestFarm, type TestFarmOptions } from "./testing/farm.ts";
import { endedBuild, planTests, runScript, SOON, testsOf, testsSpec, trees } from "./testing/tests.ts";

const NAMES = Array.from("abcdefghijkl");
/** Settings by which a group of two tests is slow after a quarter of a second. */
const QUICK = { helpers: 1, groupTargetMs: 100, unknownMs: 50 };

async function opened(database: TestDatabase, options: TestFarmOptions = {}): Promise<TestFarm> {
  await addHostType(database.sql, "linux");
  const policy = { elsewhereFirst: ms(50), pause: () => ms(1) };
  return TestFarm.open(database, { policy, elsewhereFirst: SOON, snapshots: trees(), ...options });
}

/** Waits until `machine` runs tests: it has the build then, and machines that come later can only help. */
async function running(machine: FakeMachine): Promise<void> {
  await vi.waitFor(() => expect(machine.calls).toContain("exec run"), { timeout: 5000 });
}

/** Waits until two machines have a group each. */
function meeting(): () => Promise<void> {
  const both = Promise.withResolvers<void>();
  let met = 0;
  return () => {
    if (++met === 2) both.resolve();
    return both.promise;
  };
}

async function stepLog(farm: TestFarm): Promise<string> {
  const [row] = await farm.database.sql.query<{ log: number }>("select log_id as log from step where name = 'tests'");
  const parts: Buffer[] = [];
  if (row) for await (const part of farm.logs.read(row.log as never)) parts.push(part);
  return Buffer.concat(parts).toString();
}

/**
 * A build on two machines. The first group on `bad` does `what` once both have a group. All other commands end at once.
 */
async function withBad(
  farm: TestFarm,
  bad: "main" | "helper",
  what: Script,
  agent: FakeMachine["agent"] = "barnraiser",
) {
  const meet = meeting();
  const script = (name: string) => {
    let first = true;
    return runScript(() => {
      if (!first) return {};
      first = false;
      return { started: meet, ...(name === bad && what) };
    });
  };
  const main = await farm.connect("linux", "main", { script: script("main"), agent });
  const id = await planTests(farm.database, testsSpec(NAMES, QUICK));
  await running(main);
  await farm.connect("linux", "helper", { script: script("helper"), agent });
  return id;
}

const outcomes = async (farm: TestFarm, id: Parameters<typeof testsOf>[1]) =>
  new Map((await testsOf(farm.database, id)).map(({ name, outcome }) => [name, outcome]));
const passed = new Map(NAMES.map((name) => [name, "success"]));

test.each([
  ["main", "barnraiser"],
  ["helper", "barnraiser"],
  ["main", "original"],
  ["helper", "original"],
] as const)(
  "%s (%s) hangs, or is slower by 100: what it runs is run once more on the other machine, and the build ends without it",
  async (bad, agent) => {
    await using database = await freshDatabase();
    await using farm = await opened(database);
    const id = await withBad(farm, bad, { ends: "hang" }, agent);
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 0 });
    expect(await outcomes(farm, id)).toEqual(passed);
    const other = bad === "main" ? "helper" : "main";
    expect(new Set((await testsOf(database, id)).map(({ machine }) => machine))).toEqual(new Set([other]));
    await vi.waitFor(() => expect(farm.released.length).toBe(2)); // the slow one too, at once
    expect(farm.released.map(({ how }) => how)).toEqual(["clean", "clean"]);
    const groups = await database.sql.query("select state, count(*) as n from test_group group by 1");
    expect(groups).toMatchObject([{ state: "ended" }]);
    const logs = await database.sql.query("select from log where not ended");
    expect(logs).toEqual([]);
    expect(await stepLog(farm)).toMatch(/\n12 tests: 0 failed, 0 flaky\n$/);
  },
);

test("of a group that ran twice the first to end decides, and what the other says counts for nothing", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database);
  const slow = Promise.withResolvers<void>();
  const meet = meeting();
  let hung: readonly string[] = [];
  const helper = runScript((names) => {
    if (hung.length > 0) return {};
    hung = names;
    return { started: () => Promise.all([meet(), slow.promise]).then(() => {}), state: "exit status 1" };
  });
  const last = Promise.withResolvers<void>();
  let first = true;
  const main = runScript((names) => {
    if (first) {
      first = false;
      return { started: meet };
    }
    return hung.includes(names[0] ?? "") ? { started: () => last.promise } : {};
  });
  await farm.connect("linux", "main", { script: main });
  const id = await planTests(database, testsSpec(NAMES, QUICK));
  await farm.connect("linux", "helper", { script: helper });
  const twice = () =>
    database.sql.query(
      "select n from test_group, unnest(tests) as n where state = 'running' group by n having count(*) > 1",
    );
  await vi.waitFor(async () => expect((await twice()).length).toBeGreaterThan(0), { timeout: 5000 });
  slow.resolve(); // it fails, being the first: of several nobody knows which, so each runs alone
  await vi.waitFor(async () => expect(await twice()).toEqual([]));
  last.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  const [sums] = await database.sql.query("select waiting, running, failed, known_ms, unknown from test_run");
  expect(sums).toEqual({ waiting: 0, running: 0, failed: 0, known_ms: 0, unknown: 0 });
});

test.each([-1, 1])(
  "a machine whose clock is off by %i day, and is set right in the middle of a test: durations, order and history are the farm's own",
  async (days) => {
    await using database = await freshDatabase();
    await using farm = await opened(database);
    const now = epochMs(systemClock.now() + days * 86_400_000);
    const timestamp = new Date(now).toISOString();
    const machine = await farm.connect("linux", "m1", {
      now,
      script: runScript((names) => {
        const cases = names.map((name) => `<testcase name="${name}" time="${name === "set" ? 86_400.5 : 0.5}"/>`);
        machine.files.set(
          "src/r.xml",
          Buffer.from(`<testsuite timestamp="${timestamp}">${cases.join("")}</testsuite>`),
        );
        return {};
      }),
    });
    const began = systemClock.now();
    const id = await planTests(database, testsSpec(["one", "set", "two"], { results: { junit: "*.xml" } }));
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
    expect((await testsOf(database, id)).map((test) => [test.name, test.duration_ms])).toEqual([
      ["one", 500],
      ["set", null],
      ["two", 500],
    ]);
    expect(await database.sql.query("select name, recent from test_time order by name")).toEqual([
      { name: "one", recent: [500] },
      { name: "two", recent: [500] },
    ]);
    const times = await database.sql.query<{ time: number }>(
      "select t.time from test_group, unnest(array[started_at, ended_at]) with ordinality as t (time, n) order by id, n",
    );
    const told = [began, ...times.map(({ time }) => time), systemClock.now()];
    expect(told).toEqual(told.toSorted((a, b) => a - b));
  },
);

test("a helper that answers garbage: its tests run elsewhere, and it is not used again", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database);
  const id = await withBad(farm, "helper", { ends: "garbage" });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 0 });
  expect(await outcomes(farm, id)).toEqual(passed);
  await vi.waitFor(() => expect(farm.released).toContainEqual({ name: "helper", how: "broken" }));
  expect(
    await database.sql.query("select m.name, h.machine_fault from helper h join machine m on m.id = h.machine_id"),
  ).toEqual([{ name: "helper", machine_fault: true }]);
});

test("a test whose coordinators are upgraded one after the other, on a machine that does not resume, has lost no machine", async () => {
  await using database = await freshDatabase();
  const hangs = runScript(() => ({ ends: "hang" }));
  const agent = "original";
  const id = await planTests(database, testsSpec(["long"], QUICK));
  for (const coordinator of ["P00000001", "P00000002", "P00000003"]) {
    await using farm = await opened(database, { coordinator });
    await running(await farm.connect("linux", "m", { script: hangs, agent }));
  }
  await using farm = await opened(database, { coordinator: "P00000004" });
  await farm.connect("linux", "m", { agent });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 0 });
  expect(await testsOf(database, id)).toMatchObject([{ outcome: "success", losses: 0 }]);
});

test("helpers that cannot have the tree, because who keeps it is being restarted, do not use up the helpers of their build", async () => {
  await using database = await freshDatabase();
  let away = true;
  const restore = async () => (away ? { bad: "its coordinator is not there" } : { skippedLinks: 0 });
  await using farm = await opened(database, { snapshots: { ...trees(), restore } });
  const gate = Promise.withResolvers<void>();
  const main = await farm.connect("linux", "main", { script: runScript(() => ({ started: () => gate.promise })) });
  const id = await planTests(database, testsSpec(NAMES, QUICK));
  await running(main);
  const helpers: FakeMachine[] = [];
  for (const name of ["one", "two", "three", "four"]) {
    helpers.push(await farm.connect("linux", name));
    await vi.waitFor(() => expect(farm.released).toContainEqual({ name, how: "clean" }), { timeout: 5000 });
  }
  away = false;
  const ran = () => helpers.flatMap(({ calls }) => calls.filter((call) => call === "exec run"));
  await vi.waitFor(() => expect(ran().length).toBeGreaterThan(0), { timeout: 10_000 });
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
});

test("nobody else is asked to help with a tree that turned out to be damaged, and the build goes on without", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const own = trees();
  let dropped = false;
  const snapshots: TestFarmOptions["snapshots"] = {
    ...own,
    find: async (of) => (dropped ? undefined : own.find(of)),
    restore: async () => {
      dropped = true;
      return { bad: "its SHA-256 is another" };
    },
  };
  await using farm = await opened(database, { snapshots });
  const gate = Promise.withResolvers<void>();
  const main = await farm.connect("linux", "main", { script: runScript(() => ({ started: () => gate.promise })) });
  const id = await planTests(database, testsSpec(NAMES, QUICK));
  await running(main);
  await farm.connect("linux", "one");
  const helpers = () =>
    sql.query("select l.state, l.end_reason, h.failed from helper h join lease l on l.id = h.lease_id order by l.id");
  const one = { state: "ended", end_reason: "the tree of the build is not kept any more", failed: false };
  await vi.waitFor(async () => expect(await helpers()).toEqual([one]));
  await vi.waitFor(() => expect(farm.released).toContainEqual({ name: "one", how: "clean" }));
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(await helpers()).toEqual([one]);
});

test("a machine that breaks three times in a row as a helper is set aside", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database);
  const gate = Promise.withResolvers<void>();
  const main = await farm.connect("linux", "main", { script: runScript(() => ({ started: () => gate.promise })) });
  const id = await planTests(database, testsSpec(NAMES, { ...QUICK, helpers: 3 }));
  await running(main);
  const aside = () => database.sql.query("select name from machine where set_aside_at is not null");
  for (let broken = 1; broken <= 3; broken++) {
    expect(await aside()).toEqual([]);
    await farm.connect("linux", "helper", { script: runScript(() => ({ ends: "garbage" })) });
    await vi.waitFor(() => expect(farm.released.length).toBe(broken), { timeout: 5000 });
  }
  expect(await aside()).toEqual([{ name: "helper" }]);
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
});

test("a helper that does not take the file of names: its tests run elsewhere", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database);
  const gate = Promise.withResolvers<void>();
  const main = await farm.connect("linux", "main", { script: runScript(() => ({ started: () => gate.promise })) });
  const id = await planTests(database, testsSpec(NAMES, { ...QUICK, names: "file" }));
  await running(main);
  await farm.connect("linux", "helper", { garbageIn: "write" });
  await vi.waitFor(() => expect(farm.released).toContainEqual({ name: "helper", how: "broken" }));
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(await outcomes(farm, id)).toEqual(passed);
});

test("a group that prints nothing for the builder's silence limit is stopped, and its test fails for good", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database);
  await farm.connect("linux", "m", {
    script: runScript((names) => (names.includes("b") ? { output: ["?"], ends: "hang" } : {})),
  });
  const id = await planTests(database, testsSpec(["a", "b", "c"]), { limits: { silenceMs: 100 } });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 3 tests failed: b" });
  const line = "m: b: timed out: it printed nothing for 100 ms after ";
  await vi.waitFor(async () => expect(await stepLog(farm)).toContain(line)); // the last lines come after the verdict
});

const AGENTS = ["barnraiser", "original"] as const;

test.each(AGENTS)(
  "a build that has used up its time begins no more tests and fails, on any machine (%s)",
  async (agent) => {
    await using database = await freshDatabase();
    const clock = new FakeClock();
    await using farm = await opened(database, { clock });
    const hang = runScript((names) => (names.includes("c") ? { ends: "hang" } : {}));
    const machine = await farm.connect("linux", "m", { script: hang, agent });

    const id = await planTests(database, testsSpec(["a", "b", "c", "d"], { groupTargetMs: 100 }), {
      limits: { buildMs: 700 },
      now: clock.now(),
    });
    await vi.waitFor(() => expect(machine.commands.at(-1)?.args).toEqual(["c"]), { timeout: 5000 });
    await clock.advance(ms(699));
    const [begun] = await database.sql.query("select state from build where id = $1", [id]);
    expect(begun).toEqual({ state: "running" });
    await clock.advance(ms(1));
    const reason = "timed out: its build has 700 ms; not ended: c";
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason, failed_step: "tests" });
    expect(machine.commands.at(-1)?.args).toEqual(["c"]);
    await vi.waitFor(async () => {
      await clock.advance(FLUSH_AFTER);
      expect(await stepLog(farm)).toMatch(
        /m: c: timed out: its build has 700 ms after .*\nfailed: c on m, for good\n\nbarnraiser: the tests were stopped/,
      );
    });
    expect(await database.sql.query("select from lease where state <> 'ended'")).toEqual([]);
  },
);

test.each(AGENTS)(
  "a build that has used up its time names what had not ended, on every machine (%s), though none of it is known to hang",
  async (agent) => {
    await using database = await freshDatabase();
    const clock = new FakeClock();
    await using farm = await opened(database, { clock, snapshots: trees() });
    const script = runScript(() => ({ ends: "hang" }));
    const limit = seconds(50); // less than a command may take: one that begins with its build would reach both at once
    for (const name of ["main", "helper"]) await farm.connect("linux", name, { script, agent });
    const id = await planTests(database, testsSpec(NAMES, { helpers: 1, groupTargetMs: 6000 }), {
      limits: { buildMs: limit },
      now: clock.now(),
    });
    const groups = () => database.sql.query<{ tests: number[] }>("select tests from test_group order by id");
    await vi.waitFor(
      async () => {
        await clock.advance(ms(10));
        expect(await groups()).toHaveLength(2);
      },
      { timeout: 8000 },
    );
    const begun = (await groups()).map(({ tests }) => tests);
    expect(Math.max(...begun.map((tests) => tests.length))).toBeGreaterThan(1);
    await clock.advance(limit);
    const names = begun.flat().toSorted((a, b) => a - b);
    const reason = `timed out: its build has ${durationText(limit)}; not ended: ${names.map((number) => NAMES[number - 1]).join(", ")}`;
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason, failed_step: "tests" });
    expect(await database.sql.query("select from test where state <> 'ended' or outcome <> 'skipped'")).toEqual([]);
    await vi.waitFor(async () => {
      await clock.advance(FLUSH_AFTER);
      expect(farm.released).toHaveLength(2);
    });
    expect(await database.sql.query("select from lease where state <> 'ended'")).toEqual([]);
  },
);

test.each([
  [1, "success", "success"],
  [Number.POSITIVE_INFINITY, "unschedulable", "failure"],
])(
  "a test that passed, and whose reports a slow machine does not give in time (%d times), has not failed",
  async (slowReads, outcome, build) => {
    await using database = await freshDatabase();
    const clock = new FakeClock();
    await using farm = await opened(database, { clock });
    let reads = 0;
    const machine = await farm.connect("linux", "m", {
      script: runScript(() => {
        machine.files.set("src/a.xml", Buffer.from('<testsuite><testcase name="a" time="1"/></testsuite>'));
        return {};
      }),
      readFiles: () => (reads++ < slowReads ? new Promise(() => {}) : undefined),
    });
    const id = await planTests(database, testsSpec(["a"], { results: { junit: "*.xml" } }), { now: clock.now() });
    for (let slow = 1; slow <= Math.min(slowReads, 3); slow++) {
      await vi.waitFor(() => expect(reads).toBe(slow), { timeout: 5000 });
      await clock.advance(minutes(5));
    }
    expect(await endedBuild(database, id)).toMatchObject({ outcome: build, flaky_tests: 0 });
    const losses = Math.min(slowReads, 3);
    expect(await testsOf(database, id)).toMatchObject([{ outcome, failures: 0, losses }]);
  },
);

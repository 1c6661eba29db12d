/** What happens to groups of tests whose coordinator or connection goes away, on machines that resume. */
import { expect, test, vi } from "vitest";
import type { TestsSpec } from "../farm/build.ts";
import { ms, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import type { Sql } from "../store/sql.ts";
import { skipBuilds } from "../store/superseded.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { CHECK_EVERY } from "./builds.ts";
import { publishEnded } from "./publish.ts";
import { Recovery } from "./recovery.ts";
import type { FakeMachineOptions } from "./testing/fake-machine.ts";
import { FakeProcess } from "./testing/fake-process.ts";
import { TestFarm } from "./testing/farm.ts";
import { endedBuild, marked, planTests, runScript, stepLogs, testsOf, testsSpec, trees } from "./testing/tests.ts";

const NAMES = Array.from("abcdefghijkl");

/** The group that a process runs now: its execution, and its tests. */
function groupOf(process: FakeProcess) {
  const [run] = process.running.filter(({ command }) => command.cmd === "run");
  if (run === undefined) throw new Error("It runs no group");
  return { ...run, names: run.command.args };
}

/** Prints the rest of the group that runs, and ends it. `begun`: its first test has begun already. */
function finish(process: FakeProcess, failing: readonly string[], begun = false): void {
  const { id, command, names } = groupOf(process);
  const lines = names.flatMap((name, i) => {
    const end = [failing.includes(name) ? "fail" : "pass", name] as const;
    return begun && i === 0 ? [`rest of ${name}\n`, end] : [["begin", name] as const, `all of ${name}\n`, end];
  });
  process.print(id, marked(command, lines));
  process.exit(id, names.some((name) => failing.includes(name)) ? "exit status 1" : "ok");
}

async function groupLogs(database: TestDatabase, farm: TestFarm): Promise<Map<string, string>> {
  const rows = await database.sql.query<{ id: number; log: number }>(
    "select id, log_id as log from test_group order by id",
  );
  const logs = new Map<string, string>();
  for (const { id, log } of rows) {
    const parts: Buffer[] = [];
    for await (const part of farm.logs.read(log as never)) parts.push(part);
    logs.set(`g${id}`, Buffer.concat(parts).toString());
  }
  return logs;
}

test.each(["was stopped", "stood still and was declared dead"])(
  "[coordinator 70] a coordinator that %s in the middle of groups: each is taken up by its execution at the byte where its log ends, and settled once",
  async (end) => {
    await using database = await freshDatabase();
    await addHostType(database.sql, "linux");
    await using stack = new AsyncDisposableStack();
    const options = { snapshots: trees(), elsewhereFirst: ms(50) };
    const first = await TestFarm.open(database, { ...options, coordinator: "P00000001" });
    stack.defer(() => first[Symbol.asyncDispose]());
    const spec = testsSpec(NAMES, { helpers: 1, results: "markers", groupTargetMs: 6000 });
    const [main, helper] = [new FakeProcess(), new FakeProcess()];
    await first.connect("linux", "main", { process: main });
    const id = await planTests(database, spec);
    await until(() => main.exit("make"));
    await first.connect("linux", "helper", { process: helper });
    const begun = new Map<string, string>();
    for (const process of [main, helper]) {
      await until(() => expect(groupOf(process).names.length).toBe(2));
      const { id: execution, command, names } = groupOf(process);
      const text = marked(command, [["begin", names[0] ?? ""], `beginning of ${names[0]}\n`]);
      process.print(execution, text);
      begun.set(execution, text);
    }
    await until(async () => expect(await groupLogs(database, first)).toEqual(begun));

    if (end === "was stopped") await first[Symbol.asyncDispose]();
    const second = stack.use(await TestFarm.open(database, { ...options, coordinator: "P00000002" }));
    const { sql, bus } = database;
    const recovery = { sql, heart: sql, bus, clock: systemClock, log: quiet, coordinator: second.coordinator };
    expect(await new Recovery({ ...recovery, alone: true, endInstance: async () => {}, lost: () => {} }).look()).toBe(
      0,
    );
    const back = await second.connect("linux", "main", { process: main });
    await second.connect("linux", "helper", { process: helper });
    const leases = () => sql.query("select epoch, parked_until from lease where state = 'held' order by id");
    await until(async () => {
      expect(await leases()).toEqual([1, 2].map(() => ({ epoch: 2, parked_until: null })));
      for (const [execution, text] of begun) {
        const process = [main, helper].find((one) => groupOf(one).id === execution);
        const from = process?.attached.filter((one) => one.id === execution).map((one) => one.from);
        expect(from).toEqual([0, Buffer.byteLength(text)]);
      }
    });
    expect(back.calls).toEqual(["exec run"]); // nothing was cleaned, made or listed again

    // The first coordinator, where it still stands there, hears all of this too, and tries to store it.
    const failing = [groupOf(helper).names[0] ?? ""];
    for (const process of [main, helper]) finish(process, failing, true);
    await vi.waitFor(
      async () => {
        for (const process of [main, helper]) if (process.running.length > 0) finish(process, []);
        const [build] = await sql.query<{ state: string }>("select state from build where id = $1", [id]);
        expect(build?.state).toBe("ended");
      },
      { timeout: 10_000, interval: 5 },
    );
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 1 });
    const tests = await testsOf(database, id);
    expect(tests.map(({ outcome, failures, losses }) => [outcome, failures, losses])).toEqual(
      tests.map(({ name }) => (failing.includes(name) ? ["flaky", 1, 0] : ["success", 0, 0])),
    );
    await until(() => expect([first.builds.running, second.builds.running]).toEqual([0, 0]));

    const logs = await groupLogs(database, second);
    const executions = [main, helper].flatMap(({ attached }) => attached.map((one) => one.id));
    expect(new Set(executions.filter((one) => one.startsWith("g")))).toEqual(new Set(logs.keys()));
    expect([main, helper].flatMap(({ started }) => started).toSorted()).toEqual(
      ["make", ...Array.from(logs, () => "run")].toSorted(),
    );
    for (const [execution, text] of begun) {
      expect(logs.get(execution)?.startsWith(text)).toBe(true);
      expect(logs.get(execution)?.match(/rest of/g)?.length).toBe(1);
    }
    const lines = async () => [
      ...((await stepLogs(second, id))[0]?.matchAll(/^(?:main|helper): .* after .*$/gm) ?? []),
    ];
    await until(async () => expect((await lines()).length).toBe(logs.size)); // each group once, whichever coordinator drove it
    const [sums] = await sql.query("select waiting, running, failed, flaky, known_ms, unknown from test_run");
    expect(sums).toEqual({ waiting: 0, running: 0, failed: 0, flaky: 1, known_ms: 0, unknown: 0 });
  },
);

test("a helper whose connection was cut goes on with its group over the next one, and its build does not wait for it meanwhile", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { snapshots: trees(), elsewhereFirst: ms(50) });
  const [main, helper] = [new FakeProcess(), new FakeProcess()];
  await farm.connect("linux", "main", { process: main });
  const id = await planTests(database, testsSpec(NAMES, { helpers: 1, results: "markers", groupTargetMs: 6000 }));
  await until(() => main.exit("make"));
  const before = await farm.connect("linux", "helper", { process: helper });
  await until(() => expect(groupOf(helper).names.length).toBe(2));
  const { id: execution, names } = groupOf(helper);
  await farm.disconnect(before);
  const left = () => database.sql.query("select name from test where state <> 'ended' order by number");
  await until(async () => {
    if (main.running.length > 0) finish(main, []);
    expect(await left()).toEqual(names.map((name) => ({ name })));
  });
  await farm.connect("linux", "helper", { process: helper });
  await until(() => expect(helper.attached.map((one) => one.id)).toEqual([execution, execution]));
  finish(helper, []);
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 0 });
  expect(helper.started).toEqual(["run"]);
});

test("what a group printed while nobody listened says nothing about how long its tests take, and its line says how long it ran", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { snapshots: trees(), elsewhereFirst: ms(50) });
  const process = new FakeProcess();
  const before = await farm.connect("linux", "main", { process });
  const id = await planTests(database, testsSpec(NAMES, { results: "markers", groupTargetMs: 9000 }));
  await until(() => process.exit("make"));
  await until(() => expect(groupOf(process).names.length).toBe(3));
  const { id: execution, command, names } = groupOf(process);
  const [a = "", b = "", c = ""] = names;
  process.print(execution, marked(command, [["begin", a]]));
  await until(async () => expect((await groupLogs(database, farm)).get(execution)).toContain(`begin ${a}`));
  await farm.disconnect(before);
  const missed = [
    ["pass", a],
    ["begin", b],
    ["pass", b],
    ["begin", c],
  ] as const;
  process.print(execution, marked(command, missed));
  process.older(execution, seconds(40));
  await farm.connect("linux", "main", { process });
  await until(async () => expect((await groupLogs(database, farm)).get(execution)).toContain(`begin ${c}`));
  process.print(execution, marked(command, [["pass", c]]));
  process.exit(execution);
  await until(async () => {
    if (process.running.length > 0) finish(process, []);
    expect(await database.sql.query("select id from build where id = $1 and outcome = 'success'", [id])).toEqual([
      { id },
    ]);
  });
  const times = (await testsOf(database, id)).map(({ name, duration_ms }) => [name, duration_ms !== null]);
  expect(times).toEqual(NAMES.map((name) => [name, !names.includes(name)]));
  const timed = await database.sql.query("select name from test_time order by name");
  expect(timed).toEqual(NAMES.filter((name) => !names.includes(name)).map((name) => ({ name })));
  const [log] = await stepLogs(farm, id);
  expect(log).toMatch(/^main: 3 tests: ok after [45]\d s$/m);
});

/** Settings by which tests are soon slow, and a failed test waits longer for another machine than these tests take. */
const QUICK = { helpers: 1, groupTargetMs: 100, unknownMs: 50 };

/** A build whose own machine went away in the middle of its first group, and is waited for. */
async function waitedFor(farm: TestFarm, names: readonly string[], meanwhile: () => Promise<void>, machine = "main") {
  const main = new FakeProcess();
  const connected = await farm.connect("linux", machine, { process: main });
  const id = await planTests(farm.database, testsSpec(names, QUICK), { steps: [] });
  await until(() => expect(groupOf(main).names).not.toEqual([]));
  await meanwhile();
  await farm.disconnect(connected);
  await until(async () => {
    const parked = await farm.database.sql.query(
      "select from lease join attempt a on a.lease_id = lease.id where parked_until is not null and build_id = $1",
      [id],
    );
    expect(parked.length).toBe(1);
  });
  return id;
}

test("a build does not wait for its own machine to come back: what fails on its only helper runs once more on another one", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { snapshots: trees(), elsewhereFirst: seconds(60) });
  const alone = Promise.withResolvers<void>();
  const fails = runScript((names) =>
    names.includes("l") ? { started: () => alone.promise, state: "exit status 1" } : {},
  );
  const id = await waitedFor(farm, NAMES, async () => {
    const helper = await farm.connect("linux", "helper", { script: fails });
    await until(() => expect(helper.calls).toContain("exec run"));
  });
  await farm.connect("linux", "other", { script: runScript(() => ({})) });
  alone.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 1 });
  const machines = (await testsOf(database, id)).map(({ name, machine }) => [name, machine]);
  expect(machines.at(-1)).toEqual(["l", "other"]);
  expect(machines.map(([, machine]) => machine)).not.toContain("main");
});

test("tests whose machine is waited for and that nobody works at are given to a helper, though none was worth its start; the log says how the build ended", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  const said: object[] = [];
  const info = (fields: object, text: string) => void (text === "A build ended" && said.push(fields));
  await using farm = await TestFarm.open(database, { snapshots: trees(), log: { ...quiet, info } });
  const id = await waitedFor(farm, ["a", "b", "c"], async () => {});
  await farm.connect("linux", "other", { script: runScript(() => ({})) });
  const { sql, bus } = database;
  const deps = { sql, heart: sql, bus, clock: systemClock, log: quiet, coordinator: farm.coordinator };
  const helpers = () => sql.query("select from helper");
  await new Recovery({ ...deps, alone: false, endInstance: async () => {}, lost: () => {} }).look();
  expect((await helpers()).length).toBe(0); // it has only just been lost
  await new Recovery({ ...deps, alone: false, endInstance: async () => {}, lost: () => {}, aloneFor: ms(0) }).look();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect((await testsOf(database, id)).map(({ machine }) => machine)).toEqual(["other", "other", "other"]);
  const ended = { build: id, builder: "linux-amd64", machine: "other", outcome: "success", tookMs: expect.any(Number) };
  await until(() => expect(said).toEqual([ended]));
});

test("a build whose tests cannot be given to a helper keeps help from no other", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { snapshots: trees() });
  const refused = await waitedFor(farm, ["a", "b", "c"], async () => {});
  const helped = await waitedFor(farm, ["a", "b", "c"], async () => {}, "second");
  const warned: object[] = [];
  const log = { ...quiet, warn: (fields: object) => void warned.push(fields) };
  const { sql, bus } = database;
  const breaking = (inner: Sql): Sql => ({
    query: (text, params) =>
      text.includes("into helper") && params?.[0] === refused
        ? Promise.reject(new Error("no helper today"))
        : inner.query(text, params),
    tx: (work) => inner.tx((tx) => work(breaking(tx))),
  });
  const deps = { sql: breaking(sql), heart: sql, bus, clock: systemClock, log, coordinator: farm.coordinator };
  await new Recovery({ ...deps, alone: false, endInstance: async () => {}, lost: () => {}, aloneFor: ms(0) }).look();
  expect(await sql.query("select build_id as build from helper")).toEqual([{ build: helped }]);
  expect(warned).toEqual([{ build: refused, error: "no helper today" }]);
});

test("a helper whose lease was taken away leaves nothing running on its machine", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  const clock = new FakeClock();
  await using farm = await TestFarm.open(database, { clock, snapshots: trees() });
  const [main, helper] = [new FakeProcess(), new FakeProcess()];
  await farm.connect("linux", "main", { process: main });
  await planTests(database, testsSpec(NAMES, { ...QUICK, results: "markers" }), { now: clock.now() });
  await until(() => main.exit("make"));
  await farm.connect("linux", "helper", { process: helper });
  await until(() => expect(groupOf(helper).names).not.toEqual([]));
  await database.sql.query("update lease set state = 'ended', end_reason = 'taken back' where kind = 'helper'");
  await clock.advance(CHECK_EVERY);
  await until(() => expect(farm.released).toEqual([{ name: "helper", how: "clean" }]));
  expect(helper.running).toEqual([]);
});

test("a build that is skipped while its machine is waited for stops what its helpers run", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  const policy = { pause: () => seconds(60), elsewhereFirst: seconds(60) };
  await using farm = await TestFarm.open(database, { snapshots: trees(), policy });
  const helper = new FakeProcess();
  const original = await farm.connect("linux", "main", { script: runScript(() => ({ ends: "hang" })) });
  const id = await planTests(database, testsSpec(NAMES, QUICK));
  await until(() => expect(original.calls).toContain("exec run"));
  await farm.connect("linux", "helper", { process: helper });
  await until(() => expect(groupOf(helper).names).not.toEqual([]));
  await farm.disconnect(original);
  await until(async () => {
    const skipped = await skipBuilds(database.sql, [id], "overtaken", systemClock.now());
    expect(skipped.map((build) => build.id)).toEqual([id]);
    for (const build of skipped) publishEnded(database.bus, build);
  });
  await until(() => expect(farm.released).toContainEqual({ name: "helper", how: "clean" }));
  expect(helper.running).toEqual([]);
});

/**
 * A build with one test, whose machine went away before the command of its group began. `stuck`: how the machine
 * behaves until then.
 */
async function cutBeforeItBegan(farm: TestFarm, over: Partial<TestsSpec>, stuck: Partial<FakeMachineOptions>) {
  const process = new FakeProcess();
  const before = await farm.connect("linux", "main", { process, ...stuck });
  const id = await planTests(farm.database, testsSpec(["a"], over));
  await until(() => process.exit("make"));
  const parked = () => farm.database.sql.query("select from lease where parked_until is not null");
  await until(async () => {
    const [group] = await farm.database.sql.query("select from test_group");
    expect(group).toBeDefined();
  });
  if (!before.gone.aborted) await farm.disconnect(before);
  await until(async () => expect((await parked()).length).toBe(1));
  expect(process.started).toEqual(["make"]);
  return { id, process };
}

test("a group that is taken up before its command began has its file of names", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database);
  const { id, process } = await cutBeforeItBegan(farm, { names: "file" }, { dieIn: "write" });
  const back = await farm.connect("linux", "main", { process });
  await until(() => expect(groupOf(process).names).toHaveLength(1));
  const [file = ""] = groupOf(process).names;
  expect(back.files.get(file.replace("/build/", ""))?.toString()).toBe("a\n");
  process.exit("run");
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
});

test("a group that is taken up before its command began has no reports of earlier ones, and one taken up later keeps its own", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database);
  const hangs = { ls: () => new Promise<never>(() => {}) };
  const { id, process } = await cutBeforeItBegan(farm, { results: { junit: "out/*.xml" } }, hangs);
  const back = await farm.connect("linux", "main", {
    process,
    leaves: { "src/out/old.xml": report("a", "<failure/>") },
  });
  await until(() => expect(groupOf(process).names).toEqual(["a"]));
  expect([back.calls, [...back.files.keys()]]).toEqual([["removeall src/out/old.xml", "exec run"], []]);

  await farm.disconnect(back);
  const again = await farm.connect("linux", "main", { process, leaves: { "src/out/a.xml": report("a") } });
  await until(() => expect(again.calls).toEqual(["exec run"]));
  process.exit("run");
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect([again.calls.slice(0, 2), process.started]).toEqual([
    ["exec run", "tgz src/out 1"],
    ["make", "run"],
  ]);
});

function report(name: string, inside = ""): Buffer {
  return Buffer.from(`<testsuite name="s"><testcase name="${name}" time="0.5">${inside}</testcase></testsuite>`);
}

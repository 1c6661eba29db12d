/** What the log of the step `tests` says about the groups of all machines. */
import { expect, test, vi } from "vitest";
import { ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { Recovery } from "./recovery.ts";
import { FakeProcess } from "./testing/fake-process.ts";
import { TestFarm } from "./testing/farm.ts";
import { endedBuild, planTests, runScript, stepLogs, testsSpec, trees } from "./testing/tests.ts";

const quickly = () => ({ policy: { elsewhereFirst: ms(50), pause: () => ms(1) }, snapshots: trees() });
const took = (log: string): string => log.replace(/ after [0-9.]+ m?s\b/g, " after a while");

test("the log has a line for each group of every machine, in the order in which they ended, and says where a failed test runs again", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { ...quickly(), elsewhereFirst: ms(20_000) });
  const spec = testsSpec(["long", "flaky", "bad"], { helpers: 1, groupTargetMs: 100 });
  const long = Promise.withResolvers<void>();
  let flaked = 0;
  const script = runScript(([name]) => {
    if (name === "long") return { started: () => long.promise };
    const fails = name === "bad" || flaked++ === 0;
    return fails ? { state: "exit status 1" } : {};
  });
  await farm.connect("linux", "riverboard", { script });
  const id = await planTests(database, spec);
  await vi.waitFor(async () => {
    expect(await database.sql.query("select from test_group")).toHaveLength(1);
    expect(await database.sql.query("select from lease where kind = 'helper' and state = 'wanted'")).toHaveLength(1);
  });
  await farm.connect("linux", "cellar-7", { script });
  const failed = "select from test where failures = 1";
  await vi.waitFor(async () => expect(await database.sql.query(failed)).toHaveLength(2));
  long.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure" });
  await vi.waitFor(async () => expect((await stepLogs(farm, id))[0]).toMatch(/flaky\n$/));
  const [log = ""] = await stepLogs(farm, id);
  expect(took(log)).toBe(`
3 tests, 3 never ran before, about 9.0 s on one machine, up to 1 more may help

cellar-7: flaky: exit status 1 after a while
cellar-7: bad: exit status 1 after a while
riverboard: long: ok after a while
failed: flaky on cellar-7, runs again on riverboard
riverboard: flaky: ok after a while
flaky: flaky failed on cellar-7 and passed on riverboard
failed: bad on cellar-7, runs again on riverboard
riverboard: bad: exit status 1 after a while
failed: bad on cellar-7 and on riverboard

failed: bad on cellar-7
flaky: flaky failed on cellar-7 and then passed
3 tests: 1 failed, 1 flaky
`);
});

test("what helpers ended while the build's own machine was lost, and what that one ran, is in the log of the attempt that goes on", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { ...quickly(), elsewhereFirst: ms(50) });
  const names = ["a", "b", "c", "d"];
  const last = Promise.withResolvers<void>();
  const main = await farm.connect("linux", "main", { script: runScript(() => ({ ends: "hang" })) });
  const id = await planTests(database, testsSpec(names, { helpers: 1, groupTargetMs: 100 }));
  await vi.waitFor(() => expect(main.commands.at(-1)?.args).toEqual(["a"]));
  const script = runScript(([name]) => (name === "d" ? { started: () => last.promise } : {}));
  await farm.connect("linux", "helper", { script });
  const ended = "select from test_group where state = 'ended'";
  await vi.waitFor(async () => expect(await database.sql.query(ended)).toHaveLength(2));
  await farm.disconnect(main);
  await vi.waitFor(async () => {
    expect(await database.sql.query("select from attempt where outcome = 'infra_failure'")).toHaveLength(1);
  });
  await farm.connect("linux", "second", { script });
  await vi.waitFor(async () => {
    expect(await database.sql.query("select from test where state <> 'ended'")).toHaveLength(1);
  });
  last.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  await vi.waitFor(async () => expect((await stepLogs(farm, id)).at(-1)).toMatch(/flaky\n$/));
  const logs = (await stepLogs(farm, id)).join("");
  const told = [...logs.matchAll(/^(\w+: \w: \w+)/gm)].map(([, line]) => line).toSorted();
  const groups = await database.sql.query<{ line: string }>(
    `select m.name || ': ' || t.name || ': ' || substring(g.status from '^\\w+') as line
     from test_group g join machine m on m.id = g.machine_id join test t on t.build_id = g.build_id and t.number = g.tests[1]`,
  );
  expect(told).toEqual(groups.map(({ line }) => line).toSorted());
  expect(told).toContain("main: a: machine");
});

test("the log says of what is slow where it runs again", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, quickly());
  const slow = await farm.connect("linux", "cellar-7", { script: runScript(() => ({ ends: "hang" })) });
  const id = await planTests(database, testsSpec([..."abcdefgh"], { helpers: 1, groupTargetMs: 100, unknownMs: 50 }));
  await vi.waitFor(() => expect(slow.commands.at(-1)?.cmd).toBe("run"));
  await farm.connect("linux", "riverboard", { script: runScript(() => ({})) });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  await vi.waitFor(async () => expect((await stepLogs(farm, id))[0]).toMatch(/flaky\n$/));
  const [log = ""] = await stepLogs(farm, id);
  expect(log.replace(/ (for|after) [0-9.]+ m?s\b/g, " $1 a while")).toContain(
    "slow: a on cellar-7 for a while, runs again on riverboard\nriverboard: a: ok after a while\n",
  );
});

test("the log that a lost machine left is ended with what helpers did since, when they ended the build, and stays open until then", async () => {
  await using database = await freshDatabase();
  const { sql, bus } = database;
  await addHostType(sql, "linux");
  await using farm = await TestFarm.open(database, quickly());
  const process = new FakeProcess();
  const id = await planTests(database, testsSpec(["a", "b"], { helpers: 1, groupTargetMs: 100 }));
  const main = await farm.connect("linux", "main", { process });
  await vi.waitFor(() => process.exit("make"));
  await vi.waitFor(() => expect(process.started).toContain("run"));
  const last = Promise.withResolvers<void>();
  let groups = 0;
  const script = runScript(() => (groups++ === 0 ? { started: () => last.promise } : {}));
  await farm.connect("linux", "helper", { script });
  await vi.waitFor(() => expect(groups).toBe(1));
  await farm.disconnect(main);
  await vi.waitFor(async () => {
    expect(await sql.query("select from lease where parked_until is not null")).toHaveLength(1);
  });
  const clock = new FakeClock();
  const look = async (after: number): Promise<unknown> => {
    clock.jump(ms(systemClock.now() + after - clock.now()));
    const { coordinator } = farm;
    await using recovery = new Recovery({
      sql,
      heart: sql,
      bus,
      clock,
      log: quiet,
      coordinator,
      alone: true,
      endInstance: async () => {},
      lost: () => {},
    });
    await recovery.look();
    return sql.query("select l.ended from log l join step s on s.log_id = l.id where s.name = 'tests'");
  };
  expect(await look(600_000)).toEqual([{ ended: false }]);
  last.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(await look(0)).toEqual([{ ended: false }]);
  expect(await look(61_000)).toEqual([{ ended: true }]);
  const [log = ""] = await stepLogs(farm, id);
  expect(took(log)).toMatch(
    /^\n2 tests, .*\n\nhelper: b: ok after a while\nslow: a on main for .*, runs again on helper\nhelper: a: ok after a while\nmain: a: others had ended its tests\n$/,
  );
  const [row] = await sql.query(
    "select length, lines from log l join step s on s.log_id = l.id where s.name = 'tests'",
  );
  expect(row).toEqual({ length: log.length, lines: log.split("\n").length - 1 });
});

/** The time of a build: what its own commands may take, however long the farm and its machines took before them. */
import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { ms } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { helpThoseLeftAlone } from "./help.ts";
import { Recovery } from "./recovery.ts";
import { FakeProcess } from "./testing/fake-process.ts";
import { TestFarm, type TestFarmOptions } from "./testing/farm.ts";
import { endedBuild, planTests, testsSpec, trees } from "./testing/tests.ts";

const LIMIT = { buildMs: 700 };

async function opened(database: TestDatabase, clock: FakeClock, options: TestFarmOptions = {}): Promise<TestFarm> {
  await addHostType(database.sql, "linux");
  return TestFarm.open(database, { clock, policy: { elsewhereFirst: ms(5), pause: () => ms(5) }, ...options });
}

const plan = (database: TestDatabase, clock: FakeClock) =>
  planTests(database, testsSpec(["a"]), { limits: LIMIT, now: clock.now() });

/** A machine whose command `make` waits for `started` and ends well. */
const made = (started: () => Promise<void>) => ({
  script: ({ cmd }: { readonly cmd: string }) => (cmd === "make" ? { started } : {}),
});

/** Moves the clock on in small steps until `done` does not throw. */
async function until(clock: FakeClock, done: () => void | Promise<void>, step = ms(1)): Promise<void> {
  await vi.waitFor(
    async () => {
      await clock.advance(step);
      await done();
    },
    { timeout: 8000, interval: 5 },
  );
}

test("a source that comes late takes nothing from the time of the build's own commands", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const source = Promise.withResolvers<Readable>();
  const tarball = vi.fn(() => source.promise);
  await using farm = await opened(database, clock, { tarball });
  await farm.connect(
    "linux",
    "m1",
    made(() => clock.advance(ms(650))),
  );
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(tarball).toHaveBeenCalled());
  await clock.advance(ms(650));
  source.resolve(Readable.from([Buffer.alloc(10)]));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
});

test("commands that use up the time of their build fail it", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await opened(database, clock);
  await farm.connect(
    "linux",
    "m1",
    made(() => clock.advance(ms(700))),
  );
  const id = await plan(database, clock);
  const reason = "timed out: its build has 700 ms";
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason, failed_step: "make" });
});

test("what an attempt took that was lost takes nothing from the commands of the next one", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await opened(database, clock);
  const gate = Promise.withResolvers<void>();
  const first = await farm.connect(
    "linux",
    "m1",
    made(() => gate.promise),
  );
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(first.calls).toContain("exec make"));
  await clock.advance(ms(600));
  await farm.disconnect(first);
  const second = await farm.connect(
    "linux",
    "m2",
    made(() => clock.advance(ms(650))),
  );
  await until(clock, () => expect(second.calls).toContain("exec make"));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  const attempts = await database.sql.query("select outcome, reason from attempt order by number");
  expect(attempts).toEqual([
    { outcome: "infra_failure", reason: "machine gone: hung up" },
    { outcome: "success", reason: null },
  ]);
  gate.resolve();
});

test("a source that is not there in the build's time is the farm's failure, says what was waited for, and is not tried again", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const tarball = vi.fn(() => new Promise<Readable>(() => {}));
  await using farm = await opened(database, clock, { tarball });
  await farm.connect("linux", "m1");
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(tarball).toHaveBeenCalled());
  await clock.advance(ms(700));
  const waited = "out of time: it waited for the source of tool to be on m1";
  expect(await endedBuild(database, id)).toMatchObject({
    outcome: "infra_failure",
    reason: `${waited}; it is not tried again: the farm has used up the 700 ms of the build`,
    failed_step: null,
  });
  const attempts = await database.sql.query("select outcome, reason, machine_fault from attempt");
  expect(attempts).toEqual([{ outcome: "infra_failure", reason: waited, machine_fault: false }]);
});

test("a source that stops in the middle is waited for as one that is not there, and that is not its machine's fault", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const body = new Readable({ read() {} });
  body.push(Buffer.alloc(10));
  await using farm = await opened(database, clock, { tarball: async () => body });
  const machine = await farm.connect("linux", "m1");
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(machine.received).toBe(10));
  await clock.advance(ms(700));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "infra_failure" });
  expect(await database.sql.query("select machine_fault from attempt")).toEqual([{ machine_fault: false }]);
});

test.each([
  ["removeall", "m1 to be cleaned"],
  ["writetgz", "the source of tool to be on m1"],
] as const)(
  "a machine that hangs in /%s for all the time of a build is at fault, and another does the build",
  async (hangIn, waited) => {
    await using database = await freshDatabase();
    const clock = new FakeClock();
    await using farm = await opened(database, clock);
    const first = await farm.connect("linux", "m1", { hangIn });
    const id = await plan(database, clock);
    await vi.waitFor(() => expect(first.calls.at(-1)).toMatch(hangIn));
    await clock.advance(ms(700));
    const second = await farm.connect("linux", "m2");
    await until(clock, () => expect(second.calls).toContain("exec make"));
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
    expect(await database.sql.query("select outcome, reason, machine_fault from attempt order by number")).toEqual([
      { outcome: "infra_failure", reason: `out of time: it waited for ${waited}`, machine_fault: true },
      { outcome: "success", reason: null, machine_fault: false },
    ]);
  },
);

test("an attempt that was lost when the farm had used up the build's time is the last", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  const source = Promise.withResolvers<Readable>();
  await using farm = await opened(database, clock, { tarball: () => source.promise });
  const first = await farm.connect("linux", "m1", { script: () => ({ ends: "hang" }) });
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(first.calls).toContain("removeall ."));
  await clock.advance(ms(100));
  source.resolve(Readable.from([Buffer.alloc(10)]));
  await vi.waitFor(() => expect(first.calls).toContain("exec make"));
  await clock.advance(ms(600));
  await farm.disconnect(first);
  const reason = "machine gone: hung up; it is not tried again: the farm has used up the 700 ms of the build";
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "infra_failure", reason });
});

test("a machine that comes back after the time of its build has used up none of it by being away", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await opened(database, clock);
  const process = new FakeProcess();
  const main = await farm.connect("linux", "main", { process });
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(process.started).toEqual(["make"]));
  await clock.advance(ms(100));
  await farm.disconnect(main);
  const parked = () => database.sql.query("select from lease where parked_until is not null");
  await vi.waitFor(async () => expect(await parked()).toHaveLength(1));
  process.exit("make");
  await clock.advance(ms(700));
  await farm.connect("linux", "main", { process });
  await vi.waitFor(() => process.exit("run"));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
});

test("a machine that is waited for in vain has used up none of its build's time by that, which is tried again", async () => {
  await using database = await freshDatabase();
  const { sql, bus } = database;
  const clock = new FakeClock();
  await using farm = await opened(database, clock);
  await sql.query("update host_type set reconnect_ms = 1000");
  const main = await farm.connect("linux", "main", { process: new FakeProcess() });
  const id = await plan(database, clock);
  await vi.waitFor(() => expect(main.calls).toContain("exec make"));
  await clock.advance(ms(100));
  await farm.disconnect(main);
  const parked = () => sql.query("select from lease where parked_until is not null");
  await vi.waitFor(async () => expect(await parked()).toHaveLength(1));
  const deps = { sql, heart: sql, bus, clock, log: quiet, coordinator: farm.coordinator };
  const recovery = new Recovery({ ...deps, alone: false, endInstance: async () => {}, lost: () => {} });
  expect(await recovery.look()).toBe(0);
  await clock.advance(ms(1000));
  expect(await recovery.look()).toBe(1);
  const advance = async () => void (await clock.advance(ms(500)));
  await farm.connect("linux", "other", made(advance));
  await until(clock, async () => {
    const [build] = await sql.query("select outcome from build where id = $1 and state = 'ended'", [id]);
    expect(build).toEqual({ outcome: "success" });
  });
});

test("what the farm itself does between a build's commands takes no longer than the build has, and is the farm's failure then", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await opened(database, clock);
  const ls = vi.fn(() => new Promise<string[]>(() => {}));
  await farm.connect("linux", "m1", { ...made(() => clock.advance(ms(650))), ls });
  const tests = testsSpec(undefined, { list: { foldersWith: "package.json" } });
  const id = await planTests(database, tests, { limits: LIMIT, now: clock.now() });
  await vi.waitFor(() => expect(ls).toHaveBeenCalled());
  await clock.advance(ms(50));
  const late = "timed out: its build has 700 ms; it waited for listing folders of m1";
  expect(await endedBuild(database, id)).toMatchObject({
    outcome: "infra_failure",
    reason: `${late}; it is not tried again: the farm has used up the 700 ms of the build`,
  });
});

test("a helper whose build has used up its time before it had the tree is at no fault, and nobody comes in its place", async () => {
  await using database = await freshDatabase();
  const { sql, bus } = database;
  const clock = new FakeClock();
  const unpacking = vi.fn(() => new Promise<never>(() => {}));
  await using farm = await opened(database, clock, { snapshots: { ...trees(), restore: unpacking } });
  const process = new FakeProcess();
  const main = await farm.connect("linux", "main", { process });
  const tests = testsSpec(["a", "b", "c", "d"], { helpers: 1, groupTargetMs: 100 });
  await planTests(database, tests, { limits: LIMIT, now: clock.now() });
  await vi.waitFor(() => process.exit("make"));
  await vi.waitFor(() => expect(main.calls).toContain("exec run"));
  await farm.connect("linux", "helper");
  await vi.waitFor(() => expect(unpacking).toHaveBeenCalled());
  await farm.disconnect(main);
  const parked = () => sql.query("select from lease where parked_until is not null");
  await vi.waitFor(async () => expect(await parked()).toHaveLength(1));
  await clock.advance(ms(700));
  const helpers = () => sql.query("select end_reason, failed from helper h join lease l on l.id = h.lease_id");
  const end_reason = "the time of its build was over before it had the tree";
  await vi.waitFor(async () => expect(await helpers()).toEqual([{ end_reason, failed: false }]));
  await vi.waitFor(() => expect(farm.builds.running).toBe(0));
  await helpThoseLeftAlone({ sql, bus, clock, log: quiet }, () => true);
  expect(await helpers()).toHaveLength(1);
});

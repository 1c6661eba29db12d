import { expect, onTestFinished, test } from "vitest";
import { type BuildId, type LogId, minutes, ms, seconds } from "../farm/ids.ts";
import { RECONNECT_WITHIN } from "../farm/lease.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import { FLUSH_AFTER } from "../logs/writer.ts";
import { cancelBuild } from "../store/builds.ts";
import { attemptsOf } from "../store/pages-build.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addHostType, NOON, testRecipe } from "../store/testing/farm.ts";
import { CHECK_EVERY } from "./builds.ts";
import { insertPlanned } from "./insert.ts";
import { Recovery } from "./recovery.ts";
import { AwaySql, CutSql, FailingSql, SlowSql } from "./testing/cut-sql.ts";
import { FakeProcess } from "./testing/fake-process.ts";
import { TestFarm, type TestFarmOptions } from "./testing/farm.ts";

let commits = 0;

async function plan(database: TestDatabase, steps: readonly string[]): Promise<BuildId> {
  await addHostType(database.sql, "linux");
  const commitId = await addCommit(database.sql, "tool", String(++commits).padStart(40, "0"));
  const recipe = testRecipe("linux-amd64", "linux", steps);
  const planned = { repo: "tool", commitId, committedAt: NOON, branch: "main", head: true, recipe } as const;
  const [build] = await insertPlanned(
    database.sql,
    [{ ...planned, provenance: "submitted", class: "post-submit" }],
    NOON,
  );
  if (!build) throw new Error("not planned");
  database.bus.publish("queue:linux");
  return build.id;
}

async function look(database: TestDatabase, id: BuildId) {
  const [build] = await database.sql.query<{ state: string; outcome: string | null; reason: string | null }>(
    "select state, outcome, reason from build where id = $1",
    [id],
  );
  const attempts = await database.sql.query<{ outcome: string | null; reason: string | null; counts: boolean }>(
    "select outcome, reason, counts from attempt where build_id = $1 order by number",
    [id],
  );
  const [lease] = await database.sql.query<{ state: string; epoch: number; parked: boolean }>(
    `select l.state, l.epoch, l.parked_until is not null as parked from lease l join attempt a on a.lease_id = l.id
     where a.build_id = $1 order by a.number desc limit 1`,
    [id],
  );
  return { ...build, attempts, lease };
}

const soon = (database: TestDatabase, id: BuildId, wanted: object) =>
  until(async () => expect(await look(database, id)).toMatchObject(wanted));

async function logOf(database: TestDatabase, farm: TestFarm, id: BuildId, step: string): Promise<string> {
  const [row] = await database.sql.query<{ log: LogId }>(
    "select s.log_id as log from step s join attempt a on a.id = s.attempt_id where a.build_id = $1 and s.name = $2",
    [id, step],
  );
  const parts: Buffer[] = [];
  if (row?.log) for await (const part of farm.logs.read(row.log)) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** Waits until the log of a step has `text`, so that the test knows what is stored. */
const shows = (database: TestDatabase, farm: TestFarm, id: BuildId, step: string, text: string) =>
  until(async () => expect(await logOf(database, farm, id, step)).toBe(text));

function farmOf(database: TestDatabase, name: string, options: TestFarmOptions = {}): Promise<TestFarm> {
  return TestFarm.open(database, { coordinator: name, ...options });
}

function recoveryOf(
  { sql, bus }: Pick<TestDatabase, "sql" | "bus">,
  farm: TestFarm,
  alone = true,
  clock = systemClock,
): Recovery {
  return new Recovery({
    sql,
    heart: sql,
    bus,
    clock,
    log: quiet,
    coordinator: farm.coordinator,
    alone,
    endInstance: async () => {},
    lost: () => {},
  });
}

/** A build whose first command runs on m1 and has printed a line. */
async function begun(
  database: TestDatabase,
  farm: TestFarm,
  steps: readonly [string, ...string[]] = ["make"],
  process: FakeProcess = new FakeProcess(),
) {
  const id = await plan(database, steps);
  const machine = await farm.connect("linux", "m1", { process });
  await until(() => process.print(steps[0], "one\n"));
  return { id, process, machine };
}

/** A build whose first command has printed a line, and whose machine m1 went away. */
async function left(database: TestDatabase, farm: TestFarm) {
  const { id, process, machine } = await begun(database, farm);
  await farm.disconnect(machine);
  await soon(database, id, { lease: { parked: true } });
  return { id, process };
}

test("a machine that lost its connection in the middle of output goes on where the log ends, and runs nothing twice", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process, machine: before } = await begun(database, farm, ["make", "test"]);
  await shows(database, farm, id, "make", "one\n");
  before.hangUp("cut");
  await soon(database, id, { state: "running", lease: { state: "held", epoch: 1, parked: true } });
  expect(await attemptsOf(database.sql, id)).toMatchObject([{ machine: "m1", parkedUntil: expect.any(Number) }]);
  process.print("make", "two\n");
  process.exit("make");
  await farm.disconnect(before);
  const after = await farm.connect("linux", "m1", { process });
  await until(() => process.print("test", "three\n"));
  process.exit("test", "exit status 1");
  await soon(database, id, { state: "ended", outcome: "failure", reason: "exit status 1", attempts: [{}] });
  expect(await logOf(database, farm, id, "make")).toBe("one\ntwo\n");
  expect(await logOf(database, farm, id, "test")).toBe("three\n");
  expect(process.started).toEqual(["make", "test"]);
  expect(before.calls).toEqual(["removeall .", "writetgz src", "exec make"]);
  expect(after.calls).toEqual(["exec make", "exec test"]); // it was not cleaned
});

test("a machine that comes back before anybody knew that it was gone is taken up over its new connection", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process } = await begun(database, farm);
  await shows(database, farm, id, "make", "one\n");
  await farm.connect("linux", "m1", { process });
  await soon(database, id, { state: "running", lease: { state: "held", epoch: 2, parked: false } });
  process.print("make", "two\n");
  process.exit("make");
  await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
  expect(await logOf(database, farm, id, "make")).toBe("one\ntwo\n");
  expect(process.started).toEqual(["make"]);
});

test("an orderly stop of the coordinator parks what runs, and the next one goes on", async () => {
  await using database = await freshDatabase();
  const process = new FakeProcess();
  let id: BuildId;
  {
    await using farm = await farmOf(database, "P00000001");
    id = await plan(database, ["make"]);
    await farm.connect("linux", "m1", { process });
    await until(() => process.print("make", "one\n"));
    await shows(database, farm, id, "make", "one\n");
  }
  expect(await look(database, id)).toMatchObject({ state: "running", lease: { state: "held", parked: true } });
  process.print("make", "two\n");
  await using next = await farmOf(database, "P00000002");
  expect(await recoveryOf(database, next).look()).toBe(0);
  await next.connect("linux", "m1", { process });
  process.exit("make");
  await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
  expect(await logOf(database, next, id, "make")).toBe("one\ntwo\n");
  expect(process.started).toEqual(["make"]);
});

test("what a machine left is waited for so long, whatever wall clocks say, and then tried elsewhere with the reason", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001");
  const { id } = await left(database, farm);
  const recovery = recoveryOf(database, farm, false, clock);
  expect(await recovery.look()).toBe(0);
  clock.jump(seconds(86_400));
  await clock.advance(ms(RECONNECT_WITHIN - 1));
  expect(await recovery.look()).toBe(0);
  await clock.advance(ms(1));
  expect(await recovery.look()).toBe(1);
  const reason = "machine gone: waited 5m 00s in vain for m1 to come back";
  expect(await look(database, id)).toMatchObject({
    state: "scheduled",
    attempts: [{ outcome: "infra_failure", reason, counts: true }, {}],
  });
});

test("a machine is waited for as long as its host type has it", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001");
  const { id } = await left(database, farm);
  await database.sql.query("update host_type set reconnect_ms = $1", [minutes(30)]);
  const recovery = recoveryOf(database, farm, false, clock);
  expect(await recovery.look()).toBe(0);
  await clock.advance(ms(minutes(30) - 1));
  expect(await recovery.look()).toBe(0);
  await clock.advance(ms(1));
  expect(await recovery.look()).toBe(1);
  const reason = "machine gone: waited 30m 00s in vain for m1 to come back";
  expect(await look(database, id)).toMatchObject({ attempts: [{ reason }, {}] });
});

test("two looks at once at what machines left do not make it wait any longer", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001");
  await left(database, farm);
  const sql = new SlowSql(database.sql, "as restarted");
  const recovery = recoveryOf({ sql, bus: database.bus }, farm, false, clock);
  const first = recovery.look();
  await until(() => expect(sql.waiting).toBe(1));
  const both = Promise.all([first, recovery.look()]);
  await clock.advance(ms(RECONNECT_WITHIN - 1));
  sql.go();
  expect(await both).toEqual([0, 0]);
  await clock.advance(ms(1));
  expect(await recovery.look()).toBe(1);
});

test("a machine that comes back as another process is not waited for", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id } = await left(database, farm);
  await using recovery = recoveryOf(database, farm, false);
  await recovery.start();
  expect((await look(database, id)).attempts.length).toBe(1);
  await farm.connect("linux", "m1", { process: new FakeProcess() });
  database.bus.publish("machine:1");
  const reason = "machine gone: m1 came back as another process, without what it ran";
  await until(async () => {
    const { attempts } = await look(database, id);
    expect(attempts[0]).toMatchObject({ outcome: "infra_failure", reason });
  });
});

test("a machine that only calls itself like another gets none of its work, nor does another machine with its process's number", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process } = await left(database, farm);
  const liar = await farm.connect("linux", "m1", { process: new FakeProcess() });
  const thief = await farm.connect("linux", "m2", { process });
  const older = await farm.connect("linux", "m1");
  await until(() => expect(farm.claims.idle("linux")).toBe(3));
  await new Promise((resolve) => setImmediate(resolve));
  expect([liar.calls, thief.calls, older.calls]).toEqual([[], [], []]);
  expect(await look(database, id)).toMatchObject({ state: "running", lease: { epoch: 1, parked: true } });
});

test("a machine that joins under the name of one that works gets nothing of that, neither its lease nor its log, and does not disturb it", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process } = await begun(database, farm);
  await shows(database, farm, id, "make", "one\n");
  const another = new FakeProcess();
  const liar = await farm.connect("linux", "m1", { process: another });
  const older = await farm.connect("linux", "m1", { agent: "original" });
  database.bus.publish("machine:1");
  await using recovery = recoveryOf(database, farm, false);
  expect(await recovery.look()).toBe(0);
  await until(() => expect(farm.claims.idle("linux")).toBe(2));
  await farm.disconnect(liar); // nor does its end
  await recovery.look();
  process.print("make", "two\n");
  process.exit("make");
  await soon(database, id, {
    state: "ended",
    outcome: "success",
    attempts: [{ outcome: "success" }],
    lease: { epoch: 1 },
  });
  expect(await logOf(database, farm, id, "make")).toBe("one\ntwo\n");
  expect([liar.calls, older.calls, another.started, process.started]).toEqual([[], [], [], ["make"]]);
});

test("a coordinator that stood still while its work was adopted elsewhere writes nothing more, and one result counts", async () => {
  await using database = await freshDatabase();
  const process = new FakeProcess();
  await using slow = await farmOf(database, "P00000001");
  const { id } = await begun(database, slow, ["make", "test"], process);
  await shows(database, slow, id, "make", "one\n");
  await using farm = await farmOf(database, "P00000002");
  expect(await recoveryOf(database, farm).look()).toBe(0); // declared dead, its lease parked
  await farm.connect("linux", "m1", { process });
  await soon(database, id, { lease: { epoch: 2, parked: false } });
  // Both are attached here, which a real machine does not allow: all that the first still hears, it tries to write.
  process.print("make", "two\n");
  process.exit("make");
  await until(() => process.print("test", "three\n"));
  process.exit("test", "exit status 3");
  await soon(database, id, { state: "ended", outcome: "failure", reason: "exit status 3" });
  await until(() => expect(slow.builds.running).toBe(0));
  expect(await logOf(database, farm, id, "make")).toBe("one\ntwo\n");
  expect(await logOf(database, farm, id, "test")).toBe("three\n");
  expect(process.started).toEqual(["make", "test"]);
  expect((await look(database, id)).attempts).toEqual([{ outcome: "failure", reason: "exit status 3", counts: true }]);
});

test("a coordinator that was declared dead leaves alone what was parked, and the next one goes on with it", async () => {
  await using database = await freshDatabase();
  const process = new FakeProcess();
  const clock = new FakeClock();
  await using slow = await farmOf(database, "P00000001", { clock });
  const { id, machine: before } = await begun(database, slow, ["make"], process);
  await until(async () => {
    await clock.advance(FLUSH_AFTER);
    expect(await logOf(database, slow, id, "make")).toBe("one\n");
  });
  await using farm = await farmOf(database, "P00000002");
  await recoveryOf(database, farm).look();
  expect(await look(database, id)).toMatchObject({ lease: { state: "held", epoch: 1, parked: true } });
  await clock.advance(CHECK_EVERY); // it asks whether what it runs is still wanted
  before.hangUp("cut"); // and then stops, or loses its machine
  await until(() => expect(slow.builds.running).toBe(0));
  expect(await look(database, id)).toMatchObject({ state: "running", attempts: [{ outcome: null }] });
  await farm.connect("linux", "m1", { process });
  await until(() => process.exit("make"));
  await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
  expect(process.started).toEqual(["make"]);
});

test("the log of a build that was canceled while nobody drove it ends a minute later", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001");
  const { id, machine } = await begun(database, farm);
  await shows(database, farm, id, "make", "one\n");
  await farm.disconnect(machine);
  await soon(database, id, { lease: { parked: true } });
  await farm.builds.cancel(id, "Ada");
  const recovery = recoveryOf(database, farm, true, clock);
  const open = async () => (await database.sql.query("select id from log where not ended")).length;
  clock.jump(ms(systemClock.now() - clock.now()));
  await recovery.look();
  expect(await open()).toBe(1); // its driver may be storing the rest
  clock.jump(seconds(61));
  await recovery.look();
  expect(await open()).toBe(0);
  expect(await logOf(database, farm, id, "make")).toBe("one\n");
});

test("a build that is canceled while nobody drives it ends, and its machine is cleaned before it works again", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process } = await left(database, farm);
  await farm.builds.cancel(id, "Ada");
  expect(await look(database, id)).toMatchObject({ state: "ended", outcome: "canceled", lease: { state: "ended" } });
  const other = await plan(database, ["other"]);
  const back = await farm.connect("linux", "m1", { process });
  await until(() => process.exit("other"));
  await soon(database, other, { state: "ended", outcome: "success" });
  expect(back.calls).toEqual(["removeall .", "writetgz src", "exec other"]);
  expect(process.idOf("make")).toBeUndefined();
});

test("canceling kills the command on a machine that resumes, and the machine goes on to the next build", async () => {
  await using database = await freshDatabase();
  await using farm = await farmOf(database, "P00000001");
  const { id, process, machine } = await begun(database, farm);
  await farm.builds.cancel(id, "Ada");
  await until(() => expect(farm.released).toEqual([{ name: "m1", how: "clean" }]));
  expect(machine.calls.at(-1)).toMatch(/^end a\d+\.1$/);
  expect(process.idOf("make")).toBeUndefined();
});

test("a coordinator killed at any of 32 points, before or after a statement: the next goes on, and no command runs twice", async () => {
  const text = (cmd: string): string => `${cmd}\n`.repeat(50);
  for (let point = 0; point < 32; point++) {
    await using database = await freshDatabase();
    const process = new FakeProcess(text);
    const sql = new CutSql(database.sql, 1 + (point >> 1), point % 2 === 1);
    const id = await plan(database, ["make", "test"]);
    {
      await using victim = await farmOf(database, `PV${String(point).padStart(7, "0")}`, { sql });
      await victim.connect("linux", `m${point}`, { process });
      await until(async () => expect(sql.cut || (await look(database, id)).state === "ended").toBe(true));
    }
    await using next = await farmOf(database, `PN${String(point).padStart(7, "0")}`);
    await recoveryOf(database, next).look();
    await next.connect("linux", `m${point}`, { process });
    await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
    expect(process.started, `point ${point}`).toEqual(["make", "test"]);
    for (const step of ["make", "test"]) expect(await logOf(database, next, id, step)).toBe(text(step));
  }
}, 300_000);

test("while the database is away a command goes on, and nothing of it is lost", async () => {
  await using database = await freshDatabase();
  const sql = new AwaySql(database.sql);
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001", { sql, clock });
  const { id, process } = await begun(database, farm);
  const meanwhile = (check: () => Promise<void> | void) =>
    until(async () => {
      await clock.advance(seconds(1));
      await check();
    });
  sql.away = true;
  process.print("make", "two\n");
  process.exit("make");
  await meanwhile(() => expect(sql.refused).toBeGreaterThan(10));
  expect(await look(database, id)).toMatchObject({ state: "running" });
  sql.away = false;
  const done = { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] };
  await meanwhile(async () => expect(await look(database, id)).toMatchObject(done));
  expect(await logOf(database, farm, id, "make")).toBe("one\ntwo\n");
});

test("a log that cannot be stored is no fault of the machine, and nothing runs on there", async () => {
  await using database = await freshDatabase();
  const sql = new FailingSql(database.sql, ["insert into log_chunk"]);
  await using farm = await farmOf(database, "P00000001", { sql });
  const id = await plan(database, ["make"]);
  const process = new FakeProcess();
  await farm.connect("linux", "m1", { process });
  await until(() => expect(process.started).toEqual(["make"]));
  const execution = process.idOf("make");
  sql.fails = true;
  const printing = setInterval(() => process.idOf("make") === execution && process.print("make", "one\n"), 20);
  onTestFinished(() => clearInterval(printing));
  const reason = "the coordinator failed: no such file of the server";
  await soon(database, id, { attempts: [{ outcome: "infra_failure", reason }, {}] });
  await until(() => expect(farm.released[0]).toEqual({ name: "m1", how: "clean" }));
  expect(process.idOf("make")).not.toBe(execution);
  expect(await database.sql.query("select machine_fault from attempt order by id limit 1")).toEqual([
    { machine_fault: false },
  ]);
});

test("an attempt whose end could not be written goes on when its machine comes back, in the tree that it has", async () => {
  await using database = await freshDatabase();
  const sql = new FailingSql(database.sql, ["insert into log_chunk", "machine_fault"]);
  await using farm = await farmOf(database, "P00000001", { sql });
  const id = await plan(database, ["make"]);
  const process = new FakeProcess();
  await farm.connect("linux", "m1", { process });
  await until(() => expect(process.started).toEqual(["make"]));
  sql.fails = true;
  let printed = "";
  await until(() => {
    process.print("make", "one\n");
    printed += "one\n";
    expect(farm.released).toEqual([{ name: "m1", how: "elsewhere" }]);
  });
  sql.fails = false;
  const back = await farm.connect("linux", "m1", { process });
  process.exit("make");
  await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
  expect([process.started, back.calls]).toEqual([["make"], ["exec make"]]);
  expect(await logOf(database, farm, id, "make")).toBe(printed);
});

test("a coordinator that stops while the database is away does not wait for it, and the next one goes on", async () => {
  await using database = await freshDatabase();
  const sql = new AwaySql(database.sql);
  const farm = await farmOf(database, "P00000001", { sql });
  const { id, process } = await begun(database, farm);
  sql.away = true;
  process.print("make", "two\n");
  await until(() => expect(sql.refused).toBeGreaterThan(0)); // the log waits for the database
  await farm[Symbol.asyncDispose]();
  await using next = await farmOf(database, "P00000002");
  await recoveryOf(database, next).look();
  await next.connect("linux", "m1", { process });
  process.exit("make");
  await soon(database, id, { state: "ended", outcome: "success", attempts: [{ outcome: "success" }] });
  expect([await logOf(database, next, id, "make"), process.started]).toEqual(["one\ntwo\n", ["make"]]);
}, 15_000);

test("a build that was canceled by a word that got lost stops running before its machine is free", async () => {
  await using database = await freshDatabase();
  const clock = new FakeClock();
  await using farm = await farmOf(database, "P00000001", { clock });
  const id = await plan(database, ["make"]);
  const process = new FakeProcess();
  await farm.connect("linux", "m1", { process });
  await until(() => expect(process.started).toEqual(["make"]));
  await cancelBuild(database.sql, id, "Ada", clock.now());
  await clock.advance(CHECK_EVERY);
  await until(() => expect(farm.released).toEqual([{ name: "m1", how: "clean" }]));
  expect(process.idOf("make")).toBeUndefined();
});

test("a lease whose machine left on its way here is given to another at once, and charged to nobody", async () => {
  await using database = await freshDatabase();
  const sql = new SlowSql(database.sql, "look_again_at");
  await using farm = await farmOf(database, "P00000001", { sql });
  const id = await plan(database, ["make"]);
  const machine = await farm.connect("linux", "m1", { process: new FakeProcess() });
  await until(() => expect(sql.waiting).toBe(1)); // claimed, and not heard of it yet
  await farm.disconnect(machine);
  sql.go();
  await soon(database, id, { attempts: [{ outcome: "infra_failure", counts: false }, { outcome: null }] });
  await farm.connect("linux", "m2", { process: new FakeProcess(() => "") });
  await soon(database, id, { state: "ended", outcome: "success" });
});

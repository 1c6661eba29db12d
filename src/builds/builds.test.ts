import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { type BuildId, type EpochMs, epochMs, type LogId, ms, seconds } from "../farm/ids.ts";
import { claimLease } from "../store/leases.ts";
import { queueLines, queueOf } from "../store/queue-line.ts";
import { freshDatabase, quiet, type TestDatabase } from "../store/testing/database.ts";
import { addCommit, addHostType, NOON, testRecipe } from "../store/testing/farm.ts";
import { insertPlanned, type PlannedBuild } from "./insert.ts";
import { SlowSql } from "./testing/cut-sql.ts";
import type { Script } from "./testing/fake-machine.ts";
import { TestFarm } from "./testing/farm.ts";

const QUICK = { elsewhereFirst: ms(100), pause: () => ms(1) };

async function plan(
  database: TestDatabase,
  over: Partial<PlannedBuild> = {},
  steps?: readonly string[],
): Promise<BuildId> {
  await addHostType(database.sql, "linux");
  const hash = Math.random().toString(16).slice(2).padEnd(40, "0");
  const commitId = over.commitId ?? (await addCommit(database.sql, "tool", hash, over.committedAt ?? NOON));
  const [build] = await insertPlanned(
    database.sql,
    [
      {
        repo: "tool",
        commitId,
        committedAt: NOON,
        branch: "main",
        head: true,
        recipe: testRecipe("linux-amd64", "linux", steps),
        provenance: "submitted",
        class: "post-submit",
        ...over,
      },
    ],
    NOON,
  );
  if (!build) throw new Error("not planned");
  database.bus.publish("queue:linux");
  return build.id;
}

interface Ended {
  state: string;
  outcome: string | null;
  reason: string | null;
  failed_step: string | null;
  attempts: { outcome: string; reason: string | null; counts: boolean; machine: string | null }[];
}

async function look(database: TestDatabase, id: BuildId): Promise<Ended> {
  const [build] = await database.sql.query<Ended>(
    "select state, outcome, reason, failed_step from build where id = $1",
    [id],
  );
  const attempts = await database.sql.query<Ended["attempts"][number]>(
    `select a.outcome, a.reason, a.counts, m.name as machine from attempt a left join machine m on m.id = a.machine_id
     where build_id = $1 order by number`,
    [id],
  );
  return { ...(build as Ended), attempts };
}

async function ended(database: TestDatabase, id: BuildId): Promise<Ended> {
  await vi.waitFor(async () => expect((await look(database, id)).state).toBe("ended"), {
    timeout: 10_000,
    interval: 5,
  });
  return look(database, id);
}

async function steps(database: TestDatabase, id: BuildId) {
  return database.sql.query<{ name: string; status: string | null; outcome: string | null; log_id: LogId | null }>(
    "select s.name, s.status, s.outcome, s.log_id from step s join attempt a on a.id = s.attempt_id where a.build_id = $1 order by a.number, s.number",
    [id],
  );
}

async function logText(farm: TestFarm, log: LogId | null | undefined): Promise<string> {
  const parts: Buffer[] = [];
  if (log) for await (const part of farm.logs.read(log)) parts.push(part);
  return Buffer.concat(parts).toString("latin1");
}

/** What must hold whenever nothing runs: nothing lost, nothing counted twice. */
async function consistent(database: TestDatabase): Promise<void> {
  const wrong = await database.sql.query(
    `select 'open build without one open attempt' as what, b.id from build b
       where b.state <> 'ended' and (select count(*) from attempt a where a.build_id = b.id and a.state <> 'ended') <> 1
     union all select 'ended build with an open attempt', b.id from build b join attempt a on a.build_id = b.id
       where b.state = 'ended' and a.state <> 'ended'
     union all select 'open attempt without an open lease', a.id from attempt a join lease l on l.id = a.lease_id
       where a.state <> 'ended' and l.state = 'ended'
     union all select 'ended attempt with an open lease', a.id from attempt a join lease l on l.id = a.lease_id
       where a.state = 'ended' and l.state <> 'ended'
     union all select 'two verdicts', build_id from attempt where outcome in ('success', 'failure') group by 2 having count(*) > 1
     union all select 'verdict of no attempt', b.id from build b where b.outcome in ('success', 'failure')
       and not exists (select from attempt a where a.build_id = b.id and a.outcome = b.outcome)
     union all select 'open log of an ended attempt', s.log_id from step s join attempt a on a.id = s.attempt_id join log on log.id = s.log_id
       where a.state = 'ended' and not log.ended`,
  );
  expect(wrong).toEqual([]);
}

test("the source step's log says how many links the machine did not make", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database, {}, ["make"]);
  await farm.connect("linux", "m1", { skippedLinks: 2 });
  await ended(database, id);
  const [source] = await steps(database, id);
  expect(await logText(farm, source?.log_id)).toMatch(
    /\nnot unpacked: 2 symbolic links that lead out of the tree or that m1 cannot make\n$/,
  );
});

test("[coordinator 63] the first call of a build is removeall of the work dir; then the source, then the steps in order", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database, {}, ["make", "test"]);
  const machine = await farm.connect("linux", "m1", { script: ({ cmd }) => ({ output: [`hello from ${cmd}\n`] }) });
  expect(await ended(database, id)).toMatchObject({ outcome: "success", reason: null, failed_step: null });
  expect(machine.calls).toEqual(["removeall .", "writetgz src", "exec make", "exec test"]);
  expect(machine.commands[0]).toEqual({
    cmd: "make",
    args: ["arg"],
    dir: "src",
    env: ["GO_BUILDER_NAME=linux-amd64"],
    path: [],
  });
  expect(machine.received).toBe(1000);
  const rows = await steps(database, id);
  expect(rows.map(({ name, status, outcome }) => [name, status, outcome])).toEqual([
    ["source", "ok", "success"],
    ["make", "ok", "success"],
    ["test", "ok", "success"],
  ]);
  expect(await logText(farm, rows[0]?.log_id)).toMatch(/^linux-amd64 at [0-9a-f]{40}\n\nwrote tool to m1 in .*\n$/);
  expect(await logText(farm, rows[2]?.log_id)).toBe("hello from test\n");
  await consistent(database);
});

test("the machine of a new build is emptied while the database is told of its beginning, and that once", async () => {
  await using database = await freshDatabase();
  const sql = new SlowSql(database.sql, "update attempt set state = 'running'");
  await using farm = await TestFarm.open(database, { sql });
  const id = await plan(database, {}, ["make"]);
  const machine = await farm.connect("linux", "m1");
  await vi.waitFor(() => expect([sql.waiting, machine.calls]).toEqual([1, ["removeall ."]]));
  sql.go();
  expect(await ended(database, id)).toMatchObject({ outcome: "success" });
  expect(machine.calls).toEqual(["removeall .", "writetgz src", "exec make"]);
});

test("[coordinator 59] without a connected machine of its host type a build waits, planned once however often it is found, and begins when one connects", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const { sql } = database;
  await addHostType(sql, "riscv");
  const other = await farm.connect("riscv", "m0");
  const commitId = await addCommit(sql, "tool", "a".repeat(40));
  const id = await plan(database, { commitId });
  await expect(plan(database, { commitId })).rejects.toThrow("not planned");
  expect((await claimLease(sql, other.id, NOON)).lease).toBeUndefined();
  expect(await look(database, id)).toMatchObject({ state: "scheduled", attempts: [{ machine: null }] });
  expect(await queueOf(sql, id)).toBe("linux");
  await farm.connect("linux", "m1");
  expect(await ended(database, id)).toMatchObject({ outcome: "success", attempts: [{ machine: "m1" }] });
  expect(await sql.query("select id from build")).toEqual([{ id }]);
});

test("[coordinator 62] a machine is given back once when its build has ended: ours for the next build, the original for good", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const first = await plan(database);
  const ours = await farm.connect("linux", "ours");
  await ended(database, first);
  const second = await plan(database);
  await ended(database, second);
  await vi.waitFor(() => expect(farm.released.length).toBe(2));
  expect(farm.released).toEqual([
    { name: "ours", how: "clean" },
    { name: "ours", how: "clean" },
  ]);
  await farm.disconnect(ours);
  const third = await plan(database);
  const original = await farm.connect("linux", "original", { agent: "original" });
  await ended(database, third);
  await vi.waitFor(() => expect(original.gone.aborted).toBe(true));
  expect(original.calls.filter((call) => call === "removeall .").length).toBe(1);
});

test("the coordinator's log says when each build began, on what, and how and after how long it ended", async () => {
  await using database = await freshDatabase();
  const said: unknown[] = [];
  const info = (fields: object, text: string) => said.push({ text, ...fields });
  await using farm = await TestFarm.open(database, { log: { ...quiet, info }, policy: QUICK });
  const id = await plan(database, {}, ["make", "test"]);
  await farm.connect("linux", "leaver", { dieIn: "writetgz" });
  await vi.waitFor(() => expect(said.length).toBe(2));
  await farm.connect("linux", "m1", { script: ({ cmd }) => ({ state: cmd === "test" ? "exit status 1" : "ok" }) });
  await ended(database, id);
  const canceled = await plan(database);
  await farm.builds.cancel(canceled, "ada");
  const build = { build: id, builder: "linux-amd64" };
  const tookMs = expect.any(Number);
  await vi.waitFor(() =>
    expect(said).toEqual([
      { text: "A build began", ...build, attempt: 1, machine: "leaver" },
      {
        ...{ text: "An attempt failed for the farm's own reasons", ...build, attempt: 1, tookMs },
        ...{ machine: "leaver", again: true, reason: expect.stringMatching(/^machine gone: /) },
      },
      { text: "A build began", ...build, attempt: 2, machine: "m1" },
      {
        text: "A build ended",
        ...build,
        attempt: 2,
        machine: "m1",
        outcome: "failure",
        reason: "exit status 1",
        tookMs,
      },
      { text: "A build was canceled", build: canceled, builder: "linux-amd64", who: "ada" },
    ]),
  );
});

test("a step that fails ends the build as failure, names the step and leaves the rest undone", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database, {}, ["make", "test", "after"]);
  const script = ({ cmd }: { cmd: string }): Script =>
    cmd === "test" ? { state: "exit status 2", output: ["FAIL\n"] } : {};
  await farm.connect("linux", "m1", { script });
  expect(await ended(database, id)).toMatchObject({ outcome: "failure", reason: "exit status 2", failed_step: "test" });
  expect((await steps(database, id)).map(({ name, status, outcome }) => [name, status, outcome])).toEqual([
    ["source", "ok", "success"],
    ["make", "ok", "success"],
    ["test", "exit status 2", "failure"],
    ["after", null, null],
  ]);
  await consistent(database);
});

test("a step over its time limit is stopped and fails, and its log says so", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const recipe = testRecipe("linux-amd64", "linux", ["slow"]);
  const steps_ = recipe.steps.map((step) => ({ ...step, timeLimitMs: 50 }));
  const id = await plan(database, { recipe: { ...recipe, steps: steps_ } });
  await farm.connect("linux", "m1", { script: () => ({ output: ["working\n"], ends: "hang" }) });
  expect(await ended(database, id)).toMatchObject({
    outcome: "failure",
    reason: "timed out after 50 ms",
    failed_step: "slow",
  });
  const rows = await steps(database, id);
  expect(await logText(farm, rows[1]?.log_id)).toBe(
    'working\n\nbarnraiser: step "slow" was stopped: timed out after 50 ms\n',
  );
});

test("[coordinator 66] an infra failure is no verdict: it is tried again, keeps its reason, and the next one counts", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database, { policy: QUICK });
  const id = await plan(database);
  await farm.connect("linux", "bad", { garbageIn: "writetgz" });
  await vi.waitFor(async () =>
    expect(await look(database, id)).toEqual({
      state: "scheduled",
      outcome: null,
      reason: null,
      failed_step: null,
      attempts: [
        { outcome: "infra_failure", reason: "machine broken: writetgz answered 500", counts: true, machine: "bad" },
        { outcome: null, reason: null, counts: true, machine: null },
      ],
    }),
  );
  await farm.connect("linux", "good");
  expect(await ended(database, id)).toMatchObject({ outcome: "success", reason: null });
  await consistent(database);
});

test("the end of a coordinator that passed a machine's connection on is not charged, and says nothing against the machine", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database, { policy: QUICK });
  const id = await plan(database);
  await farm.connect("linux", "m1", { script: () => ({ ends: "carrier" }) });
  await vi.waitFor(async () => expect((await look(database, id)).attempts.length).toBeGreaterThan(1));
  const [first] = await database.sql.query("select reason, counts, machine_fault from attempt order by number");
  expect(first).toEqual({ reason: "coordinator P1 ended", counts: false, machine_fault: false });
});

test("[coordinator 66] the budget: four attempts on four machines, then the build ends as infra_failure with the last reason", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  await using farm = await TestFarm.open(database, { policy: QUICK });
  for (let i = 0; i < 6; i++) await farm.connect("linux", `m${i}`, { script: () => ({ ends: "garbage" }) });
  const id = await plan(database);
  const end = await ended(database, id);
  expect(end).toMatchObject({ outcome: "infra_failure", reason: "machine broken: the answer has no Process-State" });
  expect([end.attempts.length, new Set(end.attempts.map(({ machine }) => machine)).size]).toEqual([4, 4]);
  await consistent(database);
});

test("a lone machine gets its build again after a pause, since there is no elsewhere", async () => {
  await using database = await freshDatabase();
  const policy = { elsewhereFirst: seconds(3600), pause: () => ms(20) };
  let calls = 0;
  const tarball = async () => {
    if (calls++ === 0) throw new Error("not yet");
    return Readable.from([Buffer.alloc(5)]);
  };
  await using farm = await TestFarm.open(database, { policy, tarball });
  const id = await plan(database);
  await farm.connect("linux", "only");
  const end = await ended(database, id);
  expect(end.attempts.map(({ outcome, machine }) => [outcome, machine])).toEqual([
    ["infra_failure", "only"],
    ["success", "only"],
  ]);
});

test("[coordinator 65] a machine that goes away in a command makes the attempt an infra failure, and another machine does it", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database, { policy: QUICK });
  const id = await plan(database);
  await farm.connect("linux", "leaver", { script: () => ({ output: ["half a li"], ends: "die" }) });
  await vi.waitFor(async () => expect((await look(database, id)).attempts.length).toBe(2));
  await farm.connect("linux", "stayer");
  const end = await ended(database, id);
  expect(end).toMatchObject({ outcome: "success" });
  expect(end.attempts[0]).toEqual({
    outcome: "infra_failure",
    reason: "machine gone: hung up in the middle of a command",
    counts: true,
    machine: "leaver",
  });
  const rows = await steps(database, id);
  expect(await logText(farm, rows[1]?.log_id)).toMatch(/^half a li\nbarnraiser: machine gone: .*\n$/);
  await consistent(database);
});

test.each(["removeall", "writetgz"] as const)(
  "a machine that goes away in %s: the build goes on elsewhere",
  async (dieIn) => {
    await using database = await freshDatabase();
    await using farm = await TestFarm.open(database, { policy: QUICK });
    const id = await plan(database);
    await farm.connect("linux", "leaver", { dieIn });
    await vi.waitFor(async () => expect((await look(database, id)).attempts.length).toBe(2));
    await farm.connect("linux", "stayer");
    const end = await ended(database, id);
    expect([end.outcome, end.attempts[0]?.outcome]).toEqual(["success", "infra_failure"]);
    expect(end.attempts[0]?.reason).toContain("machine gone");
    await consistent(database);
  },
);

test("a source that cannot be had is the farm's failure, after the budget, with the reason; the machine stays", async () => {
  await using database = await freshDatabase();
  const tarball = async () => {
    throw new Error("the mirror of tool is away");
  };
  await using farm = await TestFarm.open(database, { policy: QUICK, tarball });
  const id = await plan(database);
  await farm.connect("linux", "m1");
  const end = await ended(database, id);
  expect(end).toMatchObject({ outcome: "infra_failure", reason: "source not available: the mirror of tool is away" });
  expect(end.attempts.length).toBe(4);
  expect(farm.released.every(({ how }) => how === "clean")).toBe(true);
  await consistent(database);
});

test("a tarball that breaks off is the source's fault, not the machine's", async () => {
  await using database = await freshDatabase();
  const tarball = async () =>
    Readable.from(
      (function* () {
        yield Buffer.alloc(10);
        throw new Error("git died");
      })(),
    );
  await using farm = await TestFarm.open(database, { policy: { ...QUICK, retries: 0 }, tarball });
  const id = await plan(database);
  await farm.connect("linux", "m1");
  expect(await ended(database, id)).toMatchObject({
    outcome: "infra_failure",
    reason: "source not available: git died",
  });
});

test("output of every kind is kept byte by byte", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const output = [Buffer.from([0, 255, 254, 10, 13, 27]), Buffer.alloc(3_000_000, "z"), Buffer.from("<b>&\u202e\n")];
  const id = await plan(database);
  await farm.connect("linux", "m1", { script: () => ({ output }) });
  await ended(database, id);
  const text = await logText(farm, (await steps(database, id))[1]?.log_id);
  expect(text === Buffer.concat(output).toString("latin1")).toBe(true);
});

test("cancel() of a running build stops the command, frees the machine and is recorded once", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database);
  const started = Promise.withResolvers<void>();
  await farm.connect("linux", "m1", {
    script: () => ({ output: ["x\n"], started: () => started.resolve(), ends: "hang" }),
  });
  await started.promise;
  await Promise.all([farm.builds.cancel(id, "ada"), farm.builds.cancel(id, "bob")]);
  const end = await ended(database, id);
  expect(end.outcome).toBe("canceled");
  expect(end.attempts.map(({ outcome }) => outcome)).toEqual(["canceled"]);
  await vi.waitFor(() => expect(farm.released).toEqual([{ name: "m1", how: "clean" }]));
  const audit = await database.sql.query<{ action: string; subject: string }>("select action, subject from audit");
  expect(audit).toEqual([{ action: "cancel", subject: `build:${id}` }]);
  await consistent(database);
  await expect(farm.builds.cancel(4711 as BuildId, "ada")).rejects.toMatchObject({ code: "not-found" });
});

test("cancel() of a build that waits takes it out of the queue", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database);
  await farm.builds.cancel(id, "ada");
  const machine = await farm.connect("linux", "m1");
  const next = await plan(database);
  await ended(database, next);
  expect(machine.calls.filter((call) => call === "removeall .").length).toBe(1);
  await consistent(database);
});

test("rebuild() makes one further build however often it is asked for while that is open, and goes before post-submit", async () => {
  await using database = await freshDatabase();
  await using farm = await TestFarm.open(database);
  const id = await plan(database);
  const machine = await farm.connect("linux", "m1");
  await ended(database, id);
  await database.sql.query("update machine set drained_at = now()");
  const again = await Promise.all([1, 2, 3].map(() => farm.builds.rebuild(id, "ada")));
  expect(new Set(again.map(({ build }) => build)).size).toBe(1);
  expect(again.filter(({ made }) => made).length).toBe(1);
  const of = again[0]?.build as BuildId;
  expect(of).not.toBe(id);
  expect(await queueOf(database.sql, of)).toBe("linux");
  await database.sql.query("update machine set drained_at = null");
  database.bus.publish("queue:linux");
  expect((await ended(database, of)).outcome).toBe("success");
  const audit = await database.sql.query<{ detail: string }>("select detail from audit where action = 'rebuild'");
  expect(audit).toEqual([{ detail: `build:${of}` }]);
  expect(machine.calls.filter((call) => call === "removeall .").length).toBe(2);
});

test("insertPlanned() twice plans once", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  const commitId = await addCommit(database.sql, "tool", "a".repeat(40));
  const build: PlannedBuild = {
    repo: "tool",
    commitId,
    committedAt: NOON,
    branch: "main",
    head: true,
    recipe: testRecipe("b", "linux"),
    provenance: "submitted",
    class: "post-submit",
  };
  const other = { ...build, recipe: testRecipe("c", "linux") };
  const inserted = await Promise.all([
    insertPlanned(database.sql, [build, other], NOON),
    insertPlanned(database.sql, [build, build], NOON),
  ]);
  expect(
    inserted
      .flat()
      .map(({ builder }) => builder)
      .sort(),
  ).toEqual(["b", "c"]);
  await consistent(database);
});

test("[coordinator 74] code that was not submitted is refused where it asks for a community machine", async () => {
  await using database = await freshDatabase();
  await addHostType(database.sql, "lent", "community");
  const recipe = testRecipe("riscv", "lent");
  await expect(plan(database, { recipe, provenance: "reviewed" })).rejects.toMatchObject({ code: "forbidden" });
  await expect(plan(database, { recipe, provenance: "submitted" })).resolves.toBeGreaterThan(0);
});

test("a coordinator that is stopped hands its builds to the next one, uncharged", async () => {
  await using database = await freshDatabase();
  const id = await plan(database);
  {
    await using farm = await TestFarm.open(database);
    const started = Promise.withResolvers<void>();
    await farm.connect("linux", "m1", { script: () => ({ started: () => started.resolve(), ends: "hang" }) });
    await started.promise;
  }
  expect(await look(database, id)).toMatchObject({ state: "scheduled" });
  await using next = await TestFarm.open(database, { coordinator: "P000000002" });
  await next.connect("linux", "m2");
  const end = await ended(database, id);
  expect(end.outcome).toBe("success");
  expect(end.attempts[0]).toMatchObject({ counts: false, reason: "the coordinator was stopped" });
  await consistent(database);
});

test("the newer commit goes first, until both have waited too long", async () => {
  await using database = await freshDatabase();
  const older = await plan(database, { committedAt: epochMs(NOON - 1000) });
  const newer = await plan(database, { committedAt: NOON });
  const line = async (now: EpochMs) =>
    (await queueLines(database.sql, ["linux"], now, 9)).get("linux")?.map(({ build }) => build);
  expect(await line(NOON)).toEqual([newer, older]);
  expect(await line(epochMs(NOON + seconds(86_400)))).toEqual([older, newer]);
  expect(await queueOf(database.sql, 4711 as BuildId)).toBeUndefined();
});

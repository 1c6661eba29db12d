import { expect, test, vi } from "vitest";
import { ms } from "../farm/ids.ts";
import { freshDatabase, type TestDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import type { Script } from "./testing/fake-machine.ts";
import { TestFarm, type TestFarmOptions } from "./testing/farm.ts";
import {
  endedBuild,
  marked,
  planTests,
  runScript,
  runsOf,
  SOON,
  stepLogs,
  testsOf,
  testsSpec,
  trees,
} from "./testing/tests.ts";

const QUICK = { policy: { elsewhereFirst: ms(50), pause: () => ms(1) }, elsewhereFirst: SOON };
const NAMES = ["a", "b", "c", "d", "e"];

/** A farm whose machines may dial in before anything is planned. */
async function opened(database: TestDatabase, options: TestFarmOptions): Promise<TestFarm> {
  await addHostType(database.sql, "linux");
  return TestFarm.open(database, options);
}

async function text(farm: TestFarm, log: number | null): Promise<string> {
  const parts: Buffer[] = [];
  if (log !== null) for await (const part of farm.logs.read(log as never)) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function stepLog(farm: TestFarm, build: number): Promise<string> {
  const [row] = await farm.database.sql.query<{ log_id: number }>(
    "select s.log_id from step s join attempt a on a.id = s.attempt_id where a.build_id = $1 and s.name = 'tests' order by a.number desc limit 1",
    [build],
  );
  return text(farm, row?.log_id ?? null);
}

test("tests are listed once, run in groups after the steps, and each has its outcome, its place and its duration", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const list = "a\n b c \n-d\n\na\n";
  const script = ({ cmd, args }: { cmd: string; args: readonly string[] }): Script =>
    cmd === "list" ? { output: [list] } : { output: [`ran ${args.join(",")}\n`] };
  const machine = await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(undefined, { names: "args" }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", reason: null, flaky_tests: 0 });
  expect(machine.calls).toEqual(["removeall .", "writetgz src", "exec make", "exec list", ...machine.calls.slice(4)]);
  expect(runsOf([machine])).toEqual(
    new Map([
      ["a", 1],
      ["b c", 1],
      ["-d", 1],
    ]),
  );
  const tests = await testsOf(database, id);
  expect(tests.map(({ name, outcome, machine: on }) => [name, outcome, on])).toEqual([
    ["a", "success", "m1"],
    ["b c", "success", "m1"],
    ["-d", "success", "m1"],
  ]);
  const [first] = tests;
  expect((await text(farm, first?.log_id ?? null)).slice(first?.from_byte ?? 0, first?.to_byte ?? 0)).toContain(
    "ran a",
  );
  expect(first?.duration_ms).toBeGreaterThanOrEqual(0);
  await vi.waitFor(() => expect(farm.released.length).toBe(1));
  const log = await stepLog(farm, id);
  expect(log.startsWith(list)).toBe(true);
  expect(log).toContain("3 tests, 1 lines named one again, 3 never ran before, about 9.0 s on one machine\n");
  expect(log).toMatch(/\n3 tests: 0 failed, 0 flaky\n$/);
  const steps = await database.sql.query("select name, outcome, status from step order by number");
  expect(steps).toEqual(["source", "make", "tests"].map((name) => ({ name, outcome: "success", status: "ok" })));
});

test("a group of several that fails is split: the failing test is named, the others pass, and it failed on two machines", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, snapshots: trees() });
  const script = runScript((names) => (names.includes("c") ? { output: ["no\n"], state: "exit status 1" } : {}));
  const machines = [await farm.connect("linux", "m1", { script }), await farm.connect("linux", "m2", { script })];
  const id = await planTests(database, testsSpec(NAMES, { helpers: 1, unknownMs: 3000, groupTargetMs: 7000 }));
  expect(await endedBuild(database, id)).toMatchObject({
    outcome: "failure",
    reason: "1 of 5 tests failed: c",
    failed_step: "tests",
  });
  const tests = await testsOf(database, id);
  expect(tests.map(({ outcome }) => outcome)).toEqual(["success", "success", "failure", "success", "success"]);
  expect(tests[2]).toMatchObject({ failures: 2 });
  const alone = machines.flatMap(({ commands }) => commands.filter(({ args }) => args.join() === "c"));
  expect(alone.length).toBe(2);
  await vi.waitFor(async () => expect(await stepLog(farm, id)).toContain("failed: c on m"));
});

test("a test that fails and then passes elsewhere is flaky: the build succeeds and says so", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, elsewhereFirst: ms(10_000), snapshots: trees() });
  let failed = 0;
  const script = runScript((names) =>
    names.includes("c") && failed++ === 0 ? { output: ["flaked\n"], state: "exit status 1" } : {},
  );
  const gate = Promise.withResolvers<void>();
  const slow = runScript((names) =>
    names.includes("e") ? { started: () => gate.promise } : script({ cmd: "run", args: names } as never),
  );
  const m1 = await farm.connect("linux", "m1", { script: slow });
  const m2 = await farm.connect("linux", "m2", { script: slow });
  const spec = testsSpec(["e", "c"], { helpers: 1, groupTargetMs: 200, unknownMs: 3000 });
  const id = await planTests(database, spec);
  await vi.waitFor(() => expect(failed).toBe(1));
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 1 });
  const ran = [m1, m2].map(({ commands }) => commands.filter(({ args }) => args[0] === "c").length);
  expect(ran).toEqual([1, 1]);
  const [, c] = await testsOf(database, id);
  expect(c).toMatchObject({ outcome: "flaky", failures: 1 });
  await vi.waitFor(async () => expect(await stepLog(farm, id)).toMatch(/flaky: c failed on m\d and then passed\n/));
});

test("a failed test runs once more on a machine that is free, though no helper was worth its start", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, elsewhereFirst: ms(20_000), snapshots: trees() });
  const gate = Promise.withResolvers<void>();
  let tries = 0;
  const script = runScript((names) => {
    if (names.includes("last") && tries++ === 0) return { state: "exit status 1", started: () => gate.promise };
    return {};
  });
  const m1 = await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(["last"], { helpers: 1 }));
  await vi.waitFor(() => expect(tries).toBe(1));
  const invited = "select from test_run where helpers_from is not null";
  await vi.waitFor(async () => expect(await database.sql.query(invited)).toHaveLength(1));
  const m2 = await farm.connect("linux", "m2", { script });
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 1 });
  const ran = [m1, m2].map(({ commands }) => commands.filter(({ args }) => args[0] === "last").length);
  expect(ran).toEqual([1, 1]);
});

test("alone, a failed test runs once more on the same machine, at once", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, elsewhereFirst: ms(60_000) });
  let tries = 0;
  await farm.connect("linux", "m1", { script: runScript(() => (tries++ === 0 ? { state: "exit status 1" } : {})) });
  const id = await planTests(database, testsSpec(["a"]));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success", flaky_tests: 1 });
});

test("helpers stand in line as their build does: they take their repository's turns", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, snapshots: trees() });
  const gate = Promise.withResolvers<void>();
  await farm.connect("linux", "m1", { script: runScript(() => ({ started: () => gate.promise })) });
  const id = await planTests(database, testsSpec(NAMES, { helpers: 2, groupTargetMs: 1000 }));
  const line = (kind: string) =>
    database.sql.query("select distinct class, flow, repo, release, provenance, rank from lease where kind = $1", [
      kind,
    ]);
  await vi.waitFor(async () => expect(await line("helper")).toEqual(await line("build")));
  gate.resolve();
  await endedBuild(database, id);
});

test("[coordinator 70] a helper that dies: its tests run elsewhere", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, snapshots: trees() });
  await farm.connect("linux", "main", { script: runScript(() => ({})) });
  const id = await planTests(database, testsSpec(["x", "y", "z", "w"], { helpers: 1, groupTargetMs: 1000 }));
  await farm.connect("linux", "leaver", { script: () => ({ output: ["half"], ends: "die" }) });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(
    (await testsOf(database, id)).every(({ outcome, machine }) => outcome === "success" && machine === "main"),
  ).toBe(true);
});

test("[coordinator 70] a test that loses three machines fails the build, by its name", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, snapshots: trees() });
  const killer = runScript((names) => (names.includes("killer") ? { ends: "die" } : {}));
  const id = await planTests(database, testsSpec(["killer", "good"], { helpers: 1 }));
  for (let i = 0; i < 8; i++) await farm.connect("linux", `m${i}`, { script: killer });
  expect(await endedBuild(database, id)).toMatchObject({
    outcome: "failure",
    reason:
      "1 of 2 tests failed: killer, unschedulable: 3 machines were lost while they ran it, or too slow to tell what came of it",
  });
  const tests = await testsOf(database, id);
  expect(tests.map(({ outcome, losses }) => [outcome, losses > 0 ? losses : 0])).toEqual([
    ["unschedulable", 3],
    ["success", tests[1]?.losses],
  ]);
});

test.each(["barnraiser", "original"] as const)(
  "[coordinator 71] a test over its limit fails with its partial output, at once and for good; a machine (%s) that cannot kill it is not used again",
  async (agent) => {
    await using database = await freshDatabase();
    await using farm = await opened(database, QUICK);
    const script = runScript((names) => (names.includes("slow") ? { output: ["so far\n"], ends: "hang" } : {}));
    await farm.connect("linux", "m1", { script, agent });
    const run = { name: "run", command: ["run"], dir: "", env: [], path: [], timeLimitMs: 100 };
    const id = await planTests(database, testsSpec(["slow", "quick"], { run, groupTargetMs: 100 }));
    if (agent === "original") {
      await vi.waitFor(() => expect(farm.released).toEqual([{ name: "m1", how: "broken" }]));
      await farm.connect("linux", "m2", { script });
    }
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 2 tests failed: slow" });
    const [slow] = await testsOf(database, id);
    expect(slow).toMatchObject({ failures: 1, outcome: "failure", machine: "m1" });
    expect(await text(farm, slow?.log_id ?? null)).toBe(
      'so far\n\nbarnraiser: test "slow" was stopped: timed out after 100 ms\n',
    );
  },
);

test.each([
  ["barnraiser", 1],
  ["original", 5],
] as const)(
  "[coordinator 71] tests over their limit are the build's failure, however many, and on any machine (%s): it takes %d attempts, and nobody is charged for them",
  async (agent, attempts) => {
    await using database = await freshDatabase();
    await using farm = await opened(database, QUICK);
    const script = runScript((names) => (names.some((name) => name.startsWith("slow")) ? { ends: "hang" } : {}));
    const run = { name: "run", command: ["run"], dir: "", env: [], path: [], timeLimitMs: 100 };
    const names = ["slow1", "slow2", "slow3", "slow4", "quick1", "quick2"];
    const id = await planTests(database, testsSpec(names, { run, groupTargetMs: 100 }));
    for (let dialed = 1; dialed <= attempts; dialed++) {
      await farm.connect("linux", "m1", { script, agent });
      await vi.waitFor(() => expect(farm.released).toHaveLength(dialed), { timeout: 5000 });
    }
    const reason = "4 of 6 tests failed: slow1 and 3 more";
    expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason });
    const left = Array.from({ length: attempts - 1 }, () => ({ outcome: "infra_failure", counts: false }));
    const tried = await database.sql.query(
      "select outcome, counts from attempt where not machine_fault order by number",
    );
    expect(tried).toEqual([...left, { outcome: "failure", counts: true }]);
    expect(farm.released.map(({ how }) => how)).toEqual([...left.map(() => "broken"), "clean"]);
    expect(await database.sql.query("select from machine where set_aside_at is not null")).toEqual([]);
    const logs = await stepLogs(farm, id);
    const stopped =
      "\nbarnraiser: a test was stopped on m1 and may still run there; what is left needs a fresh machine\n";
    for (const log of logs.slice(0, -1)) expect(log.endsWith(stopped)).toBe(true);
    expect(logs.at(-1)).toMatch(/\n6 tests: 4 failed, 0 flaky\n$/);
  },
);

test("a build whose first machine is gone goes on with what is left of its tests", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  let done = 0;
  const dies = runScript(() => (done++ === 2 ? { ends: "die" } : {}));
  await farm.connect("linux", "first", { script: dies });
  const id = await planTests(database, testsSpec(NAMES, { groupTargetMs: 100 }));
  await vi.waitFor(() => expect(done).toBe(3));
  const second = await farm.connect("linux", "second", { script: runScript(() => ({})) });
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(runsOf([second]).size).toBe(3);
  expect((await testsOf(database, id)).map(({ machine }) => machine)).toEqual([
    "first",
    "first",
    "second",
    "second",
    "second",
  ]);
});

test("keepGoing false: nothing new is begun after the first failure, and the rest is not run", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const script = runScript((names) => (names.includes("b") ? { state: "exit status 3" } : {}));
  await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(NAMES, { keepGoing: false, groupTargetMs: 100 }));
  expect(await endedBuild(database, id)).toMatchObject({
    outcome: "failure",
    reason: "1 of 5 tests failed: b; the rest was not run",
  });
  const outcomes = (await testsOf(database, id)).map(({ outcome }) => outcome);
  expect(outcomes).toEqual(["success", "failure", "skipped", "skipped", "skipped"]);
});

test.each<readonly [string, Script, string]>([
  ["fails", { output: ["oh\n"], state: "exit status 4" }, "the tests could not be listed: exit status 4"],
  ["prints nothing", {}, "the tests could not be listed: it printed no names"],
  [
    "prints a NUL",
    { output: ["a\nb\0\n"] },
    "the tests could not be listed: line 2: want no NUL and no line break in the name of a test",
  ],
])("a list command that %s fails the build, which says so", async (_what, list, reason) => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  await farm.connect("linux", "m1", { script: ({ cmd }) => (cmd === "list" ? list : {}) });
  const id = await planTests(database, testsSpec(undefined));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason, failed_step: "tests" });
  expect(await stepLog(farm, id)).toContain(`barnraiser: ${reason}\n`);
});

test("10^5 names are listed, grouped within what a command takes, and run", { timeout: 120_000 }, async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const names = Array.from({ length: 100_000 }, (_, i) => `package/${i} case`);
  const script = ({ cmd }: { cmd: string }): Script => (cmd === "list" ? { output: [`${names.join("\n")}\n`] } : {});
  const machine = await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(undefined, { groupTargetMs: 10_000_000, unknownMs: 10 }));
  expect(await endedBuild(database, id, 110_000)).toMatchObject({ outcome: "success" });
  const runs = runsOf([machine]);
  expect([runs.size, [...runs.values()].every((times) => times === 1)]).toEqual([100_000, true]);
  const longest = Math.max(...machine.commands.map(({ args }) => args.join(" ").length));
  expect(longest).toBeLessThanOrEqual(24_000);
});

test("names in a file: one a line, beside the source tree", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  let read = "";
  const machine = await farm.connect("linux", "m1", {
    script: runScript(([file = ""]) => {
      read += machine.files.get(file.slice("/build/".length))?.toString();
      return {};
    }),
  });
  const id = await planTests(database, testsSpec(["one", "-two three"], { names: "file" }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  expect(read).toBe("one\n-two three\n");
  const [command] = machine.commands.filter(({ cmd }) => cmd === "run");
  expect(command?.env).toContain(`BARNRAISER_TESTS=${command?.args[0]}`);
});

test("markers: each test its own outcome and place; lines that imitate them are output", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const script = runScript((names, command) => {
    const lines = [
      ["begin", "a"], "##barnraiser:0123456789abcdef0123456789abcdef fail a\n", " out of a\n", ["pass", "a"],
      ["begin", "b"], "bad ", "##barnraiser pass b\n", ["fail", "b"],
      ["skip", "c"],
    ] as const; // biome-ignore format: pairs
    const mine = lines.filter((line) => typeof line === "string" || names.includes(line[1]));
    return { output: [marked(command, mine)], state: names.includes("b") ? "exit status 1" : "ok" };
  });
  await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(["a", "b", "c"], { results: "markers" }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 3 tests failed: b" });
  const tests = await testsOf(database, id);
  expect(tests.map(({ outcome }) => outcome)).toEqual(["success", "failure", "skipped"]);
  const [a] = tests;
  expect((await text(farm, a?.log_id ?? null)).slice(a?.from_byte ?? 0, a?.to_byte ?? 0)).toBe(
    "##barnraiser:0123456789abcdef0123456789abcdef fail a\n out of a\n",
  );
});

test("a test that its results do not name says so in the log of the step and in its own, with the names that they have", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const script = runScript((_names, command) => ({ output: [marked(command, [["pass", "tests.b"]])] }));
  await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(["tests/b"], { results: "markers" }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 1 tests failed: tests/b" });
  const why = 'but its results do not name it: they name "tests.b"';
  await vi.waitFor(async () => expect(await stepLog(farm, id)).toMatch(new RegExp(`tests/b: ok after .*, ${why}\n`)));
  const [test] = await testsOf(database, id);
  const log = await text(farm, test?.log_id ?? null);
  expect(log.slice(test?.from_byte ?? 0, test?.to_byte ?? 0)).toMatch(new RegExp(`: the command succeeded, ${why}\n$`));
});

test("go test -json: results by test, and the failure's own output is where the page looks for it", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const event = (Action: string, Test: string, more: object = {}): string =>
    `${JSON.stringify({ Action, Package: "ex.org/app", Test, ...more })}\n`;
  const script = runScript((names) => ({
    output: names.flatMap((name) => [
      event("run", name),
      event("output", name, { Output: `says ${name}\n` }),
      event(name === "TestB" ? "fail" : "pass", name, { Elapsed: 0.25 }),
    ]),
    state: names.includes("TestB") ? "exit status 1" : "ok",
  }));
  await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(["TestA", "TestB"], { results: "go-test-json" }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 2 tests failed: TestB" });
  const [a, b] = await testsOf(database, id);
  expect([a?.outcome, a?.duration_ms]).toEqual(["success", 250]);
  expect((await text(farm, b?.log_id ?? null)).slice(b?.from_byte ?? 0, b?.to_byte ?? 0)).toBe(
    "\n##### ex.org/app.TestB failed\nsays TestB\n",
  );
});

test("JUnit: reports of this group only, and a report that is not whole is said", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const report = (name: string, inside = ""): Buffer =>
    Buffer.from(`<testsuite name="s"><testcase name="${name}" time="0.5">${inside}</testcase></testsuite>`);
  const machine = await farm.connect("linux", "m1", {
    script: ({ cmd, args }) => {
      if (cmd === "make") machine.files.set("src/out/old.xml", report("two"));
      for (const name of cmd === "run" ? args : []) {
        machine.files.set(
          `src/out/deep/${name}.xml`,
          name === "two" ? report(name, "<failure>boom</failure>") : report(name),
        );
      }
      machine.files.set("src/out/broken.xml", Buffer.from("<testsuite><!DOCTYPE x>"));
      return { state: args.includes("two") ? "exit status 1" : "ok" };
    },
  });
  const spec = testsSpec(["one", "two"], { results: { junit: "out/**/*.xml" }, groupTargetMs: 100 });
  const id = await planTests(database, spec);
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "failure", reason: "1 of 2 tests failed: two" });
  const [one, two] = await testsOf(database, id);
  expect([one?.outcome, one?.duration_ms, two?.outcome]).toEqual(["success", 500, "failure"]);
  const log = await text(farm, two?.log_id ?? null);
  expect(log.slice(two?.from_byte ?? 0, two?.to_byte ?? 0)).toBe("\n##### s.two failed\nboom\n");
  expect(log).toContain("barnraiser: the report is not whole: broken.xml: ");
});

test("JUnit: reports of a group beyond the limit are left out, and said to be; what else is there is not looked at", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const report = Buffer.from('<testsuite name="s"><testcase name="one" time="0.5"/></testsuite>');
  const huge = Buffer.alloc(257 * 1024 * 1024);
  const machine = await farm.connect("linux", "m1", {
    script: ({ cmd }) => {
      if (cmd !== "run") return {};
      machine.files.set("src/out/a/one.xml", report);
      machine.files.set("src/out/b/huge.xml", huge);
      machine.files.set("src/kept.bin", huge);
      return {};
    },
  });
  const id = await planTests(database, testsSpec(["one"], { results: { junit: "**/*.xml" } }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  const [one] = await testsOf(database, id);
  expect([one?.outcome, one?.duration_ms]).toEqual(["success", 500]);
  expect(await text(farm, one?.log_id ?? null)).toContain(
    "barnraiser: the report is not whole: 1 of its files left out: together they may have 256 MiB",
  );
});

test("what a machine says after it lost its lease counts for nothing", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const [started, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let runs = 0;
  const script = runScript(() => {
    if (runs++ > 0) return { state: "exit status 1" };
    return {
      started: () => {
        started.resolve();
        return gate.promise;
      },
    };
  });
  await farm.connect("linux", "m1", { script });
  const id = await planTests(database, testsSpec(["a"], { keepGoing: true }));
  await started.promise;
  await database.sql.query(
    `with a as (update attempt set state = 'ended', outcome = 'infra_failure')
     update lease set state = 'ended', end_reason = 'taken back' where state = 'held'`,
  );
  gate.resolve();
  await vi.waitFor(() => expect(farm.released.length).toBe(1));
  expect((await testsOf(database, id)).map(({ state, outcome }) => [state, outcome])).toEqual([["running", null]]);
});

test("helpers come when the tree is kept, share the tests, and leave when there is nothing left", async () => {
  await using database = await freshDatabase();
  const kept = Promise.withResolvers<boolean>();
  const restored: string[] = [];
  const snapshots = trees(kept.promise, (machine) => restored.push(machine));
  await using farm = await opened(database, { ...QUICK, snapshots });
  const gate = Promise.withResolvers<void>();
  const script = runScript(() => ({ started: () => gate.promise }));
  await farm.connect("linux", "main", { script });
  const names = Array.from({ length: 40 }, (_, i) => `t${i}`);
  const id = await planTests(database, testsSpec(names, { helpers: 3, groupTargetMs: 3000 }));
  for (let i = 1; i <= 5; i++) await farm.connect("linux", `h${i}`, { script });
  await vi.waitFor(async () => expect((await testsOf(database, id)).length).toBe(40));
  expect(restored).toEqual([]);
  kept.resolve(true);
  await vi.waitFor(() => expect(restored.length).toBe(3), { timeout: 8000 });
  gate.resolve();
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  await vi.waitFor(() => expect(farm.released.length).toBe(4));
  expect(farm.released.every(({ how }) => how === "clean")).toBe(true);
  const machines = new Set((await testsOf(database, id)).map(({ machine }) => machine));
  expect(machines.size).toBeGreaterThan(1);
  const leases = await database.sql.query("select kind, state from lease where state <> 'ended'");
  expect(leases).toEqual([]);
});

test("the next build of a builder knows what each test takes; another builder's times do where there are none", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, QUICK);
  const event = (Action: string, Test: string, Elapsed: number): string =>
    `${JSON.stringify({ Action, Package: "p", Test, Elapsed })}\n`;
  const script = runScript((names) => ({ output: names.map((name) => event("pass", name, name.length)) }));
  await farm.connect("linux", "m1", { script });
  const spec = testsSpec(["a", "bb"], { results: "go-test-json" });
  await endedBuild(database, await planTests(database, spec));
  const expected = async (builder: string, names: readonly string[]) => {
    const id = await planTests(database, { ...spec, list: { names } }, { builder });
    await endedBuild(database, id);
    const rows = await database.sql.query<{ ms: number | null }>(
      "select expected_ms as ms from test where build_id = $1 order by number",
      [id],
    );
    return rows.map((row) => row.ms);
  };
  expect(await expected("linux-amd64", ["a", "bb", "ccc"])).toEqual([1000, 2000, null]);
  expect(await expected("linux-arm64", ["a", "ccc", "dddd"])).toEqual([1000, 3000, null]);
  const forgotten = "select name from test_time where seen_at < now() - interval '2 days'"; // to the day
  expect(await database.sql.query(forgotten)).toEqual([]);
});

test("a canceled build stops its helpers too", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, snapshots: trees() });
  let running = 0;
  const script = runScript(() => ({ started: () => void running++, ends: "hang" }));
  for (let i = 0; i < 3; i++) await farm.connect("linux", `m${i}`, { script });
  const id = await planTests(database, testsSpec(NAMES, { helpers: 2, groupTargetMs: 1000 }));
  await vi.waitFor(() => expect(running).toBe(3), { timeout: 8000 });
  await farm.builds.cancel(id, "ada");
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "canceled" });
  await vi.waitFor(() => expect(farm.released.length).toBe(3));
  expect(await database.sql.query("select state from lease where state <> 'ended'")).toEqual([]);
  expect(await database.sql.query(LEFT)).toEqual([{ groups: 0, tests: NAMES.length, sum: 0 }]);
});

test("of a build that the farm gave up, no group is running any more, and its tests were not run", async () => {
  await using database = await freshDatabase();
  await using farm = await opened(database, { ...QUICK, policy: { ...QUICK.policy, retries: 0 } });
  await farm.connect("linux", "m1", { script: runScript(() => ({ output: ["half"], ends: "die" })) });
  const id = await planTests(database, testsSpec(NAMES));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "infra_failure" });
  expect(await database.sql.query(LEFT)).toEqual([{ groups: 0, tests: NAMES.length, sum: 0 }]);
});

const LEFT = `select (select count(*) from test_group where state = 'running')::integer as groups,
  (select count(*) from test where outcome = 'skipped')::integer as tests, waiting + running as sum from test_run`;

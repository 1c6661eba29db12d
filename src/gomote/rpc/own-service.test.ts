import { expect, test } from "vitest";
import { insertPlanned } from "../../builds/insert.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { COORDINATOR } from "../../machines/testing/farm-of-machines.ts";
import { addCommit, NOON, testRecipe } from "../../store/testing/farm.ts";
import { BUILDER, COMMUNITY, type GomoteFarm, gomoteFarm, HOST_TYPE, TEAM_TYPE } from "../testing/farm.ts";
import { type Ended, OK, type RpcClient } from "../testing/rpc-client.ts";
import { STALL } from "../transfers/meter.ts";

const OWN = "barnraiser.Gomote";
const CODE = { invalid: 3, notFound: 5, denied: 7, aborted: 10, unauthenticated: 16 } as const;

async function create(client: RpcClient): Promise<string> {
  const call = client.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", { builder_type: BUILDER });
  expect((await call.ended).code).toBe(OK);
  return call.messages.at(-1)?.instance?.gomote_id ?? "";
}

async function build(farm: GomoteFarm): Promise<number> {
  const { sql } = farm.database;
  const commitId = await addCommit(sql, "app", "c".repeat(40));
  const recipe = testRecipe(BUILDER, HOST_TYPE, ["make", "check"]);
  const planned = { repo: "app", commitId, committedAt: NOON, branch: "main", head: true, recipe } as const;
  const [made] = await insertPlanned(sql, [{ ...planned, provenance: "submitted", class: "post-submit" }], NOON);
  await sql.query("update lease set state = 'ended', ended_at = now() where kind = 'build'"); // nobody builds it here
  return made?.id ?? 0;
}

test("an instance is described, and types tell why one may not have them", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const gomote_id = await create(alice);
  expect(await alice.call("DescribeInstance", { gomote_id }, OWN)).toMatchObject({
    builder_type: BUILDER,
    host_type: HOST_TYPE,
    machine: "m1",
    working_dir: "/tmp/workdir",
    goos: "linux",
    goarch: "amd64",
    ssh_address: "",
  });
  const { types } = (await alice.call("ListTypes", {}, OWN)) as { types: readonly Record<string, unknown>[] };
  expect(types.find(({ builder_type }) => builder_type === BUILDER)).toMatchObject({
    refusal: "",
    machines: 1,
    idle: 0,
  });
  const refused = types.filter(({ refusal }) => refusal !== "").map(({ builder_type }) => builder_type);
  expect(refused).toEqual([TEAM_TYPE, COMMUNITY, "linux-riscv64"]);
  expect(await farm.client(undefined).call("ListTypes", {}, OWN)).toMatchObject({ code: CODE.unauthenticated });
});

test("commands that run and ran are listed for their owner, who may kill one", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({
    exec: async ({ cmd }, io) => {
      if (cmd === "short") return "exit status 2";
      await io.write("begun\n");
      await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
      return "ok";
    },
  });
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const gomote_id = await create(alice);
  await alice.stream("ExecuteCommand", { gomote_id, command: "short", args: ["a b"] }).ended;
  const long = alice.stream("ExecuteCommand", { gomote_id, command: "long", directory: "go" });
  await long.have(1);
  interface Executions {
    readonly executions: readonly { readonly id: string; readonly process_state: string }[];
  }
  const list = async () => ((await alice.call("ListExecutions", { gomote_id: "" }, OWN)) as Executions).executions;
  expect(await list()).toMatchObject([
    { gomote_id, argv: ["long"], directory: "go", ended: 0, process_state: "" },
    { gomote_id, argv: ["short a b"], process_state: "exit status 2" },
  ]);
  const kill = { gomote_id, execution_id: (await list())[0]?.id };
  expect(await bob.call("KillExecution", kill, OWN)).toMatchObject({ code: CODE.denied });
  for (const execution_id of ["77", "", "a\0", "9".repeat(30)])
    expect(await alice.call("KillExecution", { gomote_id, execution_id }, OWN)).toMatchObject({ code: CODE.notFound });
  expect(await alice.call("KillExecution", kill, OWN)).toEqual({});
  const audit = "select who, action, subject, detail from audit where action = 'gomote kill'";
  expect(await farm.database.sql.query(audit)).toEqual([
    { who: "alice@example.org", action: "gomote kill", subject: `gomote:${gomote_id}`, detail: "long" },
  ]);
  const process_state = "it was killed by whoever ran it";
  const exit = { exit_status: 137, process_state };
  expect(await long.ended).toEqual({ code: CODE.aborted, details: process_state, exit });
  await until(async () => (await list())[0]?.process_state === process_state, "its end to be written down");
});

test("files are pushed in one stream as they come, and only below the work dir of one's own", async () => {
  await using farm = await gomoteFarm();
  const machine = await farm.machines.machine();
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const gomote_id = await create(alice);
  machine.calls.length = 0;
  machine.uploads.length = 0;
  const push = (client: RpcClient, first: object) => {
    const tgz = Array.from({ length: 8 }, () => ({ tgz: Buffer.alloc(1 << 20, "x") }));
    return client.upload("PushFiles", [first, ...tgz], OWN);
  };
  expect(await push(alice, { gomote_id, directory: "go" })).toEqual({});
  const put = machine.calls.filter((call) => call !== "GET /status");
  expect([put, machine.uploads]).toEqual([["PUT /writetgz dir=go"], [8 << 20]]);
  expect(await push(bob, { gomote_id, directory: "go" })).toMatchObject({ code: CODE.denied });
  expect(await push(alice, { gomote_id, directory: "../go" })).toMatchObject({ code: CODE.invalid });
  machine.behave.upload = { after: 1 << 20, how: "refuse" };
  expect(await push(alice, { gomote_id, directory: "go" })).toMatchObject({ code: CODE.invalid });
});

test("a push has the limit of files, and is given up when nothing moves", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock, config: { gomote: { transferLimit: "2MiB" } } });
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const gomote_id = await create(alice);
  const part = { tgz: Buffer.alloc(1 << 20, "x") };
  expect(await alice.upload("PushFiles", [{ gomote_id, directory: "go" }, part, part, part], OWN)).toEqual({
    code: 8,
    details: "Cannot take the push: it is larger than the limit of 2 MiB",
  });
  const asleep = clock.sleeping;
  const stuck = alice.upload("PushFiles", [{ gomote_id, directory: "go" }, part], OWN, "no end");
  await until(() => clock.sleeping > asleep, "it to be watched");
  let over = false;
  void stuck.finally(() => {
    over = true;
  });
  await until(async () => {
    await clock.advance(STALL);
    return over;
  }, "it to be given up");
  expect(await stuck).toEqual({ code: 4, details: "Gave up the push: nothing moved for 60 s" });
});

test("all that runs is told of, however much came after it, and of what ended the newest, as far as one answer holds", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  const waiting = Array.from({ length: 4 }, () => alice.stream("CreateInstance", { builder_type: BUILDER }));
  for (const call of waiting) await call.have(1);
  const { sql } = farm.database;
  const instances = await sql.query<{ id: number }>("select id from gomote_instance order by id");
  const command = "é".repeat(2000);
  const ran = (runs: string, count: number) =>
    sql.query(
      `insert into gomote_command (instance_id, coordinator_id, who, command, dir, started_at, ended_at, state)
       select g.id, $1, 'alice@example.org', $2, $2, $3, ${runs} from gomote_instance g, generate_series(1, $4::int) order by g.id`,
      [COORDINATOR, command, new Date(NOON), count],
    );
  await ran("null, null", 1);
  await ran("$3, 'ok'", 201);
  interface Told {
    readonly executions: readonly { readonly argv: readonly string[]; readonly process_state: string }[];
  }
  const told = async (gomote_id = "") => (await alice.call<Told>("ListExecutions", { gomote_id }, OWN)) as Told;
  const running = ({ executions }: Told) => executions.filter(({ process_state }) => process_state === "");
  const all = await told();
  expect([all.executions.length > 600, all.executions.length < 804]).toEqual([true, true]);
  expect(running(all)).toHaveLength(4);
  await ran("null, null", 300);
  const more = await told();
  expect([running(more).length, more.executions.length, more.executions[0]?.argv]).toEqual([
    4 * 301,
    4 * 301,
    ["é".repeat(60)],
  ]);
  expect(instances).toHaveLength(4);
  for (const call of waiting) call.cancel();
});

test("a folder is listed as its machine says it, in messages that a client takes, for the instance's owner", async () => {
  await using farm = await gomoteFarm();
  const machine = await farm.machines.machine();
  const [alice, bob] = await Promise.all([farm.person("alice@example.org"), farm.person("bob@example.org")]);
  const gomote_id = await create(alice);
  machine.calls.length = 0;
  const list = async (client: RpcClient, request: object) => {
    const call = client.stream<{ lines: Uint8Array }>("ListFolder", request, OWN);
    const { code } = await call.ended;
    return [code, Buffer.concat(call.messages.map(({ lines }) => lines)).toString()];
  };
  expect(await list(bob, { gomote_id, directory: "go" })).toEqual([CODE.denied, ""]);
  expect(await list(alice, { gomote_id, directory: "../go" })).toEqual([CODE.invalid, ""]);
  expect(await list(alice, { gomote_id })).toEqual([CODE.invalid, ""]);
  expect(await list(alice, { gomote_id, directory: "go", skip: ["a b"] })).toEqual([
    OK,
    "drwxr-xr-x\td/\n-rw-r--r--\td/x\t3\t2026-11-23T17:00:05Z\n",
  ]);
  expect(machine.calls.filter((call) => call !== "GET /status")).toEqual([
    "GET /ls dir=go&recursive=true&digest=true&skip=a+b&nul=true",
  ]);
});

test("a build's steps are told with what each needs, and its sources are written as its own attempt wrote them", async () => {
  await using farm = await gomoteFarm();
  const machine = await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const gomote_id = await create(alice);
  const id = await build(farm);
  expect(await alice.call("GetBuildLayout", { build: id }, OWN)).toMatchObject({
    builder_type: BUILDER,
    host_type: HOST_TYPE,
    environment: [`GO_BUILDER_NAME=${BUILDER}`],
    steps: [
      { name: "make", argv: ["make", "arg"], directory: "src", failed: false },
      { name: "check", argv: ["check", "arg"], directory: "src", failed: false },
    ],
  });
  expect(await alice.call("GetBuildLayout", { build: 77 }, OWN)).toMatchObject({ code: CODE.notFound });
  const nobody = await farm.person("nobody@example.org", []);
  expect(await nobody.call<Ended>("GetBuildLayout", { build: id }, OWN)).toMatchObject({ code: CODE.denied });
  machine.calls.length = 0;
  const laid = alice.stream<{ progress: string }>("LayOutBuild", { gomote_id, build: id }, OWN);
  expect((await laid.ended).code).toBe(OK);
  expect(machine.calls).toEqual(["PUT /writetgz dir=src"]);
  expect(laid.messages.map(({ progress }) => progress)).toEqual([expect.stringMatching(/^wrote app to m1 in /)]);
});

test("builds that there cannot be are none", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const gomote_id = await create(alice);
  for (const build of ["0", "-1", "77", "9007199254740993", "9223372036854775807"]) {
    const ends = [
      await alice.call<Ended>("GetBuildLayout", { build }, OWN),
      await alice.stream("LayOutBuild", { gomote_id, build }, OWN).ended,
      await alice.stream("HoldBuild", { build }, OWN).ended,
    ];
    expect([build, ends.map((end) => (end as Ended).code)]).toEqual([build, Array(3).fill(CODE.notFound)]);
  }
});

import { expect, test } from "vitest";
import { minutes, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import { BUILDER, COMMUNITY, type GomoteFarm, gomoteFarm, HOST_TYPE, TEAM_TYPE } from "./testing/farm.ts";
import { type Ended, OK, type RpcClient } from "./testing/rpc-client.ts";

interface InstanceMessage {
  readonly gomote_id: string;
  readonly builder_type: string;
  readonly host_type: string;
  readonly expires: number;
  readonly working_dir: string;
}

interface Created {
  readonly status: "WAITING" | "COMPLETE";
  readonly waiters_ahead: number;
  readonly instance: InstanceMessage | null;
}

const CODE = {
  invalid: 3,
  deadline: 4,
  notFound: 5,
  denied: 7,
  exhausted: 8,
  aborted: 10,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** The instance that a call creates. */
async function create(client: RpcClient, builderType = HOST_TYPE): Promise<InstanceMessage> {
  const call = client.stream<Created>("CreateInstance", { builder_type: builderType });
  const ended = await call.ended;
  const last = call.messages.at(-1);
  if (ended.code !== OK || !last?.instance) throw new Error(`${ended.code} ${ended.details}`);
  expect(last.status).toBe("COMPLETE");
  return last.instance;
}

async function machines(farm: GomoteFarm, count: number, hostType = HOST_TYPE): Promise<void> {
  for (let n = 0; n < count; n++) await farm.machines.machine({ name: `m${n}`, hostType });
}

const ids = async (client: RpcClient) => {
  const { instances } = (await client.call("ListInstances")) as { readonly instances: readonly InstanceMessage[] };
  return instances.map(({ gomote_id }) => gomote_id);
};

test("[gomote 7] [gomote 8] [gomote 10] [gomote 11] names take the lowest free number; a person lists their own", async () => {
  await using farm = await gomoteFarm();
  await machines(farm, 4);
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const first = await create(alice);
  expect(first).toMatchObject({ builder_type: HOST_TYPE, host_type: HOST_TYPE, working_dir: "/tmp/workdir" });
  expect(Math.abs(first.expires - Date.now() / 1000 - 1800)).toBeLessThan(20);
  const names = [first, await create(alice), await create(alice)].map(({ gomote_id }) => gomote_id);
  expect(names).toEqual([0, 1, 2].map((n) => `alice-${HOST_TYPE}-${n}`));
  expect(await alice.call("DestroyInstance", { gomote_id: names[1] })).toEqual({});
  await machines(farm, 1);
  expect((await create(alice)).gomote_id).toBe(names[1]);
  const { gomote_id: his } = await create(bob);
  expect([await ids(alice), await ids(bob)]).toEqual([names, [his]]);
});

test("[gomote 5] [gomote 9] types that there are not, and may not be borrowed, are refused with what to do", async () => {
  await using farm = await gomoteFarm();
  const member = await farm.person("alice@example.org");
  const refused = async (client: RpcClient, builderType: string) => {
    const { code, details } = await client.stream("CreateInstance", { builder_type: builderType }).ended;
    return `${code} ${details}`;
  };
  expect(await refused(member, "")).toBe("3 Cannot create an instance: want the name of a builder or of a host type");
  expect(await refused(member, "linux-amd65")).toMatch(/^3 .*unknown builder type "linux-amd65".*linux-amd64/);
  expect(await refused(member, TEAM_TYPE)).toMatch(/^7 .* the role "team", and alice@example.org has "member"/);
  expect(await refused(member, COMMUNITY)).toMatch(/^7 .*owner .* does not lend/);
  expect(await refused(await farm.person("nobody@example.org", []), HOST_TYPE)).toMatch(/^7 /);
  const list = async (client: RpcClient) => await client.call("ListSwarmingBuilders");
  expect(await list(member)).toEqual({ builders: [HOST_TYPE, BUILDER, "linux-amd64-known"] });
  const team = await farm.person("tom@example.org", ["team"]);
  expect(await list(team)).toEqual({ builders: [HOST_TYPE, TEAM_TYPE, BUILDER, "linux-amd64-known"] });
});

test("[gomote 4] without an identity every method is refused, before anything else", async () => {
  await using farm = await gomoteFarm();
  const methods = [
    "Authenticate", "AddBootstrap", "DestroyInstance", "InstanceAlive", "ListDirectory", "ListInstances", "ListSwarmingBuilders",
    "ReadTGZToURL", "RemoveFiles", "SignSSHKey", "UploadFile", "WriteFileFromURL", "WriteTGZFromURL",
  ]; // biome-ignore format: rows
  for (const token of [undefined, "nonsense", "brt_0123456789012345678901234567890123456789"]) {
    const client = farm.client(token);
    const ends = await Promise.all(methods.map((method) => client.call<Ended>(method)));
    for (const method of ["CreateInstance", "ExecuteCommand", "ListDirectoryStreaming"]) {
      ends.push(await client.stream(method).ended);
    }
    expect(ends.map(({ code }: { code?: number }) => code)).toEqual(ends.map(() => CODE.unauthenticated));
  }
  expect(await (await farm.person("alice@example.org")).call("Authenticate")).toEqual({});
});

test("[gomote 12] [gomote 13] a foreign instance is refused by every method, not renewed, and its machine not called", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const machine = await farm.machines.machine();
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const { gomote_id, expires } = await create(bob);
  const before = machine.calls.length;
  await clock.advance(minutes(5));
  const more = {
    directory: ".",
    paths: ["x"],
    url: "https://farm/x",
    filename: "x",
    command: "x",
    public_ssh_key: Buffer.from("x"),
  };
  const ask = (id: string) => async (method: string) => {
    const { code } = await alice.call<Ended>(method, { gomote_id: id, ...more });
    return code;
  };
  const unary = [
    "AddBootstrap", "DestroyInstance", "InstanceAlive", "ListDirectory", "ReadTGZToURL", "RemoveFiles", "SignSSHKey", "WriteFileFromURL",
    "WriteTGZFromURL",
  ]; // biome-ignore format: rows
  expect(await Promise.all(unary.map(ask(gomote_id)))).toEqual(unary.map(() => CODE.denied));
  expect(await Promise.all(unary.map(ask("alice-x-0")))).toEqual(unary.map(() => CODE.notFound));
  for (const method of ["ExecuteCommand", "ListDirectoryStreaming"]) {
    expect((await alice.stream(method, { gomote_id, ...more }).ended).code).toBe(CODE.denied);
    expect((await alice.stream(method, { gomote_id: "alice-x-0", ...more }).ended).code).toBe(CODE.notFound);
  }
  expect(await alice.call("InstanceAlive")).toMatchObject({ code: CODE.invalid });
  expect(machine.calls.length).toBe(before);
  const { instances } = (await bob.call("ListInstances")) as { instances: readonly InstanceMessage[] };
  expect(instances.map((each) => each.expires)).toEqual([expires]);
});

test("ids that are malformed, and that of an instance that has ended, are refused by every method as unknown ones are", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const { gomote_id: ended } = await create(alice);
  expect(await alice.call("DestroyInstance", { gomote_id: ended })).toEqual({});
  const more = { directory: ".", paths: ["x"], url: "https://farm/x", filename: "x", command: "x" };
  const unary = [
    "AddBootstrap", "DestroyInstance", "InstanceAlive", "ListDirectory", "ReadTGZToURL", "RemoveFiles", "SignSSHKey", "WriteFileFromURL",
    "WriteTGZFromURL",
  ]; // biome-ignore format: rows
  const own = ["DescribeInstance", "KillExecution", "ListExecutions"];
  for (const gomote_id of [ended, "a\0b", "../../etc", "x".repeat(1 << 20), "'; drop table lease; --", "\u{1f4a5}"]) {
    const request = { gomote_id, ...more };
    const ends = await Promise.all([
      ...unary.map((method) => alice.call<Ended>(method, request)),
      ...own.map((method) => alice.call<Ended>(method, { gomote_id }, "barnraiser.Gomote")),
      ...["ExecuteCommand", "ListDirectoryStreaming"].map((method) => alice.stream(method, request).ended),
    ]);
    expect([gomote_id.slice(0, 30), new Set(ends.map((end) => (end as Ended).code))]).toEqual([
      gomote_id.slice(0, 30),
      new Set([CODE.notFound]),
    ]);
  }
});

test("what an instance says of its end is true near its limit, too: use renews it until then at most", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock, config: { gomote: { idle: "30m", longest: "45m" } } });
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const { gomote_id } = await create(alice);
  const limit = Math.floor(clock.now() / 1000) + 45 * 60;
  await clock.advance(minutes(20));
  expect(await alice.call("InstanceAlive", { gomote_id })).toEqual({});
  const { instances } = (await alice.call("ListInstances")) as { instances: readonly InstanceMessage[] };
  expect(instances.map(({ expires }) => expires)).toEqual([limit]);
});

test("[gomote 14] [gomote 15] [gomote 16] only its owner's use renews an instance; idle, it ends and its buildlet is halted", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const machine = await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const { gomote_id } = await create(alice);
  await clock.advance(minutes(29));
  expect(await alice.call("InstanceAlive", { gomote_id })).toEqual({});
  const { instances } = (await alice.call("ListInstances")) as { instances: readonly InstanceMessage[] };
  expect(instances.map(({ expires }) => expires)).toEqual([Math.floor(clock.now() / 1000) + 1800]);
  await clock.advance(minutes(29));
  await farm.gomote.instances.look();
  expect(await ids(alice)).toEqual([gomote_id]); // a list renews nothing
  await clock.advance(minutes(2));
  await farm.gomote.instances.look();
  await until(() => machine.calls.includes("POST /halt"), "the buildlet to be halted");
  expect(await alice.call("InstanceAlive", { gomote_id })).toMatchObject({ code: CODE.notFound });
  expect(await farm.database.sql.query("select who, action, detail from audit where action = 'gomote end'")).toEqual([
    {
      who: "the farm",
      action: "gomote end",
      detail: "of alice@example.org: nobody used it for as long as an instance may idle",
    },
  ]);
});

test("[gomote 6] whoever waits hears their true place, at each change and every five seconds, and the stream ends well", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const alice = await farm.person("alice@example.org");
  const calls = [0, 1, 2].map(() => alice.stream<Created>("CreateInstance", { builder_type: BUILDER }));
  const told = () => calls.map(({ messages }) => messages.at(-1)?.waiters_ahead);
  const heard = async (condition: () => boolean, what: string) =>
    await until(async () => {
      await clock.advance(seconds(0.25));
      return condition();
    }, what);
  await heard(() => calls.every(({ messages }) => messages.length > 0), "all to be told");
  expect(told().toSorted()).toEqual([0, 1, 2]);
  const before = calls.map(({ messages }) => messages.length);
  await clock.advance(seconds(5));
  await clock.advance(seconds(5));
  await heard(() => calls.every(({ messages }, n) => messages.length >= (before[n] ?? 0) + 2), "two more messages");
  await machines(farm, 1);
  await heard(() => told().filter((ahead) => ahead === 0).length >= 2, "the others to move up");
  await machines(farm, 3);
  await heard(() => calls.every(({ messages }) => messages.at(-1)?.status === "COMPLETE"), "all to be up");
  expect((await Promise.all(calls.map(({ ended }) => ended))).map(({ code }) => code)).toEqual([OK, OK, OK]);
});

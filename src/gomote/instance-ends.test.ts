/** How instances end, and what happens to people who wait when there is no instance for them. */
import { expect, test } from "vitest";
import { Recovery } from "../builds/recovery.ts";
import { coordinatorId, epochMs, minutes, ms, personId, seconds } from "../farm/ids.ts";
import { type Person, userName } from "../farm/person.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import { COORDINATOR } from "../machines/testing/farm-of-machines.ts";
import type { Behaviour } from "../machines/testing/original-buildlet.ts";
import { coordinatorEnded } from "../store/coordinators.ts";
import { systemClock } from "../store/system-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { type GomoteFarm, type GomoteFarmOptions, gomoteFarm, HOST_TYPE, TEAM_TYPE } from "./testing/farm.ts";
import { type Ended, OK, type RpcClient } from "./testing/rpc-client.ts";

const CODE = { deadline: 4, notFound: 5, exhausted: 8, internal: 13 } as const;

interface Created {
  readonly status: "WAITING" | "COMPLETE";
  readonly waiters_ahead: number;
  readonly instance: { readonly gomote_id: string } | null;
}

const asked = (client: RpcClient, builder_type = HOST_TYPE) =>
  client.stream<Created>("CreateInstance", { builder_type });

async function create(client: RpcClient): Promise<string> {
  const call = asked(client);
  expect(await call.ended).toEqual({ code: OK, details: "" });
  return call.messages.at(-1)?.instance?.gomote_id ?? "";
}

/** Leases by state, and the reasons of those that ended. */
const leases = (farm: GomoteFarm) =>
  farm.database.sql.query<{ state: string; reason: string | null }>(
    "select l.state, l.end_reason as reason from lease l join gomote_instance g on g.lease_id = l.id order by l.id",
  );

const ping = async (client: RpcClient, gomote_id: string) =>
  ((await client.call<Ended>("InstanceAlive", { gomote_id })) as Partial<Ended>).code ?? OK;

/** A machine that answers what it is asked when it joins, and then nothing until it `answers`. */
function joinsOnly(): Behaviour & { answers(): void } {
  let left = 1;
  return {
    get silent() {
      return left-- <= 0;
    },
    answers() {
      left = Number.POSITIVE_INFINITY;
    },
  };
}

test("somebody who is removed loses what they have and what they wait for, and nobody else does", async () => {
  await using farm = await gomoteFarm();
  const both = [await farm.machines.machine(), await farm.machines.machine({ name: "m2" })];
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  await create(alice);
  const his = await create(bob);
  const waiting = asked(alice);
  await waiting.have(1);
  await farm.people.remove("alice@example.org", "test");
  // Her token is refused now, and her lease has ended. She hears of the one that is noticed first.
  expect((await waiting.ended).details).toMatch(
    /: (alice@example\.org was removed on [-\d]+|its owner was removed)\.$/,
  );
  await until(() => both.some(({ calls }) => calls.includes("POST /halt")), "her machine to be given back");
  await until(async () => (await leases(farm))[2]?.state === "ended", "her wait to end");
  expect((await leases(farm)).slice(0, 2)).toEqual([
    { state: "ended", reason: "its owner was removed" },
    { state: "held", reason: null },
  ]);
  expect(await ping(bob, his)).toBe(OK);
});

test("an owner who lends no more gets the machine back, and its borrower and whoever waits hear why; what the farm lends no more stays", async () => {
  let changed: GomoteFarmOptions["config"];
  const lent = (gomote: "members" | "nobody", consent: boolean) => ({
    hosts: [{ hostType: HOST_TYPE, trust: "team" as const, gomote, lend: { gomote: consent } }],
    builders: [],
  });
  await using farm = await gomoteFarm({ config: lent("members", true), reconfigured: () => changed });
  const machine = await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const mine = await create(alice);
  const waiting = asked(alice);
  await waiting.have(1);
  changed = lent("nobody", true);
  await farm.gomote.instances.look();
  expect(await ping(alice, mine)).toBe(OK);
  changed = lent("members", false);
  await farm.gomote.instances.look();
  const reason = "the owner of its machine does not lend it to people any more";
  expect((await waiting.ended).details).toContain(reason);
  expect(await alice.call("InstanceAlive", { gomote_id: mine })).toMatchObject({
    code: CODE.notFound,
    details: expect.stringContaining(reason),
  });
  await until(() => machine.calls.includes("POST /halt"), "the machine to be given back");
  expect(await leases(farm)).toEqual([
    { state: "ended", reason },
    { state: "ended", reason },
  ]);
});

test("a coordinator with an older configuration ends nothing that another let in, until that has ended", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  await create(alice);
  const waiting = asked(alice);
  await waiting.have(1);
  const hosts = [{ hostType: HOST_TYPE, trust: "team" as const, lend: { gomote: false } }];
  await using other = await gomoteFarm({
    database: farm.database,
    coordinator: coordinatorId("P0000000bb"),
    reconfigured: () => ({ hosts, builders: [] }),
  });
  await other.gomote.instances.look();
  expect((await leases(farm)).map(({ state }) => state)).toEqual(["held", "wanted"]);
  await coordinatorEnded(farm.database.sql, COORDINATOR, epochMs(Date.now()));
  await other.gomote.instances.look();
  expect((await leases(farm)).map(({ state }) => state)).toEqual(["ended", "ended"]);
});

test("whoever loses the role for it loses the machine, and one that others may still borrow stays", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({ name: "m1", hostType: TEAM_TYPE });
  await farm.machines.machine({ name: "m2" });
  const alice = await farm.person("alice@example.org", ["team"]);
  const mine = asked(alice, TEAM_TYPE);
  expect(await mine.ended).toMatchObject({ code: OK });
  const any = await create(alice);
  await farm.people.setRoles("alice@example.org", ["member"], "operator");
  await until(async () => (await leases(farm)).some(({ state }) => state === "ended"), "one to end");
  expect(await leases(farm)).toEqual([
    { state: "ended", reason: "its owner has no role any more with which one borrows such machines" },
    { state: "held", reason: null },
  ]);
  expect(await ping(alice, any)).toBe(OK);
  await farm.people.setRoles("alice@example.org", [], "operator");
  await until(async () => (await leases(farm)).every(({ state }) => state === "ended"), "both to end");
});

test("the owner of the machine ends an instance: what runs there is told why, and the borrower cannot go on", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine({
    exec: async (_, io) => {
      await io.write("begun\n");
      await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
      return "ok";
    },
  });
  const alice = await farm.person("alice@example.org");
  const id = await create(alice);
  const call = alice.stream("ExecuteCommand", { gomote_id: id, command: "long" });
  await call.have(1);
  const [instance] = await farm.gomote.instances.list(null);
  const reason = "the machine's owner took it back";
  await farm.gomote.instances.end({ id: instance?.id ?? 0, who: "ann@example.org", action: "end", reason });
  expect(await call.ended).toEqual({
    code: CODE.notFound,
    details: `The instance "${id}" has ended: the machine's owner took it back.`,
  });
  expect(await ping(alice, id)).toBe(CODE.notFound);
  expect(await farm.database.sql.query("select who, action, detail from audit where action = 'gomote end'")).toEqual([
    { who: "ann@example.org", action: "gomote end", detail: "of alice@example.org: the machine's owner took it back" },
  ]);
});

test("whoever leaves before their instance is there leaves nothing behind: not while they wait, not while it is made ready", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  const waiting = asked(alice);
  await waiting.have(1);
  waiting.cancel();
  await until(async () => (await leases(farm)).every(({ state }) => state === "ended"), "the lease to end");
  const behave = joinsOnly();
  const slow = await farm.machines.machine({ name: "slow", behave });
  const second = asked(alice);
  await until(() => slow.calls.includes("POST /removeall"), "the machine to be asked");
  second.cancel();
  await until(async () => (await leases(farm)).every(({ state }) => state === "ended"), "the lease to end");
  behave.answers();
  expect((await leases(farm)).map(({ reason }) => reason)).toEqual(
    Array(2).fill("whoever asked for it left before it was there"),
  );
  await until(() => slow.calls.includes("POST /halt"), "the machine to be given back");
});

test("[gomote 55] a machine that cannot be made ready is given up for another; after three the person is told, with the known issue", async () => {
  await using farm = await gomoteFarm();
  const alice = await farm.person("alice@example.org");
  /** A machine that hangs up when it is asked for anything. */
  const broken = async (name: string) => {
    const machine = await farm.machines.machine({ name, behave: joinsOnly() });
    await until(() => machine.calls.includes("POST /removeall"), `${name} to be asked`);
    await machine.hangUp();
  };
  const call = asked(alice);
  await broken("b1");
  await broken("b2");
  await farm.machines.machine({ name: "good" });
  expect(await call.ended).toEqual({ code: OK, details: "" });
  const known = asked(alice, "linux-amd64-known");
  for (const name of ["b3", "b4", "b5"]) await broken(name);
  expect(await known.ended).toEqual({
    code: CODE.internal,
    details: expect.stringMatching(
      /^Creation of alice-linux-amd64-known-0 failed: the machine could not be made ready: .* known issues: 123\.$/,
    ),
  });
});

test("nobody waits for ever: after the farm's limit they are told so; an instance ends at its own limit, however much it is used", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock, config: { gomote: { wait: "1h", longest: "2h" } } });
  const alice = await farm.person("alice@example.org");
  const waiting = asked(alice);
  await until(async () => (await leases(farm)).length === 1, "it to be wanted");
  await clock.advance(minutes(61));
  await farm.gomote.instances.look();
  await until(async () => {
    await clock.advance(seconds(5));
    return (await Promise.race([waiting.ended, ms(0)])) !== 0;
  }, "the wait to end");
  expect(await waiting.ended).toEqual({
    code: CODE.deadline,
    details: `Cannot create alice-${HOST_TYPE}-0: no machine came free within 1h0m0s.`,
  });
  await farm.machines.machine();
  const id = await create(alice);
  for (let used = 0; used < 6; used++) {
    expect(await ping(alice, id)).toBe(OK);
    await clock.advance(minutes(20));
    await farm.gomote.instances.look();
  }
  expect(await ping(alice, id)).toBe(CODE.notFound);
  expect((await leases(farm)).at(-1)?.reason).toBe("it reached the longest time that an instance may last");
});

test("an instance that has ended says when and why, to its owner and to operators; to anybody else it never was", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const operator = await farm.person("root@example.org", ["operator"]);
  const gomote_id = await create(alice);
  const [{ id } = { id: 0 }] = await farm.gomote.instances.list(null);
  const reason = "the machine's owner took it back";
  await farm.gomote.instances.end({ id, who: "ann@example.org", action: "end", reason });
  const told = async (client: RpcClient, method = "InstanceAlive") => client.call<Ended>(method, { gomote_id });
  const never = { code: CODE.notFound, details: `There is no instance "${gomote_id}". "gomote list" shows yours.` };
  const ended = {
    code: CODE.notFound,
    details: expect.stringMatching(
      new RegExp(
        `^There is no instance "${gomote_id}" any more: it ended at [-\\dT:.]+Z: ${reason}\\. "gomote list" shows yours\\.$`,
      ),
    ),
  };
  expect([await told(alice), await told(alice, "DestroyInstance"), await told(operator)]).toEqual(Array(3).fill(ended));
  expect(await told(bob)).toEqual(never);
  expect(await bob.call("InstanceAlive", { gomote_id: "nobody-ever-0" })).toMatchObject({ code: CODE.notFound });
});

test("quotas: so many of one person, so many of a host type, what is waited for included", async () => {
  const hosts = [{ hostType: HOST_TYPE, trust: "team", gomoteMost: 3 }] as const;
  await using farm = await gomoteFarm({ config: { hosts, builders: [], gomote: { perPerson: 2 } } });
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  await farm.machines.machine();
  await create(alice);
  const [second, his] = [asked(alice), asked(bob)];
  await Promise.all([second.have(1), his.have(1)]);
  expect(await asked(alice).ended).toEqual({
    code: CODE.exhausted,
    details: `Cannot create an instance: you have 2 of at most 2 instances: alice-${HOST_TYPE}-0, alice-${HOST_TYPE}-1; destroy one first.`,
  });
  expect(await asked(bob).ended).toEqual({
    code: CODE.exhausted,
    details: `Cannot create an instance: 3 of at most 3 machines of ${HOST_TYPE} are lent or waited for; try later.`,
  });
  his.cancel();
  await until(async () => (await leases(farm)).some(({ state }) => state === "ended"), "one to be free again");
  const third = asked(bob);
  await third.have(1);
});

test("[gomote 9] an instance is named after what stands before the last @ of an address; one that has nothing there gets none", async () => {
  const identify = async (email: string): Promise<Person> => ({
    id: personId(`U${email}`),
    email,
    name: userName(email),
    roles: ["member"],
  });
  await using farm = await gomoteFarm({ identify });
  await farm.machines.machine();
  expect(await create(farm.client("a@b@c.org"))).toBe(`a@b-${HOST_TYPE}-0`);
  for (const email of ["@c.org", "a@"]) expect((await asked(farm.client(email)).ended).code).toBe(CODE.internal);
});

test("1,000 creates at once: each person gets one before anybody gets two, all hear their place, and all go when they leave", {
  timeout: 120_000,
}, async () => {
  const PEOPLE = 20;
  await using farm = await gomoteFarm({ config: { gomote: { perPerson: 50 } } });
  const people: RpcClient[] = [];
  for (let n = 0; n < PEOPLE; n++) people.push(await farm.person(`p${n}@example.org`));
  const calls = people.flatMap((person) => Array.from({ length: 50 }, () => asked(person)));
  await Promise.all(calls.map((call) => call.have(1)));
  expect((await asked(people[0] as RpcClient).ended).code).toBe(CODE.exhausted);
  await until(
    () => new Set(calls.map(({ messages }) => messages.at(-1)?.waiters_ahead)).size === 1000,
    "everybody to hear a place of their own",
  );
  for (let n = 0; n < PEOPLE; n++) await farm.machines.machine({ name: `m${n}` });
  const up = () => calls.flatMap(({ messages }) => messages.at(-1)?.instance?.gomote_id ?? []);
  await until(() => up().length === PEOPLE, "all machines to be lent");
  expect(new Set(up().map((id) => id.split("-")[0])).size).toBe(PEOPLE);
  for (const call of calls) call.cancel();
  await until(async () => {
    const [left] = await farm.database.sql.query<{ count: number }>(
      "select count(*) from lease where state = 'wanted'",
    );
    return left?.count === 0;
  }, "nobody to wait any more");
});

test("an original buildlet has its work dir again after it was emptied, before and by its person; our agent keeps it by itself", async () => {
  await using farm = await gomoteFarm();
  const machine = await farm.machines.machine();
  const alice = await farm.person("alice@example.org");
  const gomote_id = await create(alice);
  const emptied = ["POST /removeall path=.", "PUT /writetgz dir="];
  const asked = () => machine.calls.filter((call) => !call.startsWith("GET "));
  expect(asked()).toEqual(emptied);
  expect(await alice.call("RemoveFiles", { gomote_id, paths: ["./"] })).toEqual({});
  expect(asked()).toEqual([...emptied, ...emptied]);
  expect(await alice.call("DestroyInstance", { gomote_id })).toEqual({});
  const agent = { digest: "", platform: "linux/amd64", instance: "a".repeat(32), resume: 1 };
  const ours = await farm.machines.machine({ name: "m2", agent });
  await create(alice);
  expect(ours.calls.filter((call) => call.startsWith("PUT "))).toEqual([]);
});

test("an instance that recovery gives up ends like any other: its page and its machine's hear it, and the audit has it", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  const name = await create(await farm.person("alice@example.org"));
  const { sql, bus } = farm.database;
  const [mine] = await farm.gomote.instances.list(null);
  const heard = new Set<string>();
  const stop = new AbortController();
  for (const topics of ["gomote", "machine:"]) bus.subscribe(topics, (topic) => heard.add(topic), stop.signal);
  await coordinatorEnded(sql, COORDINATOR, systemClock.now());
  const coordinator = coordinatorId("P0000000bb");
  await using other = await gomoteFarm({ database: farm.database, coordinator });
  await using recovery = new Recovery({
    ...{ sql, heart: sql, bus, clock: systemClock, log: quiet, coordinator, alone: false, lost: () => {} },
    endInstance: (id, why, held) => other.gomote.instances.endByFarm(id, why, held),
  });
  await recovery.look();
  const reason = `coordinator ${COORDINATOR} ended while it ran this`;
  expect(await leases(farm)).toEqual([{ state: "ended", reason }]);
  expect(await sql.query("select who, subject, detail from audit where action = 'gomote end'")).toEqual([
    { who: "the farm", subject: `gomote:${name}`, detail: `of alice@example.org: ${reason}` },
  ]);
  const topics = [`gomote-ended:${mine?.id}`, `gomote:${mine?.id}`, `machine:${mine?.machineId}`];
  await until(() => topics.every((topic) => heard.has(topic)), "everybody who looks to hear it");
  stop.abort();
});

test("an instance whose lease is driven again since ends only for those who mean the lease as it is now", async () => {
  await using farm = await gomoteFarm();
  await farm.machines.machine();
  await create(await farm.person("alice@example.org"));
  const { instances } = farm.gomote;
  const [mine] = await instances.list(null);
  if (!mine) throw new Error("Cannot happen: it was just created");
  const { id, lease, epoch } = mine;
  await instances.endByFarm(id, "of before", { id: lease, epoch: epoch - 1 });
  expect(await leases(farm)).toEqual([{ state: "held", reason: null }]);
  await Promise.all([
    instances.endByFarm(id, "of before", { id: lease, epoch: epoch - 1 }),
    instances.endByFarm(id, "of now", { id: lease, epoch }),
  ]);
  expect(await leases(farm)).toEqual([{ state: "ended", reason: "of now" }]);
});

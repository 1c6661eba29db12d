/**
 * The machine of a failed build, for the person who waits for it. The build is driven by hand, in the statements of a
 * real one.
 */
import { expect, test } from "vitest";
import { insertPlanned } from "../builds/insert.ts";
import { buildId, coordinatorId, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import { COORDINATOR } from "../machines/testing/farm-of-machines.ts";
import { beginAttempt, endAttempt } from "../store/attempts.ts";
import { coordinatorEnded } from "../store/coordinators.ts";
import { askHold, couldBeKept, holdState, keepMachine } from "../store/gomote-holds.ts";
import { sessionHolds } from "../store/leases.ts";
import { instanceOfBuild } from "../store/pages-gomote.ts";
import { parkOrphans } from "../store/parked-leases.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase } from "../store/testing/database.ts";
import { addCommit, NOON, testRecipe } from "../store/testing/farm.ts";
import { LEASE_GOES_ON, LEASE_OVER } from "../wire/buildlet-api/buildlet-api.ts";
import { COMES_BACK } from "./holds.ts";
import { BUILDER, type GomoteFarm, gomoteFarm, HOST_TYPE } from "./testing/farm.ts";
import { OK, type RpcClient, type Streaming } from "./testing/rpc-client.ts";

const OWN = "barnraiser.Gomote";
const CODE = { notFound: 5, denied: 7, precondition: 9 } as const;
const AGENT = { digest: "", platform: "linux/amd64", instance: "a".repeat(32), resume: 1 };

interface Held {
  readonly progress: string;
  readonly gomote_id: string;
}

/** A build that runs, on the one machine of the farm; the test drives it. */
async function running(farm: GomoteFarm) {
  const { sql } = farm.database;
  const commitId = await addCommit(sql, "app", "c".repeat(40));
  const recipe = testRecipe(BUILDER, HOST_TYPE, ["make"]);
  const planned = { repo: "app", commitId, committedAt: NOON, branch: "main", head: true, recipe } as const;
  const machine = await farm.machines.machine({ agent: AGENT });
  await until(async () => (await sql.query("select from session where closed_at is null")).length > 0, "a session");
  const [made] = await insertPlanned(sql, [{ ...planned, provenance: "submitted", class: "post-submit" }], NOON);
  const id = made?.id ?? buildId(0);
  farm.database.bus.publish(`queue:${HOST_TYPE}`);
  await until(() => farm.builds.length > 0, "the build to have a machine");
  const lease = farm.builds[0];
  if (!lease) throw new Error("Cannot happen: it was just waited for");
  farm.machines.pool.take(lease.sessionId);
  const begun = await beginAttempt(sql, lease, NOON);
  if (!begun) throw new Error("Cannot happen: nobody else has the lease");
  machine.calls.length = 0;
  const end = async (outcome: "failure" | "success") => {
    const step = { attempt: begun.attempt, epoch: lease.epoch, number: 0, status: "over", outcome };
    await endAttempt(sql, step, undefined, { outcome, reason: null, failedStep: null }, false, systemClock.now());
  };
  const giveBack = async () => {
    const how = (await sessionHolds(sql, lease.sessionId)) ? "kept" : "clean";
    await farm.machines.pool.release(lease.sessionId, how);
  };
  const ends = async (outcome: "failure" | "success") => {
    await end(outcome);
    farm.database.bus.publish(`build:${id}`);
    await giveBack();
  };
  return { id, machine, lease, end, giveBack, ends };
}

/** A clock that counts the waits for a client to come back. */
class LeftClock extends FakeClock {
  left = 0;

  override sleep(span: Ms, signal?: AbortSignal): Promise<void> {
    if (span === COMES_BACK) this.left++;
    return super.sleep(span, signal);
  }
}

/** Ends a call that nobody has taken over, from its caller's side, and waits until the service has heard that. */
async function leaves(clock: LeftClock, call: Streaming<Held>): Promise<void> {
  const before = clock.left;
  call.cancel();
  await until(() => clock.left > before, "the service to hear that the client left");
}

const hold = (client: RpcClient, build: number) => client.stream<Held>("HoldBuild", { build }, OWN);

test("the very machine of a build that fails becomes an instance, with all that is there", async () => {
  await using farm = await gomoteFarm();
  const { id, machine, ends } = await running(farm);
  const [alice, bob] = [await farm.person("alice@example.org"), await farm.person("bob@example.org")];
  const call = hold(alice, id);
  await call.have(1);
  expect(await hold(bob, id).ended).toEqual({
    code: CODE.precondition,
    details: `Cannot hold the machine of build ${id}: alice@example.org waits for it already.`,
  });
  await ends("failure");
  expect(await call.ended).toEqual({ code: OK, details: "" });
  const gomote_id = `alice-${BUILDER}-0`;
  expect(call.messages).toMatchObject([{ progress: "its machine becomes yours when it fails" }, { gomote_id }]);
  expect(machine.calls.filter((each) => each !== "GET /status")).toEqual(["GET /workdir"]);
  expect(await alice.stream("ExecuteCommand", { gomote_id, command: "true" }).ended).toMatchObject({ code: OK });
  const audit = await farm.database.sql.query("select who, detail from audit where action = 'gomote hold'");
  expect(audit).toEqual([{ who: "alice@example.org", detail: `the machine of build ${id}` }]);
  expect(await alice.call("RemoveFiles", { gomote_id, paths: ["."] })).toEqual({});
  expect(machine.leases).toEqual([LEASE_GOES_ON]); // what she has running goes on
  expect(await alice.call("DestroyInstance", { gomote_id })).toEqual({});
  await until(() => machine.leases.at(-1) === LEASE_OVER, "the machine to be emptied afterwards");
  expect(await farm.database.sql.query("select from gomote_hold")).toEqual([]);
});

test("a build that has failed is held as long as nothing else had its machine, and not afterwards", async () => {
  await using farm = await gomoteFarm();
  const { id, machine, ends } = await running(farm);
  const { sql } = farm.database;
  expect(await couldBeKept(sql, id)).toBe(false);
  await ends("failure");
  expect([await couldBeKept(sql, id), await instanceOfBuild(sql, id)]).toEqual([true, undefined]);
  const alice = await farm.person("alice@example.org");
  const call = hold(alice, id);
  expect(await call.ended).toEqual({ code: OK, details: "" });
  expect([await couldBeKept(sql, id), (await instanceOfBuild(sql, id))?.name]).toEqual([false, `alice-${BUILDER}-0`]);
  expect(machine.calls).not.toContain("POST /removeall path=.");
  expect(await hold(alice, id).ended).toEqual({
    code: CODE.precondition,
    details: `Cannot hold the machine of build ${id}: m1 has been given to other work since.`,
  });
  await machine.hangUp();
  await until(async () => (await hold(alice, id).ended).details.endsWith("m1 has hung up since."), "it to be gone");
});

test("its machine is found at once among others that are idle", async () => {
  await using farm = await gomoteFarm();
  const { id, ends } = await running(farm);
  for (const name of ["m2", "m3"])
    await farm.machines.machine({ name, agent: { ...AGENT, instance: name.repeat(16) } });
  const { sql } = farm.database;
  await until(async () => (await sql.query("select from session where closed_at is null")).length === 3, "two more");
  await ends("failure");
  const call = hold(await farm.person("alice@example.org"), id);
  await until(() => call.messages.length > 1, "its machine");
  expect(await call.ended).toEqual({ code: OK, details: "" });
});

test("whoever may not borrow it, a build that ends well and one that there is not are refused; who leaves is forgotten", async () => {
  const clock = new LeftClock(systemClock.now());
  await using farm = await gomoteFarm({ clock });
  const { id, lease, ends } = await running(farm);
  const alice = await farm.person("alice@example.org");
  expect(await hold(await farm.person("nobody@example.org", []), id).ended).toMatchObject({ code: CODE.denied });
  expect(await hold(alice, 77).ended).toMatchObject({ code: CODE.notFound });
  const left = hold(alice, id);
  await left.have(1);
  await leaves(clock, left);
  const { sql } = farm.database;
  await clock.advance(ms(COMES_BACK - seconds(1)));
  expect(await sql.query("select from gomote_hold")).toHaveLength(1);
  await clock.advance(seconds(1));
  await until(async () => (await sql.query("select from gomote_hold")).length === 0, "it to be forgotten");
  const call = hold(alice, id);
  await call.have(1);
  await ends("success");
  expect(await call.ended).toEqual({
    code: CODE.precondition,
    details: `Cannot hold the machine of build ${id}: it ended as success; only that of a failed build is kept.`,
  });
  expect(await sql.query("select from lease where session_id = $1 and state = 'held'", [lease.sessionId])).toEqual([]);
});

test("whoever was cut off takes their hold over, at another coordinator too, before anybody has heard that they left", async () => {
  await using database = await freshDatabase();
  await using first = await gomoteFarm({ database });
  const { id, ends } = await running(first);
  const cut = hold(await first.person("alice@example.org"), id);
  await cut.have(1);
  const other = coordinatorId("P0000000bb");
  await using second = await gomoteFarm({ database, coordinator: other });
  const alice = await second.person("alice@example.org");
  const again = hold(alice, id);
  await again.have(1);
  await ends("failure");
  expect(await cut.ended).toEqual({
    code: CODE.precondition,
    details: `Cannot hold the machine of build ${id}: it was asked for once more since, and goes there.`,
  });
  const gomote_id = `alice-${BUILDER}-0`;
  expect(await again.ended).toEqual({ code: OK, details: "" });
  expect(again.messages.at(-1)).toMatchObject({ gomote_id });
  expect(await alice.call("InstanceAlive", { gomote_id })).toEqual({});
  expect(await database.sql.query("select from gomote_hold")).toEqual([]);
});

test("a machine that was kept when its client was cut off waits for them to ask again, and no call from before ends it", async () => {
  const clock = new LeftClock(systemClock.now());
  await using farm = await gomoteFarm({ clock });
  const { sql, bus } = farm.database;
  const { id, end, giveBack } = await running(farm);
  const alice = await farm.person("alice@example.org");
  const cut = hold(alice, id);
  await cut.have(1);
  await end("failure");
  bus.publish(`build:${id}`);
  await leaves(clock, cut);
  for (let times = 0; times < 2; times++) {
    const again = hold(alice, id);
    await again.have(1);
    await leaves(clock, again);
  }
  const last = hold(alice, id);
  await last.have(1);
  await clock.advance(COMES_BACK);
  await giveBack();
  expect(await last.ended).toEqual({ code: OK, details: "" });
  const gomote_id = `alice-${BUILDER}-0`;
  expect(last.messages.at(-1)).toMatchObject({ gomote_id });
  expect(await alice.call("InstanceAlive", { gomote_id })).toEqual({});
  expect(await sql.query("select from lease where kind = 'gomote' and state = 'ended'")).toEqual([]);
});

test("who takes their hold over while its machine is being kept gets that machine", async () => {
  await using farm = await gomoteFarm();
  const { sql } = farm.database;
  const { id, end } = await running(farm);
  const { id: owner, email } = await farm.people.add("alice@example.org", ["member"], "test");
  const quotas = { perPerson: 5, perHostType: null };
  const ask = (request: string) => {
    const hold = { build: id, request, owner, email, user: "alice", builderType: BUILDER, hostType: HOST_TYPE };
    return askHold(sql, { ...hold, coordinator: COORDINATOR, ...quotas }, systemClock.now());
  };
  await end("failure");
  expect(await ask("before")).toBeUndefined();
  const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
  const again = await sql.tx(async (tx) => {
    await keepMachine(tx, id, systemClock.now());
    const asked = ask("again");
    await until(async () => (await sql.query(waits)).length > 0, "the second request to wait for the hold");
    return { asked };
  });
  expect(await again.asked).toBeUndefined();
  const [kept] = await sql.query<{ id: number }>("select id from gomote_instance");
  expect(await holdState(sql, "before")).toBeUndefined();
  expect(await holdState(sql, "again")).toMatchObject({ instance: kept?.id ?? "one" });
});

test("a machine that was kept for somebody who does not come back is theirs for a minute", async () => {
  const clock = new LeftClock(systemClock.now());
  await using farm = await gomoteFarm({ clock });
  const { id, end, giveBack } = await running(farm);
  const left = hold(await farm.person("alice@example.org"), id);
  await left.have(1);
  await end("failure");
  farm.database.bus.publish(`build:${id}`);
  await leaves(clock, left);
  const lease = () =>
    farm.database.sql.query<{ state: string }>("select state, end_reason from lease where kind = 'gomote'");
  expect(await lease()).toEqual([{ state: "held", end_reason: null }]);
  await clock.advance(COMES_BACK);
  const end_reason = "whoever asked for it left before it was there";
  await until(async () => (await lease())[0]?.state === "ended", "it to be ended");
  expect(await lease()).toEqual([{ state: "ended", end_reason }]);
  await giveBack();
});

test("a coordinator that dies between the failure and giving the machine back loses nothing: whoever asks again has the machine", async () => {
  await using database = await freshDatabase();
  await using first = await gomoteFarm({ database });
  const { id, end } = await running(first);
  const left = hold(await first.person("alice@example.org"), id);
  await left.have(1);
  await end("failure");
  await coordinatorEnded(database.sql, COORDINATOR, systemClock.now());
  await database.sql.query("update session set closed_at = now()");
  await parkOrphans(database.sql, plus(systemClock.now(), minutes(5)));
  // Nobody ends it, though the person who waited for it is gone.
  await using second = await gomoteFarm({ database, coordinator: coordinatorId("P0000000bb") });
  await second.gomote.instances.look();
  const back = await second.machines.machine({ agent: AGENT });
  const alice = await second.person("alice@example.org");
  const again = hold(alice, id);
  expect(await again.ended).toEqual({ code: OK, details: "" });
  const gomote_id = `alice-${BUILDER}-0`;
  expect(again.messages.at(-1)).toMatchObject({ gomote_id });
  expect(back.calls).not.toContain("POST /removeall path=.");
  expect(await alice.stream("ExecuteCommand", { gomote_id, command: "true" }).ended).toMatchObject({ code: OK });
});

test("whoever asked at a coordinator that has ended, and does not come back in time, gets no machine when the build fails", async () => {
  for (const [ago, kept] of [
    [minutes(5), 1],
    [minutes(6), 0],
  ] as const) {
    await using database = await freshDatabase();
    const { sql } = database;
    await using farm = await gomoteFarm({ database });
    const { id, end } = await running(farm);
    const other = coordinatorId("P0000000bb");
    await using second = await gomoteFarm({ database, coordinator: other });
    await hold(await second.person("alice@example.org"), id).have(1);
    await coordinatorEnded(sql, other, plus(systemClock.now(), ms(-ago)));
    await end("failure");
    expect(await sql.query("select from gomote_hold where instance_id is not null")).toHaveLength(kept);
    expect(await sql.query("select from lease where kind = 'gomote'")).toHaveLength(kept);
  }
});

test("whoever drove the build may take their time to give the machine back: nobody looks after it before that", async () => {
  const clock = new FakeClock(systemClock.now());
  await using farm = await gomoteFarm({ clock });
  const { id, machine, end, giveBack } = await running(farm);
  const call = hold(await farm.person("alice@example.org"), id);
  await call.have(1);
  await end("failure");
  farm.database.bus.publish(`build:${id}`);
  await clock.advance(minutes(1));
  await farm.gomote.instances.look();
  const kept = "select state, parked_until from lease where kind = 'gomote'";
  expect(await farm.database.sql.query(kept)).toEqual([{ state: "held", parked_until: null }]);
  expect(machine.calls).not.toContain("GET /workdir");
  await giveBack();
  expect(await call.ended).toEqual({ code: OK, details: "" });
});

test("a kept machine is waited for as long as its host type says, and a minute", async () => {
  const clock = new FakeClock(systemClock.now());
  await using farm = await gomoteFarm({ clock });
  const { sql } = farm.database;
  await sql.query("update host_type set reconnect_ms = 30 * 60 * 1000");
  const { id, end } = await running(farm);
  const call = hold(await farm.person("alice@example.org"), id);
  await call.have(1);
  await end("failure");
  const kept = async () => {
    await farm.gomote.instances.look();
    return await sql.query("select state from lease where kind = 'gomote'");
  };
  await clock.advance(minutes(30));
  expect(await kept()).toEqual([{ state: "held" }]);
  await clock.advance(minutes(2));
  expect(await kept()).toEqual([{ state: "ended" }]);
  const details = expect.stringMatching(/its machine was not there in time/);
  expect(await call.ended).toEqual({ code: CODE.precondition, details });
});

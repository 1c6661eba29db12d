/** The machine of a build that fails, for whoever waits for that; the build is driven by hand, in the statements of a real one. */
import { expect, test } from "vitest";
import { insertPlanned } from "../builds/insert.ts";
import { buildId } from "../farm/ids.ts";
import { until } from "../machines/testing/farm-of-machines.ts";
import { addCommit, NOON, testRecipe } from "../store/testing/farm.ts";
import { BUILDER, type GomoteFarm, gomoteFarm, HOST_TYPE } from "./testing/farm.ts";
import { OK, type RpcClient } from "./testing/rpc-client.ts";

const OWN = "barnraiser.Gomote";
const CODE = { notFound: 5, denied: 7, precondition: 9 } as const;
const AGENT = { digest: "", platform: "linux/amd64", instance: "a".repeat(32), resume: 1 };

interface Held {
  readonly progress: string;
  readonly gomote_id: string;
}

/** A build that runs, on the one machine of the farm; its driver is the test. */
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
  await sql.query("update build set state = 'running' where id = $1", [id]);
  machine.calls.length = 0;
  /** As store/attempts.ts and builds/attempt.ts end it. */
  const ends = async (outcome: "failure" | "success") => {
    await sql.query(
      `with a as (update attempt set state = 'ended', outcome = $2, ended_at = now() where build_id = $1 returning lease_id
       ), b as (update build set state = 'ended', outcome = $2, ended_at = now() where id = $1
       ) update lease set state = 'ended', ended_at = now() where id = (select lease_id from a)`,
      [id, outcome],
    );
    farm.database.bus.publish(`build:${id}`);
    if (outcome === "failure") await farm.gomote.holds.keep(id);
    await farm.machines.pool.release(lease.sessionId, "clean");
  };
  return { id, machine, lease, ends };
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
  expect(await alice.call("DestroyInstance", { gomote_id })).toEqual({});
  await until(() => machine.calls.includes("POST /removeall path=."), "the machine to be emptied afterwards");
  expect(await farm.database.sql.query("select from gomote_hold")).toEqual([]);
});

test("a build that has failed is held as long as nothing else had its machine, and not afterwards", async () => {
  await using farm = await gomoteFarm();
  const { id, machine, ends } = await running(farm);
  await ends("failure");
  const alice = await farm.person("alice@example.org");
  const call = hold(alice, id);
  expect(await call.ended).toEqual({ code: OK, details: "" });
  expect(machine.calls).not.toContain("POST /removeall path=.");
  expect(await hold(alice, id).ended).toEqual({
    code: CODE.precondition,
    details: `Cannot hold the machine of build ${id}: m1 has been given to other work since.`,
  });
  await machine.hangUp();
  await until(async () => (await hold(alice, id).ended).details.endsWith("m1 has hung up since."), "it to be gone");
});

test("whoever may not borrow it, a build that ends well and one that there is not are refused; who leaves is forgotten", async () => {
  await using farm = await gomoteFarm();
  const { id, lease, ends } = await running(farm);
  const alice = await farm.person("alice@example.org");
  expect(await hold(await farm.person("nobody@example.org", []), id).ended).toMatchObject({ code: CODE.denied });
  expect(await hold(alice, 77).ended).toMatchObject({ code: CODE.notFound });
  const left = hold(alice, id);
  await left.have(1);
  left.cancel();
  const { sql } = farm.database;
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

import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import { minutes, personId, plus } from "../farm/ids.ts";
import { insertInstances, instanceUp } from "../store/gomote.ts";
import { claimLease } from "../store/leases.ts";
import { freshDatabase } from "../store/testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON } from "../store/testing/farm.ts";
import { queuesData } from "./queues.ts";

test("[gomote 54] /queues shows who waits for a machine, and which are lent; names to whoever is logged in", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  const hostType = "host-linux-amd64";
  await addHostType(sql, hostType);
  const machine = await addMachine(sql, hostType, "m1", coordinator);
  const until = plus(NOON, minutes(60));
  const wanted = (user: string, builderType: string) => ({
    ...{ request: user, owner: personId(`U${user}`), email: `${user}@example.org`, user, builderType, hostType },
    ...{ coordinator, until, perPerson: 1, perHostType: null },
  });
  await insertInstances(sql, [wanted("alice", "linux-amd64"), wanted("bob", hostType)], NOON);
  const { lease } = await claimLease(sql, machine.id, NOON);
  if (!lease) throw new Error("There are two");
  expect(await instanceUp(sql, lease, { workingDir: "/w", expiresAt: until, limitAt: until }, NOON)).toBe(true);
  const config = checkFarm({ repos: [], hosts: [{ hostType, trust: "team" }], builders: [] });
  const seen = async (kind: "operator" | "nobody") => (await queuesData(sql, config, { kind }, NOON)).queues[0];
  const queue = await seen("operator");
  expect(queue?.items).toMatchObject([
    { kind: "gomote", class: "gomote", build: null, instance: { name: `bob-${hostType}-0`, builderType: hostType } },
  ]);
  const lent = { builderType: "linux-amd64", machine: "m1", upAt: NOON, expiresAt: until, parked: false };
  expect(queue?.lent).toEqual([{ ...lent, instance: { name: "alice-linux-amd64-0" } }]);

  const open = await seen("nobody");
  expect(open?.items).toMatchObject([{ kind: "gomote", instance: { name: null, builderType: hostType } }]);
  expect(open?.lent).toEqual([{ ...lent, instance: { name: null } }]);
  expect(JSON.stringify(open)).not.toMatch(/alice|bob/);
});

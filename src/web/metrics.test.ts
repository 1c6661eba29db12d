import { expect, test } from "vitest";
import { drainFarm } from "../store/drain.ts";
import { drainMachine } from "../store/machines.ts";
import { freshDatabase } from "../store/testing/database.ts";
import { addCoordinator, addHostType, addMachine, closeSession, NOON } from "../store/testing/farm.ts";
import { Metrics } from "./metrics.ts";

test("barnraiser_machines_missing counts the machines that people are told of, not those that are drained", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  await addHostType(sql, "host-a");
  await sql.query("update host_type set expect = 2");
  await addMachine(sql, "host-a", "a", coordinator);
  const b = await addMachine(sql, "host-a", "b", coordinator);
  const metrics = new Metrics({ sql, coordinator, startedAt: NOON, version: "1" });
  const missing = async () =>
    /^barnraiser_machines_missing\{host_type="host-a"\} (\d+)$/m.exec(await metrics.text(NOON))?.[1];
  expect(await missing()).toBe("0");
  await closeSession(sql, b.id);
  expect(await missing()).toBe("1");
  await drainFarm(sql, "", NOON);
  expect(await missing()).toBe("0");
  await sql.query("update farm set drained_at = null");
  await drainMachine(sql, b.machineId, "on holiday", NOON);
  expect(await missing()).toBe("0");
});

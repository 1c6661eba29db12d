import { expect, test } from "vitest";
import { minutes, plus } from "../farm/ids.ts";
import { machineStrips } from "./pages-machines.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCoordinator, addHostType, addMachine, closeSession, NOON } from "./testing/farm.ts";

test("machineStrips() knows hours away from those before the machine first came", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  await addHostType(sql, "host-linux-amd64");
  const { machineId, id } = await addMachine(sql, "host-linux-amd64", "m1", coordinator);
  const strip = async () => {
    const [found] = await machineStrips(sql, [machineId], plus(NOON, minutes(150)), 24, minutes(60));
    return found?.strip;
  };
  expect(await strip()).toBe(`${"n".repeat(21)}iii`);
  await closeSession(sql, id);
  expect(await strip()).toBe(`${"n".repeat(21)}iaa`);
});

import { expect, test } from "vitest";
import { drainFarm, resumeFarm } from "./drain.ts";
import { drainHostType, drainMachine } from "./machines.ts";
import type { Sql } from "./sql.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCoordinator, addHostType, addMachine, closeSession, NOON } from "./testing/farm.ts";
import { expectedMachines } from "./troubles.ts";

/** Machines by name: `+a` is connected, `-a` is away; with `!`, it is drained. */
async function machines(sql: Sql, hostType: string, expected: number, ...names: string[]): Promise<void> {
  await addHostType(sql, hostType);
  await sql.query("update host_type set expect = $2 where name = $1", [hostType, expected]);
  for (const name of names) {
    const coordinator = await addCoordinator(sql, "P000000001");
    const { machineId, id } = await addMachine(sql, hostType, name.replace(/\W/g, ""), coordinator);
    if (name.startsWith("-")) await closeSession(sql, id);
    if (name.endsWith("!")) await drainMachine(sql, machineId, "", NOON);
  }
}

/** By host type: `connected/expected`, and who is away. */
async function standing(sql: Sql): Promise<Record<string, string>> {
  const rows = await expectedMachines(sql);
  return Object.fromEntries(
    rows.map(({ hostType, expect, connected, away }) => {
      return [hostType, [`${connected}/${expect}`, ...away.map(({ name }) => name)].join(" ")];
    }),
  );
}

test("what is drained and away is not expected, unless others could stand in for it", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await machines(sql, "complete", 2, "+a", "+b");
  await machines(sql, "away", 2, "+a", "-b");
  await machines(sql, "never-came", 2, "+a");
  await machines(sql, "on-holiday", 2, "+a", "-b!");
  await machines(sql, "still-there", 2, "+a", "+b!");
  await machines(sql, "still-there-and-another-away", 3, "+a", "+b!", "-c", "-old!");
  await machines(sql, "replaced", 2, "-old!", "+a", "-b");
  await machines(sql, "all-retired", 1, "-old!", "-older!");
  await machines(sql, "retired-and-replaced", 1, "-old!", "-older!", "-a");
  await machines(sql, "not-expected", 0, "+a", "-b");
  expect(await standing(sql)).toEqual({
    complete: "2/2",
    away: "1/2 b",
    "never-came": "1/2",
    "on-holiday": "1/1",
    "still-there": "2/2",
    "still-there-and-another-away": "2/3 c",
    replaced: "1/2 b",
    "all-retired": "0/0",
    "retired-and-replaced": "0/1 a",
    "not-expected": "1/0",
  });
});

test("nothing is expected of a host type, or a farm, that is drained", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await machines(sql, "a", 2, "+a");
  await machines(sql, "b", 2, "+b");
  await drainHostType(sql, "a", "", NOON);
  expect(await standing(sql)).toEqual({ a: "1/0", b: "1/2" });
  await drainFarm(sql, "", NOON);
  expect(await standing(sql)).toEqual({ a: "1/0", b: "1/0" });
  await resumeFarm(sql);
  expect(await standing(sql)).toEqual({ a: "1/0", b: "1/2" });
});

import { expect, test } from "vitest";
import { expectedTimes, remember } from "./test-times.ts";
import { freshDatabase } from "./testing/database.ts";
import { addBuild, NOON } from "./testing/farm.ts";

test("expectedTimes() takes a test's share of a group's time only where the builder never measured it, and before what others measured", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const build = await addBuild(sql);
  const ran = (name: string, durationMs: number | null, shareMs: number | null) => ({ name, durationMs, shareMs });
  await remember(sql, build, [ran("measured", 100, null), ran("shared", null, 70)], NOON);
  await remember(sql, build, [ran("measured", null, 9000), ran("shared", null, 90)], NOON);
  const names = ["measured", "shared", "never"];
  const here = await expectedTimes(sql, "tool", "b", names);
  const elsewhere = await expectedTimes(sql, "tool", "other", names);
  const known = new Map([
    ["measured", 100],
    ["shared", 80],
  ]);
  expect([here, elsewhere]).toEqual([known, known]);
});

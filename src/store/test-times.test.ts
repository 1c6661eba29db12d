import { expect, test } from "vitest";
import { statement } from "./statement.ts";
import { expectedTimes, remembered, type TimedTest } from "./test-times.ts";
import { freshDatabase } from "./testing/database.ts";
import { addBuild, NOON } from "./testing/farm.ts";

test("expectedTimes() takes a test's share of a group's time only where the builder never measured it, and before what others measured", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const build = await addBuild(sql);
  const remember = (...tests: readonly TimedTest[]) =>
    sql.query(
      ...statement`with t as (
        select * from jsonb_to_recordset(${JSON.stringify(tests)}::jsonb) as t (name text, passed boolean, "durationMs" integer, "shareMs" integer)
      ), ${remembered(build, NOON)} select`,
    );
  const ran = (name: string, durationMs: number | null, shareMs: number | null) => {
    return { name, passed: true, durationMs, shareMs };
  };
  await remember(ran("measured", 100, null), ran("shared", null, 70), { ...ran("failed", 5, null), passed: false });
  await remember(ran("measured", null, 9000), ran("shared", null, 90), ran("untimed", null, null));
  const names = ["measured", "shared", "never", "failed", "untimed"];
  const here = await expectedTimes(sql, "tool", "b", names);
  const elsewhere = await expectedTimes(sql, "tool", "other", names);
  const known = new Map([
    ["measured", 100],
    ["shared", 80],
  ]);
  expect([here, elsewhere]).toEqual([known, known]);
});

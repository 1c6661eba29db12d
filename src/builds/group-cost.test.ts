import { expect, test } from "vitest";
import { freshDatabase } from "../store/testing/database.ts";
import { addHostType } from "../store/testing/farm.ts";
import { NotingSql } from "./testing/cut-sql.ts";
import { TestFarm } from "./testing/farm.ts";
import { endedBuild, planTests, testsSpec } from "./testing/tests.ts";

test("a group that passes costs five statements of its turn, and at most one for the log of the tests", async () => {
  const [few = [0, 0], many = [0, 0]] = [await asked(10), await asked(30)];
  const each = few.map((count, i) => ((many[i] ?? 0) - count) / 20);
  expect([each[0], Math.ceil(each[1] ?? 2)]).toEqual([5, 1]);
});

/** What a build with so many groups asks the database: statements within transactions, and for lines of its log. */
async function asked(groups: number): Promise<[within: number, lines: number]> {
  await using database = await freshDatabase();
  await addHostType(database.sql, "linux");
  const sql = new NotingSql(database.sql);
  await using farm = await TestFarm.open(database, { sql });
  await farm.connect("linux", "m1");
  const names = Array.from({ length: groups }, (_, i) => `t${i}`);
  const id = await planTests(database, testsSpec(names, { alone: ["**"] }));
  expect(await endedBuild(database, id)).toMatchObject({ outcome: "success" });
  return [sql.within.length, sql.outside.filter((text) => text.includes("test_line")).length];
}

import { expect, test } from "vitest";
import { buildId } from "../farm/ids.ts";
import { appendChunks, createLog, emptyLog, type OpenLog } from "./logs.ts";
import type { Sql } from "./sql.ts";
import { statement } from "./statement.ts";
import { linesStored, type SettledTest, settledLines, takeLines } from "./test-lines.ts";
import { freshDatabase, type TestDatabase } from "./testing/database.ts";
import { addBuild } from "./testing/farm.ts";

const build = buildId(1);

async function begun(database: TestDatabase): Promise<OpenLog> {
  expect(await addBuild(database.sql)).toBe(build);
  return emptyLog(await createLog(database.sql), 0);
}

function say(sql: Sql, lines: readonly string[]): Promise<unknown> {
  return sql.query(...statement`with ${linesStored(build, lines)} select`);
}

/** Makes `length` bytes of the log stored. */
async function stored({ sql }: TestDatabase, log: OpenLog, length: number): Promise<void> {
  const chunk = {
    at: log.length,
    line: 0,
    length: length - log.length,
    packed: false,
    data: Buffer.alloc(length),
    newLines: 0,
  };
  expect(await appendChunks(sql, log, [chunk])).toBe(true);
}

const left = async ({ sql }: TestDatabase): Promise<string[]> =>
  (await sql.query<{ line: string }>("select line from test_line order by place")).map(({ line }) => line);

test("takeLines() gives each line once, in order, and what the log has is gone", async () => {
  await using database = await freshDatabase();
  const log = await begun(database);
  const take = async (next: number) => (await takeLines(database.sql, build, log, next)).toString();
  await say(database.sql, ["one\n", "zwei ü\n"]);
  expect(await take(10)).toBe("one\nzwei ü\n");
  expect(await take(10 + 12)).toBe("");
  await say(database.sql, ["three\n"]);
  expect(await take(22)).toBe("three\n");
  await stored(database, log, 22);
  expect([await take(28), await left(database)]).toEqual(["", ["three\n"]]);
});

test("takeLines() gives the same again to a writer that did not get its answer", async () => {
  await using database = await freshDatabase();
  const log = await begun(database);
  await say(database.sql, ["one\n"]);
  const take = async () => (await takeLines(database.sql, build, log, 0)).toString();
  expect([await take(), await take()]).toEqual(["one\n", "one\n"]);
});

test("[coordinator 70] takeLines() gives whoever goes on with a log what it does not have, to the byte, and nothing to the writer before", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const log = await begun(database);
  await say(sql, ["one\n", "two\n", "three\n"]);
  await takeLines(sql, build, log, 0);
  await stored(database, log, 6); // up to "tw"
  await sql.query("update log set epoch = 1 where id = $1", [log.id]);
  await say(sql, ["four\n"]);
  expect((await takeLines(sql, build, log, 13)).toString()).toBe("");
  expect((await takeLines(sql, build, { ...log, epoch: 1 }, 6)).toString()).toBe("o\nthree\nfour\n");
  expect((await takeLines(sql, build, { ...log, epoch: 1 }, 6 + 13)).toString()).toBe("");
});

test("takeLines() gives the attempt after one that was lost what that one's log did not get", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const log = await begun(database);
  await say(sql, ["one\n", "two\n"]);
  await takeLines(sql, build, log, 0);
  await stored(database, log, 4);
  await sql.query("update log set ended = true where id = $1", [log.id]);
  const next = emptyLog(await createLog(sql), 0);
  expect((await takeLines(sql, build, log, 8)).toString()).toBe("");
  expect((await takeLines(sql, build, next, 0)).toString()).toBe("two\n");
});

test("settledLines() names what failed in a group, and what came of running it again", () => {
  const row = { state: "ended", outcome: "success", failures: 0, lost: false, failedOn: null, ranOn: "b" } as const;
  const lines = (of: number, ...tests: Partial<SettledTest>[]) =>
    settledLines(
      "b: group",
      of,
      tests.map((each) => ({ name: "x", ...row, ...each })),
    );
  const waits = { state: "waiting", outcome: null } as const;
  expect([
    lines(2, {}, {}),
    lines(3, {}, { ...waits, failures: 1, failedOn: "b" }, { name: "y", ...waits }),
    lines(1, { ...waits, failures: 1, failedOn: "b" }),
    lines(1, waits),
    lines(3, {}, { ...waits, lost: true }, { ...waits, lost: true }),
    lines(1, { ...waits, lost: true }),
    lines(1, { outcome: "flaky", failures: 1, failedOn: "a" }),
    lines(1, { outcome: "failure", failures: 2, failedOn: "a" }),
    lines(1, { outcome: "failure", failures: 1, failedOn: "b" }),
    lines(2),
    lines(12, ...Array.from({ length: 12 }, (_, i) => ({ name: `${i}`, ...waits, failures: 1, failedOn: "b" }))),
  ]).toEqual([
    ["b: group\n"],
    ["b: group; failed: x; 1 runs alone now\n"],
    ["b: group\n"],
    ["b: group; runs once more\n"],
    ["b: group; it was too slow to tell what came of 2 of them; 2 run alone now\n"],
    ["b: group; it was too slow to tell what came of it; runs once more\n"],
    ["b: group\n", "flaky: x failed on a and passed on b\n"],
    ["b: group\n", "failed: x on a and on b\n"],
    ["b: group\n", "failed: x on b, for good\n"],
    ["b: group; others had run its tests before\n"],
    ["b: group; failed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more\n"],
  ]);
});

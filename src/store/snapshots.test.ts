import { expect, test } from "vitest";
import { coordinatorId, minutes, plus } from "../farm/ids.ts";
import { coordinatorEnded, coordinatorStarted } from "./coordinators.ts";
import { findSnapshot, insertSnapshot } from "./snapshots.ts";
import { freshDatabase } from "./testing/database.ts";
import { addBuild, NOON } from "./testing/farm.ts";

test("a snapshot is held by the coordinator that was started last on the folder that it was written to", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const build = await addBuild(sql);
  const [{ id: commitId } = { id: 0 }] = await sql.query<{ id: number }>("select id from commit");
  const [first, later, other] = ["P000000001", "P000000002", "P000000003"].map(coordinatorId);
  if (!first || !later || !other) throw new Error("There are three");
  const start = (id: typeof first, folder: string, after: number) =>
    coordinatorStarted(sql, { id, host: "here", pid: 1, version: "test", folder }, plus(NOON, minutes(after)));
  await start(first, "a", 0);
  await start(other, "b", 2);
  const key = { commitId, builder: "b", make: "m" };
  const expiresAt = plus(NOON, minutes(60));
  const made = {
    ...key,
    blob: "snapshots/1",
    bytes: 1,
    sha256: "00",
    coordinator: first,
    build,
    machine: "m1",
    expiresAt,
  };
  await insertSnapshot(sql, made, NOON);
  const found = async () => findSnapshot(sql, key, NOON);
  expect(await found()).toMatchObject({ holder: first, away: false });
  await coordinatorEnded(sql, first, NOON);
  expect(await found()).toMatchObject({ holder: first, away: true });
  await start(later, "a", 1);
  expect(await found()).toMatchObject({ holder: later, away: false });
  const again = { ...made, blob: "snapshots/2", coordinator: other };
  expect(await insertSnapshot(sql, again, NOON)).toBe(false);
  await coordinatorEnded(sql, later, NOON);
  expect(await insertSnapshot(sql, again, NOON)).toBe(true); // nobody can have the first one now
  expect(await found()).toMatchObject({ blob: "snapshots/2", holder: other, away: false });
});

import { expect, test } from "vitest";
import { type EpochMs, minutes, ms, plus, type SessionId, seconds } from "../farm/ids.ts";
import { beginAttempt } from "./attempts.ts";
import { helperJob, helpersMayCome, helpersMayNotCome, wantHelpers } from "./helper-leases.ts";
import { claimLease } from "./leases.ts";
import { endHelper } from "./set-aside.ts";
import { storeTests } from "./test-run.ts";
import { freshDatabase, type TestDatabase } from "./testing/database.ts";
import { addBuild, addCoordinator, addMachine, NOON } from "./testing/farm.ts";
import { RULES, TESTS, workerOf } from "./testing/tests.ts";

/** A running build that may have one helper. */
async function running({ sql }: TestDatabase) {
  const coordinator = await addCoordinator(sql);
  const build = await addBuild(sql);
  const main = await workerOf(sql, coordinator, build, "main");
  await beginAttempt(sql, main.claimed, NOON);
  await storeTests(sql, main, TESTS, "", NOON);
  return { build, coordinator, wanted: (now = NOON) => helpersMayCome(sql, build, RULES, now) };
}

test("helpers that were withdrawn, or had nothing to do, are followed by others, however many", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { coordinator, wanted } = await running(database);
  const idle = await addMachine(sql, "linux", "idle", coordinator);
  for (let i = 0; i < 5; i++) {
    expect(await wanted()).toBe(true);
    await sql.query("update lease set state = 'ended' where state = 'wanted'");
    expect(await wanted()).toBe(true);
    const { lease } = await claimLease(sql, idle.id, NOON);
    if (!lease) throw new Error("It was given nothing");
    await endHelper(sql, lease, undefined, "there was nothing left to help with", NOON);
  }
  expect(await wanted()).toBe(true);
});

test("helpers whose tree is gone are wanted no more, unless it was kept anew since they looked", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { build, coordinator, wanted } = await running(database);
  await wanted();
  const { lease } = await claimLease(sql, (await addMachine(sql, "linux", "m", coordinator)).id, NOON);
  if (!lease) throw new Error("It was given nothing");
  const treeFrom = (await helperJob(sql, lease.id))?.treeFrom;
  expect(treeFrom).toBe(NOON);
  await endHelper(sql, lease, "farm", "the tree could not be had", NOON);
  expect(await wantHelpers(sql, build, RULES, NOON)).toBe(true);
  const later = plus(NOON, seconds(1));
  await helpersMayNotCome(sql, build, NOON, later);
  const leases = () => sql.query("select from lease where kind = 'helper' and state = 'wanted'");
  expect([await leases(), await wantHelpers(sql, build, RULES, later), await leases()]).toEqual([[], false, []]);
  expect(await wanted(later)).toBe(true);
  await helpersMayNotCome(sql, build, NOON, later);
  expect(await leases()).toHaveLength(1);
});

test("a machine that failed a build leaves it to others for a pause that doubles, up to five minutes, and never for good", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { coordinator, wanted } = await running(database);
  const bad = await addMachine(sql, "linux", "bad", coordinator);
  let now = NOON;
  const pauses: number[] = [];
  for (let i = 0; i < 11; i++) {
    await wanted(now);
    const { lease } = await claimLease(sql, bad.id, now);
    if (!lease) throw new Error("It was given nothing");
    await endHelper(sql, lease, "farm", "the tree could not be had", now);
    expect(await wanted(now)).toBe(true);
    const [next] = await sql.query<{ until: number }>("select avoid_until as until from lease where state = 'wanted'");
    const pause = (next?.until ?? 0) - now;
    pauses.push(pause);
    expect((await claimLease(sql, bad.id, plus(now, ms(pause - 1)))).lease).toBeUndefined();
    now = plus(now, ms(pause));
  }
  expect(pauses.slice(0, 4)).toEqual([1, 2, 4, 8].map(seconds));
  expect(pauses.slice(-2)).toEqual([minutes(5), minutes(5)]);
  const other = await addMachine(sql, "linux", "other", coordinator);
  expect((await claimLease(sql, other.id, NOON)).lease).toBeDefined();
});

test("each machine that failed a build pauses for itself: one that failed it once need not wait for one that did often", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const { build, coordinator, wanted } = await running(database);
  await wanted();
  const [often, once] = [
    await addMachine(sql, "linux", "often", coordinator),
    await addMachine(sql, "linux", "once", coordinator),
  ];
  const fail = async ({ id }: { readonly id: SessionId }, now: EpochMs): Promise<void> => {
    const { lease } = await claimLease(sql, id, now);
    if (!lease) throw new Error("It was given nothing");
    await endHelper(sql, lease, "farm", "the tree could not be had", now);
    await wantHelpers(sql, build, RULES, now);
  };
  let now = NOON;
  for (let i = 0; i < 9; i++) {
    await fail(often, now);
    now = plus(now, minutes(5));
  }
  await fail(often, now);
  await fail(once, now);
  const claims = async (when: EpochMs) => [
    (await claimLease(sql, once.id, when)).lease !== undefined,
    (await claimLease(sql, often.id, when)).lease !== undefined,
  ];
  expect(await claims(plus(now, ms(999)))).toEqual([false, false]);
  const later = plus(now, seconds(1));
  expect(await wantHelpers(sql, build, RULES, later)).toBe(true);
  const [waits] = await sql.query("select avoid, avoid_until as until from lease where state = 'wanted'");
  expect(waits).toEqual({ avoid: [often.machineId], until: plus(now, minutes(5)) });
  expect(await claims(later)).toEqual([true, false]);
});

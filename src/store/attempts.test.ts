import { expect, test, vi } from "vitest";
import { attemptId, type EpochMs, minutes, ms, plus } from "../farm/ids.ts";
import { beginAttempt, endAttempt, giveUpAttempt, nextStep, type RetryPolicy } from "./attempts.ts";
import { helperJob, helpersMayCome } from "./helper-leases.ts";
import { claimLease } from "./leases.ts";
import { appendChunks } from "./logs.ts";
import type { Sql } from "./sql.ts";
import { storeTests } from "./test-run.ts";
import { freshDatabase, type TestDatabase } from "./testing/database.ts";
import { addBuild, addCoordinator, addMachine, NOON } from "./testing/farm.ts";

const POLICY: RetryPolicy = { retries: 3, attempts: 20, elsewhereFirst: ms(60_000), pause: () => ms(0) };

/** Gives up attempt after attempt; returns how many there were. */
async function giveUpAll(sql: Sql, counts: boolean): Promise<number> {
  for (let given = 0; ; given++) {
    const [open] = await sql.query<{ id: number }>("select id from attempt where state <> 'ended'");
    if (!open) return given;
    const giveUp = {
      attempt: attemptId(open.id),
      epoch: 0,
      by: "recovery",
      reason: "gone",
      counts,
      machineFault: false,
      end: undefined,
    } as const;
    const first = await giveUpAttempt(sql, giveUp, POLICY, NOON);
    expect(first).toBeDefined();
    expect(await giveUpAttempt(sql, giveUp, POLICY, NOON)).toEqual(first); // as when the first answer got lost
    expect(await giveUpAttempt(sql, { ...giveUp, reason: "another's" }, POLICY, NOON)).toBeUndefined();
  }
}

test("giveUpAttempt() charges failures to the budget: one attempt and three more", async () => {
  await using database = await freshDatabase();
  await addBuild(database.sql);
  expect(await giveUpAll(database.sql, true)).toBe(4);
});

test("giveUpAttempt() does not charge the farm's own restarts, but even they end after 20 attempts", async () => {
  await using database = await freshDatabase();
  await addBuild(database.sql);
  expect(await giveUpAll(database.sql, false)).toBe(20);
  const [build] = await database.sql.query("select state, outcome, reason from build");
  expect(build).toEqual({ state: "ended", outcome: "infra_failure", reason: "gone" });
});

test("step 0 of each attempt has its time, and its commands have theirs, none of which counts what the machine was away", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const id = await addBuild(sql);
  const coordinator = await addCoordinator(sql);
  const minute = (n: number) => plus(NOON, minutes(n));
  const begin = async (name: string, when: EpochMs) => {
    const { lease } = await claimLease(sql, (await addMachine(sql, "linux", name, coordinator)).id, when);
    const begun = lease && (await beginAttempt(sql, lease, when));
    if (!lease || !begun) throw new Error("not begun");
    return { ...begun, lease };
  };
  const giveUp = ({ attempt, lease }: Awaited<ReturnType<typeof begin>>, counts: boolean, when: EpochMs) => {
    const why = { reason: "gone", counts, machineFault: counts, end: undefined };
    return giveUpAttempt(sql, { attempt, epoch: lease.epoch, by: "driver", ...why }, POLICY, when);
  };
  const first = await begin("m1", minute(10));
  expect(first.sourceFrom).toBe(minute(10));
  await giveUp(first, true, minute(30));
  const second = await begin("m2", minute(60));
  expect([second.startedAt, second.sourceFrom]).toEqual([minute(60), minute(60)]);
  await giveUp(second, false, minute(100));
  const third = await begin("m3", minute(200));
  const away = (span: string) => sql.query("update lease set away = $2 where id = $1", [third.lease.id, span]);
  const back = async (when: EpochMs) => beginAttempt(sql, third.lease, when);
  await away("2 hours");
  expect(await back(minute(320))).toMatchObject({ sourceFrom: minute(320), commandsFrom: undefined });
  const source = {
    attempt: third.attempt,
    epoch: third.lease.epoch,
    number: 0,
    status: "ok",
    outcome: "success",
  } as const;
  await nextStep(sql, source, undefined, minute(325));
  expect((await back(minute(326)))?.commandsFrom).toBe(minute(325));
  await away("3 hours");
  expect((await back(minute(390)))?.commandsFrom).toBe(minute(385));
  const by = { build: id, lease: third.lease.id, epoch: third.lease.epoch };
  const tests = ["a", "b", "c"].map((name) => ({ name, expectedMs: 1000, alone: false }));
  await storeTests(sql, by, tests, "", minute(390));
  const spec = { groupTargetMs: 100, unknownMs: 1000, keepGoing: true };
  await helpersMayCome(sql, id, { spec, helpers: 1 }, minute(390));
  const { lease } = await claimLease(sql, (await addMachine(sql, "linux", "m4", coordinator)).id, minute(391));
  expect(lease && (await helperJob(sql, lease.id))?.commandsFrom).toBe(minute(385));
});

/** Executes `work` twice at once, so that the second try begins before the first has ended, and waits for it. */
async function twice<T>(database: TestDatabase, work: (sql: Sql) => Promise<T>): Promise<readonly [T, T]> {
  let second: Promise<T> | undefined;
  const first = await database.sql.tx(async (tx) => {
    const result = await work(tx);
    second = work(database.sql);
    await vi.waitFor(async () => {
      const waiting = await database.sql.query(
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
      );
      expect(waiting.length).toBe(1);
    });
    return result;
  });
  return [first, (await second) as T];
}

test("a try of a statement that was still under way when it was tried again is no reason to give anything up", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addBuild(sql);
  const machine = await addMachine(sql, "linux", "m1", await addCoordinator(sql));
  const { lease } = await claimLease(sql, machine.id, NOON);
  const begun = lease && (await beginAttempt(sql, lease, NOON));
  if (!lease || !begun?.log) throw new Error("not begun");
  const { attempt, log } = begun;
  const chunk = { at: 0, line: 0, length: 1, packed: false, data: Buffer.from("x"), newLines: 0 };
  expect(await twice(database, (on) => appendChunks(on, log, [chunk]))).toEqual([true, true]);
  const step = { attempt, epoch: lease.epoch, number: 0, status: "ok", outcome: "success" } as const;
  const [next, again] = await twice(database, (on) => nextStep(on, step, undefined, NOON));
  expect([next === undefined, again]).toEqual([false, next]);
  expect((await sql.query("select from log")).length).toBe(2); // one for each of two steps, and none without a writer
  const verdict = { outcome: "success", reason: null, failedStep: null } as const;
  const end = { ...step, number: 1 };
  expect(await twice(database, (on) => endAttempt(on, end, undefined, verdict, false, NOON))).toEqual([true, true]);
});

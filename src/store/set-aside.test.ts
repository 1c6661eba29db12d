import { expect, test } from "vitest";
import { attemptId, type CoordinatorId, type EpochMs, minutes, ms, plus } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { beginAttempt, endAttempt, giveUpAttempt, type RetryPolicy } from "./attempts.ts";
import { insertBuilds } from "./builds.ts";
import { drainCoordinator, drainFarm, resumeCoordinator, resumeFarm } from "./drain.ts";
import { claimLease, heldLeases } from "./leases.ts";
import { drainHostType, drainMachine, resumeHostType, resumeMachine } from "./machines.ts";
import { endHelper, endProbe, readmitMachine, wantProbes } from "./set-aside.ts";
import type { Sql } from "./sql.ts";
import { spareMachines } from "./superseded.ts";
import { freshDatabase } from "./testing/database.ts";
import {
  addCommit,
  addCoordinator,
  addHostType,
  addMachine,
  NOON,
  type TestMachine,
  testRecipe,
} from "./testing/farm.ts";

const POLICY: RetryPolicy = { retries: 0, attempts: 20, elsewhereFirst: ms(60_000), pause: () => ms(0) };

let hashes = 0;

async function want(sql: Sql, now: EpochMs): Promise<void> {
  const commitId = await addCommit(sql, "tool", (hashes++).toString(16).padStart(40, "0"));
  const recipe = testRecipe("b", "linux");
  const build = { repo: "tool", commitId, branch: "main", head: true, recipe, rank: 0, starvesAt: NOON } as const;
  await insertBuilds(sql, [{ ...build, provenance: "submitted", class: "post-submit" }], now);
}

type Fate = "own failure" | "not its fault" | "success" | "failure";

/** Runs a build on `machine` that ends with `fate`. False: the machine was given none. */
async function build(sql: Sql, machine: TestMachine, fate: Fate, now: EpochMs): Promise<boolean> {
  await want(sql, now);
  const { lease } = await claimLease(sql, machine.id, now);
  if (!lease) return false;
  const begun = await beginAttempt(sql, lease, now);
  if (!begun) throw new Error("the attempt did not begin");
  const { attempt } = begun;
  if (fate === "success" || fate === "failure") {
    const verdict = { outcome: fate, reason: null, failedStep: null };
    await endAttempt(
      sql,
      { attempt, epoch: lease.epoch, number: 0, status: "ok", outcome: fate },
      undefined,
      verdict,
      false,
      now,
    );
    return true;
  }
  const machineFault = fate === "own failure";
  const { epoch } = lease;
  const giveUp = {
    attempt,
    epoch,
    reason: `machine gone: ${fate}`,
    counts: true,
    machineFault,
    end: undefined,
    by: "driver",
  } as const;
  await giveUpAttempt(sql, giveUp, POLICY, now);
  return true;
}

type Helped = "own failure" | "not its fault" | "ran a group";

/** Gives `machine` a helper's lease of the latest build, and ends it with `fate`. */
async function help(sql: Sql, machine: TestMachine, fate: Helped, now: EpochMs): Promise<void> {
  await sql.query(
    `with b as (
       select max(id) as id from build
     ), l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, held_at)
       select 'helper', 2, 'linux', 'submitted', 0, $3, $3, 'held', $1, $2, coordinator_id, $3 from session where id = $1 returning id
     ), log_of as (
       insert into log (epoch) values (0) returning id
     ), ran as (
       insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, status, started_at)
       select b.id, l.id, $2, log_of.id, '{1}', 'n', 'ended', case when $4 then 'exit status 1' else 'machine gone: it hung up' end, $3 from b, l, log_of
     )
     insert into helper (lease_id, build_id) select l.id, b.id from l, b`,
    [machine.id, machine.machineId, new Date(now), fate === "ran a group"],
  );
  const [lease] = await sql.query<Pick<Lease, "id" | "epoch">>(
    "select id, epoch from lease where kind = 'helper' order by id desc limit 1",
  );
  if (!lease) throw new Error("no lease");
  await endHelper(sql, lease, fate === "own failure" ? "machine" : undefined, `machine gone: ${fate}, helping`, now);
  await endHelper(sql, lease, "machine", "a second time", now); // nothing happens
}

interface Aside {
  at: EpochMs | null;
  until: EpochMs | null;
  reason: string | null;
  times: number;
}

async function aside(sql: Sql, machine: TestMachine): Promise<Aside | undefined> {
  const [row] = await sql.query<Aside>(
    "select set_aside_at as at, set_aside_until as until, set_aside_reason as reason, set_aside_times as times from machine where id = $1",
    [machine.machineId],
  );
  return row;
}

async function probeOf(sql: Sql, now: EpochMs): Promise<Lease | undefined> {
  const [coordinator] = await sql.query<{ id: never }>("select id from coordinator");
  if (!coordinator) throw new Error("no coordinator");
  await wantProbes(sql, coordinator.id, minutes(5), now);
  const [lease] = await heldLeases(sql, coordinator.id, ["probe"], plus(now, ms(1)));
  return lease;
}

async function farm(sql: Sql): Promise<TestMachine> {
  await addHostType(sql, "linux");
  return addMachine(sql, "linux", "board", await addCoordinator(sql));
}

test("a machine is set aside by its third own failure in a row, and gets nothing from then on", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  for (const fate of ["own failure", "own failure", "failure", "own failure", "own failure"] as const) {
    expect(await build(sql, board, fate, NOON)).toBe(true);
  }
  expect((await aside(sql, board))?.at).toBeNull();
  expect(await build(sql, board, "own failure", NOON)).toBe(true);
  expect(await aside(sql, board)).toEqual({
    at: NOON,
    until: plus(NOON, minutes(5)),
    reason: "3 attempts in a row failed on it; the last: machine gone: own failure",
    times: 1,
  });
  expect(await build(sql, board, "success", plus(NOON, minutes(10)))).toBe(false);
});

test("failures that are not the machine's stand between without counting", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  for (const fate of ["own failure", "not its fault", "own failure", "not its fault"] as const)
    await build(sql, board, fate, NOON);
  expect((await aside(sql, board))?.at).toBeNull();
  await build(sql, board, "own failure", NOON);
  expect((await aside(sql, board))?.at).toBe(NOON);
});

test("what a machine does as a helper counts as well: its own failures, and a group of tests that ended", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  await build(sql, board, "own failure", NOON);
  for (const fate of ["own failure", "ran a group", "own failure", "not its fault"] as const) {
    await help(sql, board, fate, NOON);
  }
  await build(sql, board, "own failure", NOON);
  expect((await aside(sql, board))?.at).toBeNull();
  await help(sql, board, "own failure", NOON);
  expect(await aside(sql, board)).toMatchObject({
    at: NOON,
    reason: "3 attempts in a row failed on it; the last: machine gone: own failure, helping",
    times: 1,
  });
});

test("it is probed when its time has come, set aside for twice as long each time, at most a day, and comes back when well", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  for (let i = 0; i < 3; i++) await build(sql, board, "own failure", NOON);
  expect(await probeOf(sql, plus(NOON, minutes(4)))).toBeUndefined();
  let now = NOON;
  const spans: number[] = [];
  for (let round = 0; round < 11; round++) {
    now = (await aside(sql, board))?.until ?? now;
    const lease = await probeOf(sql, now);
    expect(lease).toMatchObject({ kind: "probe", sessionId: board.id, machineId: board.machineId });
    expect(await probeOf(sql, now)).toEqual(lease); // not a second one
    await endProbe(sql, lease?.id ?? (0 as never), board.machineId, "it did not answer", now);
    spans.push((((await aside(sql, board))?.until ?? now) - now) / 60_000);
  }
  expect(spans).toEqual([10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]);
  now = (await aside(sql, board))?.until ?? now;
  const lease = await probeOf(sql, now);
  await endProbe(sql, lease?.id ?? (0 as never), board.machineId, null, now);
  expect((await aside(sql, board))?.at).toBeNull();
  expect(await build(sql, board, "own failure", plus(now, ms(1)))).toBe(true); // earlier failures do not count any more
  expect((await aside(sql, board))?.at).toBeNull();
});

test("a machine that is well for a probe and fails builds again is set aside for longer; a good build forgets that", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  const failThrice = async (now: EpochMs): Promise<number> => {
    for (let i = 0; i < 3; i++) await build(sql, board, "own failure", now);
    const until = (await aside(sql, board))?.until ?? now;
    const lease = await probeOf(sql, until);
    await endProbe(sql, lease?.id ?? (0 as never), board.machineId, null, until);
    return (until - now) / 60_000;
  };
  const at = (hours: number): EpochMs => plus(NOON, minutes(60 * hours));
  expect(await failThrice(at(0))).toBe(5);
  expect(await failThrice(at(1))).toBe(10);
  await build(sql, board, "success", at(2));
  expect(await failThrice(at(3))).toBe(5);
});

test("an operator ends it; nothing is probed while the machine is drained, busy or away", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  for (let i = 0; i < 3; i++) await build(sql, board, "own failure", NOON);
  const later = plus(NOON, minutes(60));
  await sql.query("update machine set drained_at = now()");
  expect(await probeOf(sql, later)).toBeUndefined();
  await sql.query("update machine set drained_at = null");
  await sql.query("update session set closed_at = now()");
  expect(await probeOf(sql, later)).toBeUndefined();
  await sql.query("update session set closed_at = null");
  expect(await readmitMachine(sql, board.machineId, later)).toEqual({ hostType: "linux", name: "board" });
  expect((await aside(sql, board))?.at).toBeNull();
  expect(await build(sql, board, "success", later)).toBe(true);
});

test("giving up an attempt a second time sets nobody aside", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  await build(sql, board, "own failure", NOON);
  const giveUp = {
    attempt: attemptId(1),
    epoch: 1,
    reason: "machine gone",
    counts: true,
    machineFault: true,
    end: undefined,
    by: "driver",
  } as const;
  for (let i = 0; i < 3; i++) expect(await giveUpAttempt(sql, giveUp, POLICY, NOON)).toBeUndefined();
  expect((await aside(sql, board))?.at).toBeNull();
});

test("what is drained is not probed, nor counted as spare, and what is set aside is not spare either", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const board = await farm(sql);
  const [{ id: coordinator }] = (await sql.query("select id from coordinator")) as [{ id: CoordinatorId }];
  const spare = async () => (await spareMachines(sql, ["linux"], [])).get("linux");
  const drains = [
    [() => drainFarm(sql, "", NOON), () => resumeFarm(sql)],
    [() => drainCoordinator(sql, coordinator, "", NOON), () => resumeCoordinator(sql, coordinator)],
    [() => drainHostType(sql, "linux", "", NOON), () => resumeHostType(sql, "linux")],
    [() => drainMachine(sql, board.machineId, "", NOON), () => resumeMachine(sql, board.machineId)],
  ] as const;
  expect(await spare()).toBe(1);
  for (const [drain, resume] of drains) {
    await drain();
    expect(await spare()).toBe(0);
    await resume();
  }
  for (let i = 0; i < 3; i++) await build(sql, board, "own failure", NOON);
  expect(await spare()).toBe(0);
  const due = plus(NOON, minutes(6));
  for (const [drain, resume] of drains) {
    await drain();
    expect(await probeOf(sql, due)).toBeUndefined();
    await resume();
  }
  expect(await probeOf(sql, due)).toBeDefined();
});

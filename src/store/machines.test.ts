import { expect, test } from "vitest";
import { coordinatorId, epochMs, machineId, minutes, plus, sessionId } from "../farm/ids.ts";
import { coordinatorEnded, coordinatorStarted } from "./coordinators.ts";
import { insertMachineKey, listMachineKeys, machineKeysBySha256, machineKeysUsed, revokeMachineKey } from "./keys.ts";
import {
  closeLeftSessions,
  closeSessions,
  configureHostTypes,
  drainHostType,
  drainMachine,
  machinesConnectedTwice,
  type Registered,
  registerSessions,
  resumeHostType,
  resumeMachine,
} from "./machines.ts";
import { freshDatabase } from "./testing/database.ts";

const T = epochMs(Date.UTC(2026, 10, 23, 12));
const US = coordinatorId("P000000001");
const OLD = coordinatorId("P000000002");

function registered(session: string, changes: Partial<Registered> = {}): Registered {
  return {
    session: sessionId(session),
    hostType: "host-a",
    name: "m1",
    owner: "Ada",
    keyId: null,
    agent: "barnraiser",
    version: 29,
    digest: "d1",
    platform: "linux/amd64",
    instance: null,
    ip: "10.0.0.1",
    address: "10.0.0.1:4000",
    ...changes,
  };
}

test("registerSessions() makes machine, session and host type, and keeps what changed; safe to repeat", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await coordinatorStarted(sql, { id: US, host: "h", pid: 1, version: "1" }, T);
  const first = await registerSessions(sql, US, [registered("s1"), registered("s2", { name: "m2" })], T);
  const again = await registerSessions(sql, US, [registered("s1"), registered("s2", { name: "m2" })], T);
  expect(again).toEqual(first);
  const later = plus(T, minutes(1));
  const changed = registered("s3", { version: 30, ip: "10.0.0.9", address: "10.0.0.9:1", platform: null });
  const second = await registerSessions(sql, US, [changed, { ...changed, session: sessionId("s4") }], later);
  expect([second.get(sessionId("s3")), second.get(sessionId("s4"))]).toEqual(Array(2).fill(first.get(sessionId("s1"))));
  expect(await sql.query("select field, was, became, at from machine_change order by field")).toEqual([
    { field: "address", was: "10.0.0.1", became: "10.0.0.9", at: later },
    { field: "platform", was: "linux/amd64", became: null, at: later },
    { field: "version", was: "29", became: "30", at: later },
  ]);
  expect(await sql.query("select id from session order by id")).toEqual(["s1", "s2", "s3", "s4"].map((id) => ({ id })));
  expect(await sql.query("select name, configured, trust from host_type")).toEqual([
    { name: "host-a", configured: false, trust: "community" },
  ]);
});

test("registerSessions() closes what its agent process had open before, wherever that was, and never what came later", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  for (const id of [US, OLD]) await coordinatorStarted(sql, { id, host: "h", pid: 1, version: "1" }, T);
  const instance = "a".repeat(32);
  await registerSessions(sql, OLD, [registered("s1", { instance })], T);
  await registerSessions(sql, OLD, [registered("other", { instance: "b".repeat(32) })], T);
  await registerSessions(sql, US, [registered("s3", { instance })], plus(T, minutes(2)));
  await registerSessions(sql, OLD, [registered("s2", { instance })], plus(T, minutes(1))); // the coordinator's database was away for so long
  expect(await sql.query("select id from session where closed_at is null order by id")).toEqual(
    ["other", "s2", "s3"].map((id) => ({ id })),
  );
});

test("closeSessions() writes the reason once; closeLeftSessions() closes what ended coordinators left", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await coordinatorStarted(sql, { id: OLD, host: "h", pid: 1, version: "1" }, T);
  await coordinatorStarted(sql, { id: US, host: "h", pid: 2, version: "1" }, T);
  await registerSessions(sql, OLD, [registered("old")], plus(T, minutes(1)));
  await registerSessions(sql, US, [registered("new", { name: "m2" })], plus(T, minutes(1)));
  const end = plus(T, minutes(5));
  await closeSessions(sql, [{ session: sessionId("new"), closedAt: end, reason: "hung up" }]);
  await closeSessions(sql, [{ session: sessionId("new"), closedAt: plus(end, minutes(1)), reason: "other" }]);
  await closeLeftSessions(sql, US, false, plus(T, minutes(9)));
  const open = () =>
    sql.query("select id, closed_at as at, close_reason as reason from session order by id") as Promise<unknown>;
  expect(await open()).toEqual([
    { id: "new", at: end, reason: "hung up" },
    { id: "old", at: null, reason: null },
  ]);
  await coordinatorEnded(sql, OLD, plus(T, minutes(3)));
  await closeLeftSessions(sql, US, false, plus(T, minutes(9)));
  expect(await open()).toEqual([
    { id: "new", at: end, reason: "hung up" },
    { id: "old", at: plus(T, minutes(1)), reason: "the coordinator ended" },
  ]);
  expect(await sql.query("select name, last_seen_at as seen from machine order by name")).toEqual([
    { name: "m1", seen: plus(T, minutes(1)) },
    { name: "m2", seen: end },
  ]);
});

test("host types follow the configuration; drain and resume take a note", async () => {
  const rest = { gomote: "members", lend: { gomote: true }, reconnectMs: minutes(5) } as const;
  await using database = await freshDatabase();
  const { sql } = database;
  await coordinatorStarted(sql, { id: US, host: "h", pid: 1, version: "1" }, T);
  await configureHostTypes(sql, [
    { ...rest, hostType: "host-a", trust: "team", expect: 2 },
    { ...rest, hostType: "host-b", trust: "community", expect: 0 },
  ]);
  const machines = await registerSessions(sql, US, [registered("s1"), registered("s2", { name: "m2" })], T);
  await configureHostTypes(sql, [
    { ...rest, hostType: "host-a", trust: "team", expect: 3, lend: { gomote: false }, reconnectMs: minutes(30) },
  ]);
  expect(
    await sql.query("select name, trust, expect, configured, gomote_lent, reconnect_ms from host_type order by name"),
  ).toEqual([
    { name: "host-a", trust: "team", expect: 3, configured: true, gomote_lent: false, reconnect_ms: minutes(30) },
    { name: "host-b", trust: "community", expect: 0, configured: false, gomote_lent: false, reconnect_ms: minutes(5) },
  ]);
  const m1 = machines.get(sessionId("s1"))?.machine ?? machineId(0);
  expect(await drainMachine(sql, m1, "new disk", T)).toEqual({ hostType: "host-a", name: "m1" });
  expect(await drainMachine(sql, machineId(999), "x", T)).toBeUndefined();
  expect([await drainHostType(sql, "host-a", "move", T), await drainHostType(sql, "nope", "x", T)]).toEqual([
    true,
    false,
  ]);
  expect(await sql.query("select drained_at as at, drain_note as note from host_type where name = 'host-a'")).toEqual([
    { at: T, note: "move" },
  ]);
  expect(await resumeMachine(sql, m1)).toEqual({ hostType: "host-a", name: "m1" });
  expect(await resumeHostType(sql, "host-a")).toBe(true);
  expect(await sql.query("select drained_at as at, drain_note as note from machine where name = 'm1'")).toEqual([
    { at: null, note: null },
  ]);
});

test("a machine is connected twice while two of its sessions are open", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await coordinatorStarted(sql, { id: US, host: "h", pid: 1, version: "1" }, T);
  await registerSessions(sql, US, [registered("s1"), registered("s2", { name: "m2" }), registered("s3")], T);
  expect(await machinesConnectedTwice(sql)).toEqual([{ hostType: "host-a", name: "m1", sessions: 2 }]);
  await closeSessions(sql, [{ session: sessionId("s1"), closedAt: T, reason: "hung up" }]);
  expect(await machinesConnectedTwice(sql)).toEqual([]);
});

test("machine keys are found by hash, and revoked once", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const key = {
    id: "K000000001",
    hostType: "host-a",
    machine: "m1",
    sha256: Buffer.alloc(32, 1),
    madeAt: T,
    expiresAt: null,
  };
  await insertMachineKey(sql, key);
  await insertMachineKey(sql, key);
  await machineKeysUsed(sql, [key.id], plus(T, minutes(1)));
  expect(await revokeMachineKey(sql, key.id, plus(T, minutes(2)))).toBe(plus(T, minutes(2)));
  expect(await revokeMachineKey(sql, key.id, plus(T, minutes(3)))).toBe(plus(T, minutes(2)));
  expect(await revokeMachineKey(sql, "K0", T)).toBeUndefined();
  const kept = { ...key, revokedAt: plus(T, minutes(2)), lastUsedAt: plus(T, minutes(1)) };
  expect([await listMachineKeys(sql), await machineKeysBySha256(sql, [key.sha256, Buffer.alloc(32)])]).toEqual([
    [kept],
    [kept],
  ]);
});

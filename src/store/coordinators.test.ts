import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { coordinatorId } from "../farm/ids.ts";
import {
  coordinatorReachable,
  coordinatorSeen,
  coordinatorShares,
  coordinatorStarted,
  endPredecessors,
  livingCoordinators,
  livingPeers,
} from "./coordinators.ts";
import { DataFolder } from "./data-folder.ts";
import { exclusively } from "./exclusively.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON } from "./testing/farm.ts";

test("whoever takes a data folder ends those that held it before, and nobody else", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const start = async (id: string, folder: string) => {
    const row = { id: coordinatorId(id), host: "here", pid: 1, version: "test", folder };
    await coordinatorStarted(sql, row, NOON);
    await endPredecessors(sql, row.id, folder, NOON);
  };
  await start("P000000001", "first");
  await start("P000000002", "second");
  await start("P000000003", "first");
  const alive = ["P000000001", "P000000002", "P000000003"].map((id) => coordinatorSeen(sql, coordinatorId(id), NOON));
  expect(await Promise.all(alive)).toEqual([false, true, true]);
});

test("a data folder keeps its name over its processes, and a copy of it has another", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-identity-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const identity = async (path: string) => {
    await using taken = await DataFolder.take(path);
    return taken.identity();
  };
  const first = await identity(join(folder, "a"));
  await cp(join(folder, "a"), join(folder, "b"), { recursive: true });
  expect([first, await identity(join(folder, "a"))]).toEqual([first, first]);
  expect(await identity(join(folder, "b"))).not.toBe(first);
});

test("livingCoordinators() counts machines and builds of each; livingPeers() are the others that can be reached", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const [first, second] = [await addCoordinator(sql, "P000000001"), await addCoordinator(sql, "P000000002")];
  await addHostType(sql, "host-linux-amd64");
  const machine = await addMachine(sql, "host-linux-amd64", "m1", first);
  await addMachine(sql, "host-linux-amd64", "m2", first);
  await sql.query(
    `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, held_at)
     values ('build', 2, 'host-linux-amd64', 'submitted', 1, now(), now(), 'held', $1, $2, $3, now())`,
    [machine.id, machine.machineId, first],
  );
  await coordinatorReachable(sql, { id: second, address: "10.0.0.2:8119", certificate: "ab" });
  await coordinatorShares(sql, second, { "master key": "12" });
  const living = await livingCoordinators(sql);
  expect(living.map(({ id, machines, builds, peer, shared }) => ({ id, machines, builds, peer, shared }))).toEqual([
    { id: first, machines: 2, builds: 1, peer: null, shared: null },
    { id: second, machines: 0, builds: 0, peer: "10.0.0.2:8119", shared: { "master key": "12" } },
  ]);
  expect([await livingPeers(sql, first), await livingPeers(sql, second)]).toEqual([
    [{ id: second, address: "10.0.0.2:8119", certificate: "ab" }],
    [],
  ]);
});

test("exclusively() lets one at a time do its work", async () => {
  await using database = await freshDatabase();
  let at = 0;
  let most = 0;
  const work = async () => {
    most = Math.max(most, ++at);
    await new Promise((resolve) => setImmediate(resolve));
    at--;
  };
  await Promise.all(Array.from({ length: 5 }, () => exclusively(database.sql, 7, work)));
  expect(most).toBe(1);
});

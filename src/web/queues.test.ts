import { expect, test } from "vitest";
import { checkFarm } from "../config/check.ts";
import type { Outcome } from "../farm/build.ts";
import { type BuildId, type EpochMs, minutes, ms, plus } from "../farm/ids.ts";
import { insertBuilds } from "../store/builds.ts";
import { claimLease } from "../store/leases.ts";
import { latestResults, usualDurations } from "../store/pages-lines.ts";
import { at, type Sql } from "../store/sql.ts";
import { freshDatabase } from "../store/testing/database.ts";
import {
  addCommit,
  addCoordinator,
  addHostType,
  addMachine,
  closeSession,
  NOON,
  type TestMachine,
  testRecipe,
} from "../store/testing/farm.ts";
import { waitSentence } from "../ui/parts.tsx";
import { queuesData, waitOfBuild } from "./queues.ts";

const HOST = "host-linux-amd64";
const BUILDER = "linux-amd64";
const config = checkFarm({
  repos: [{ name: "tool", url: "/nowhere" }],
  hosts: [{ hostType: HOST, trust: "team" }],
  builders: [{ name: BUILDER, host: HOST, steps: ["make"] }],
});

/** Wants `count` builds, the newer commit first. */
async function addBuilds(sql: Sql, count: number): Promise<BuildId[]> {
  const ids: BuildId[] = [];
  for (let i = 0; i < count; i++) {
    const [{ commits = 0 } = {}] = await sql.query<{ commits: number }>("select count(*) as commits from commit");
    const build = {
      repo: "tool",
      commitId: await addCommit(sql, "tool", commits.toString(16).padStart(40, "0")),
      branch: "main",
      head: true,
      recipe: testRecipe(BUILDER, HOST),
      rank: -commits,
      starvesAt: plus(NOON, minutes(6000)),
      provenance: "submitted",
      class: "post-submit",
    } as const;
    const [added] = await insertBuilds(sql, [build], NOON);
    if (added) ids.push(added.id);
  }
  return ids;
}

/** `count` builds that ended with `outcome`, after ten minutes each. */
async function addEnded(sql: Sql, count: number, outcome: Outcome): Promise<void> {
  await sql.query(
    `with b as (
       update build set state = 'ended', outcome = $2, started_at = $3, ended_at = $4 where id = any ($1::bigint[]) returning id
     ), a as (
       update attempt set state = 'ended', outcome = $2 from b where build_id = b.id returning lease_id
     )
     update lease set state = 'ended', ended_at = $4 from a where lease.id = a.lease_id`,
    [await addBuilds(sql, count), outcome, at(plus(NOON, ms(-600_000))), at(NOON)],
  );
}

/** Each build that ended had one helper more, from its beginning to its end. */
async function giveHelpers(sql: Sql): Promise<void> {
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, held_at, state, ended_at)
       select 'helper', 2, host_type, 'submitted', id, started_at, ended_at, started_at, 'ended', ended_at from build returning id, rank
     )
     insert into helper (lease_id, build_id) select id, rank from l`,
  );
}

/** The build that `machine` claims, begun at NOON. */
async function begin(sql: Sql, machine: TestMachine): Promise<BuildId> {
  const { lease } = await claimLease(sql, machine.id, NOON);
  const [row] = await sql.query<{ id: BuildId }>(
    `with a as (
       update attempt set state = 'running', started_at = $2, machine_id = $3 where lease_id = $1 returning build_id
     )
     update build set state = 'running', started_at = $2 from a where id = a.build_id returning id`,
    [lease?.id, at(NOON), machine.machineId],
  );
  if (!row) throw new Error("The machine got no build");
  return row.id;
}

/** Wants a helper for `build`, which stands in front of all builds. */
async function wantHelper(sql: Sql, build: BuildId): Promise<void> {
  await sql.query(
    `with l as (
       insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
       values ('helper', 1, $1, 'ann', 'tool', 'submitted', -1, $2, $3) returning id
     )
     insert into helper (lease_id, build_id) select id, $4 from l`,
    [HOST, at(NOON), at(plus(NOON, minutes(6000))), build],
  );
}

/** When what waits may begin, in minutes from then, five minutes after NOON; where that is unknown, why. */
async function begins(sql: Sql): Promise<(number | string | null)[]> {
  const { queues } = await queuesData(sql, config, { kind: "operator" }, plus(NOON, minutes(5)));
  return (queues[0]?.items ?? []).map(({ estimate, unknown }) => (estimate ? estimate.aboutMs / 60_000 : unknown));
}

test("machines that help with a build are free when it ends, also while its own machine is away; a helper that waits goes with it", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  await addHostType(sql, HOST);
  await addEnded(sql, 50, "success");
  for (const _ of ["one", "two"]) await giveHelpers(sql);
  await addBuilds(sql, 1);
  const own = await addMachine(sql, HOST, "m1", coordinator);
  const build = await begin(sql, own);
  for (const name of ["m2", "m3"]) {
    await wantHelper(sql, build);
    await claimLease(sql, (await addMachine(sql, HOST, name, coordinator)).id, NOON);
  }
  await addBuilds(sql, 3);
  expect(await begins(sql)).toEqual([5, 5, 5]);
  await closeSession(sql, own.id);
  expect(await begins(sql)).toEqual([7.5, 7.5, 37.5]);
  await wantHelper(sql, build);
  expect(await begins(sql)).toEqual([7.5, 7.5, 7.5, 37.5]);
  await addMachine(sql, HOST, "m4", coordinator);
  expect(await begins(sql)).toEqual([0, 7.5, 7.5, 7.5]);
});

test("what a builder found and how long it takes is known, however many of its builds wait or were skipped since", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, HOST);
  await addMachine(sql, HOST, "m1", await addCoordinator(sql));
  const pair = { repo: "tool", builder: BUILDER };
  await addEnded(sql, 20, "success");
  await addEnded(sql, 1, "failure");
  const known = [await usualDurations(sql, [pair]), (await latestResults(sql, [pair])).map(({ outcome }) => outcome)];
  expect(known).toEqual([[{ ...pair, usualMs: 600_000 }], ["failure"]]);
  const now = async () => [
    await usualDurations(sql, [pair]),
    (await latestResults(sql, [pair])).map(({ outcome }) => outcome),
  ];
  await addEnded(sql, 55, "skipped");
  expect(await now()).toEqual(known);
  await addBuilds(sql, 55);
  expect(await now()).toEqual(known);
  expect((await begins(sql)).slice(0, 3)).toEqual([0, 10, 20]);
});

test("a build that the only idle machine may not take yet says so, and begins no sooner", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  await addHostType(sql, HOST);
  await addEnded(sql, 50, "success");
  const idle = await addMachine(sql, HOST, "m1", coordinator);
  const [build = 0 as BuildId] = await addBuilds(sql, 1);
  await sql.query("update lease set avoid = array[$1::bigint], avoid_until = $2 where state = 'wanted'", [
    idle.machineId,
    at(plus(NOON, minutes(1))),
  ]);
  const wait = async (now: EpochMs) => {
    const found = await waitOfBuild(sql, build, now);
    return found && [found.estimate?.earliestMs, found.estimate?.aboutMs, waitSentence(found, HOST)];
  };
  const other = "next in line: waits until 12:01 UTC for a machine other than m1,";
  expect(await wait(NOON)).toEqual([60_000, 60_000, `${other} about 60 s`]);
  expect((await wait(plus(NOON, minutes(1))))?.slice(0, 2)).toEqual([0, 0]);
  await addBuilds(sql, 1);
  await begin(sql, await addMachine(sql, HOST, "m2", coordinator));
  expect((await wait(NOON))?.slice(0, 2)).toEqual([0, 60_000]); // m2 may end sooner
  await addMachine(sql, HOST, "m3", coordinator);
  expect((await wait(NOON))?.slice(0, 2)).toEqual([0, 0]);
});

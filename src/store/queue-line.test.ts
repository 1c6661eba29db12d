import fc from "fast-check";
import { expect, test } from "vitest";
import type { Provenance } from "../farm/build.ts";
import { type BuildId, buildId, leaseId, machineId, minutes, ms, plus } from "../farm/ids.ts";
import { LEASE_CLASSES, type LeaseClass } from "../farm/lease.ts";
import { FLOWS_COMPARED } from "../schedule/order.ts";
import { insertBuilds } from "./builds.ts";
import { claimLease, endLease } from "./leases.ts";
import { queueLines, queueOf, takerOf } from "./queue-line.ts";
import { at, type Sql } from "./sql.ts";
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

const arbitraryBuild = fc.record({
  class: fc.constantFrom<LeaseClass>("try", "post-submit", "background"),
  helper: fc.boolean(),
  release: fc.boolean(),
  flow: fc.constantFrom("ann", "bob", "app"),
  repo: fc.constantFrom("app", "lib"),
  rank: fc.integer({ min: -3, max: 3 }),
  provenance: fc.constantFrom<Provenance>("submitted", "reviewed"),
  starves: fc.integer({ min: -3, max: 6 }).map((n) => plus(NOON, minutes(n === 0 ? 1 : n))),
});

/** Builds that wait in `queue`, each at the place in the line that the test gives it. */
async function plan(
  sql: Sql,
  queue: string,
  builds: readonly (typeof arbitraryBuild extends fc.Arbitrary<infer T> ? T : never)[],
): Promise<BuildId[]> {
  const ids: BuildId[] = [];
  for (const [i, each] of builds.entries()) {
    const commitId = await addCommit(sql, each.repo, `${queue} ${i}`);
    const [made] = await insertBuilds(
      sql,
      [
        {
          repo: each.repo,
          commitId,
          branch: "main",
          head: true,
          recipe: testRecipe(`b${i}`, queue),
          provenance: each.provenance,
          class: each.class,
          release: each.release,
          rank: each.rank,
          starvesAt: each.starves,
        },
      ],
      NOON,
    );
    const id = buildId(made?.id ?? 0);
    await sql.query(
      "update lease set flow = $2, kind = case when $3 then 'helper' else 'build' end from attempt a where a.lease_id = lease.id and a.build_id = $1",
      [id, each.flow, each.helper],
    );
    ids.push(id);
  }
  return ids;
}

test("the line and repeated claims give one order, on random farms, whatever is held already", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  const coordinator = await addCoordinator(sql);
  let round = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(arbitraryBuild, { maxLength: 10 }), fc.nat(3), async (builds, before) => {
      const queue = `q${round++}`;
      await addHostType(sql, queue, "team");
      const ids = await plan(sql, queue, builds);
      const machines: TestMachine[] = [];
      for (let i = 0; i < builds.length; i++) machines.push(await addMachine(sql, queue, `m${i}`, coordinator));
      // Some leases are held and some given back, so that turns count.
      for (const [i, machine] of machines.slice(0, before).entries()) {
        const { lease } = await claimLease(sql, machine.id, plus(NOON, ms(i)));
        if (lease && i % 2 === 1) await endLease(sql, lease, NOON, "done");
      }
      const now = plus(NOON, ms(100));
      const line = (await queueLines(sql, [queue], now, 100)).get(queue) ?? [];
      expect((await queueLines(sql, null, now, 3)).get(queue) ?? []).toEqual(line.slice(0, 3));
      for (const id of ids) {
        expect(await queueOf(sql, id)).toBe(line.some(({ build }) => build === id) ? queue : undefined);
      }
      const claimed: number[] = [];
      for (const [i, machine] of machines.entries()) {
        if (i < before && i % 2 === 0) continue; // it holds one
        const { lease } = await claimLease(sql, machine.id, plus(now, ms(i)));
        if (lease) claimed.push(lease.id);
      }
      expect(line.slice(0, claimed.length).map(({ id }) => id)).toEqual(claimed);
    }),
    { numRuns: 30 },
  );
}, 60_000);

test("of more flows than are compared the first by name take turns, and the rest follow", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "q", "team");
  const flows = FLOWS_COMPARED + 30;
  await sql.query(
    `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
     select 'build', 1, 'q', 'person ' || lpad(n::text, 3, '0'), 'app', 'submitted', -n, $1, $2 from generate_series(1, $3::integer) n`,
    [at(NOON), at(plus(NOON, minutes(600))), flows],
  );
  const line = (await queueLines(sql, ["q"], NOON, flows)).get("q") ?? [];
  const coordinator = await addCoordinator(sql);
  const order: number[] = [];
  for (let i = 0; i < flows; i++) {
    const machine = await addMachine(sql, "q", `m${i}`, coordinator);
    order.push((await claimLease(sql, machine.id, plus(NOON, ms(i)))).lease?.id ?? 0);
  }
  expect(order).toEqual(line.map(({ id }) => id));
  expect(line[0]?.flow).toBe(`person ${FLOWS_COMPARED}`);
});

test("a lease of a host type that the configuration lost stands in its line; its machines take submitted code only", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "gone", "team");
  const common = {
    class: "post-submit",
    helper: false,
    release: false,
    flow: "app",
    repo: "app",
    rank: 0,
    starves: plus(NOON, minutes(600)),
  } as const;
  const [submitted, reviewed] = await plan(sql, "gone", [
    { ...common, provenance: "submitted" },
    { ...common, rank: -1, provenance: "reviewed" },
  ]);
  await sql.query("update host_type set configured = false, trust = 'community'");
  expect((await queueLines(sql, null, NOON, 9)).get("gone")?.map(({ build }) => build)).toEqual([reviewed, submitted]);
  const machine = await addMachine(sql, "gone", "m", await addCoordinator(sql));
  const { lease } = await claimLease(sql, machine.id, NOON);
  expect((await queueLines(sql, null, NOON, 9)).get("gone")?.map(({ build }) => build)).toEqual([reviewed]);
  expect(lease?.provenance).toBe("submitted");
});

test("takerOf() knows what a machine may take, and that a drain or a failing machine stops it", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "q", "team");
  const { machineId: machine } = await addMachine(sql, "q", "own", await addCoordinator(sql));
  const taker = { machineId: machine, queue: "q", trust: "team", gomoteLent: true, stopped: false } as const;
  expect(await takerOf(sql, machine)).toEqual(taker);
  for (const stop of [
    "machine set set_aside_at",
    "machine set drained_at",
    "host_type set drained_at",
    "farm set drained_at",
  ]) {
    await sql.query(`update ${stop} = $1`, [at(NOON)]);
    expect(await takerOf(sql, machine)).toEqual({ ...taker, stopped: true });
    await sql.query(`update ${stop} = null`);
  }
  expect(await takerOf(sql, machineId(4711))).toBeUndefined();
});

test("the line of 10,000 that wait in many lanes is read in a moment", async () => {
  await using database = await freshDatabase();
  const { sql } = database;
  await addHostType(sql, "q", "team");
  await sql.query(
    `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
     select 'build', 1 + n % 3, 'q', 'flow ' || n % 40, 'app', 'submitted', n % 1000, $1, $1::timestamptz + n % 50 * interval '1 second' - interval '1 second'
     from generate_series(1, 10000) n`,
    [at(NOON)],
  );
  await sql.query("vacuum (analyze) lease");
  await queueLines(sql, ["q"], NOON, 1000);
  const started = performance.now();
  expect((await queueLines(sql, ["q"], NOON, 100)).get("q")?.length).toBe(100);
  expect(performance.now() - started).toBeLessThan(1000);
  const line = (await queueLines(sql, ["q"], NOON, 1000)).get("q") ?? [];
  const starving = line.filter((lease) => lease.starvesAt <= NOON);
  expect([line.length, starving.length]).toEqual([1000, 400]);
  expect(line.slice(0, 800)).toEqual(expect.arrayContaining(starving));
  expect(line.every((lease) => lease.starvesAt <= NOON || LEASE_CLASSES[lease.class] === 1)).toBe(true);
  await endLease(sql, { id: leaseId(line[0]?.id ?? 0), epoch: 0 }, NOON, "done");
});

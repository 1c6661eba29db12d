/**
 * How many builds a farm gets done: builds of one trivial step through 100 simulated machines, with the embedded PostgreSQL.
 *
 * All builds of a run are wanted at once. The rate is their number by the time from the first machine being held to the last build
 * having ended, both as the database has them. Each build is everything that a build is: claim, clean, source tarball, an
 * exec with its output in a log, and the verdict, all stored.
 */
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atLeast } from "./figure.ts";

const MACHINES = 100;
const RUNS = 3;
const BUILDS = 2000;
const WARM_UP = 300;
const RUN_LIMIT_MS = 60_000;

export const throughput: Bench = {
  name: "throughput",
  about: "builds of one trivial step per second through 100 simulated machines",
  limitMs: 150_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    const { id: commitId } = await farm.commit();
    await using fleet = await farm.simulate({ prefix: "worker", count: MACHINES });
    await fleet.connected(MACHINES, 30_000, context.signal);
    await rate(WARM_UP);
    const rates: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      rates.push(await rate(BUILDS));
      context.note(`run ${run} of ${RUNS}: ${rates.at(-1)?.toFixed(0)} builds/s`);
    }
    context.report({ figure: "builds", unit: "builds/s", values: rates, goal: atLeast(150) });

    async function rate(count: number): Promise<number> {
      const builds = await farm.want({ steps: [{ name: "trivial", command: ["true"] }], count, commitId });
      // Looking seldom: counting costs the same server.
      await farm.allEnded(RUN_LIMIT_MS, 250);
      const [row] = await farm.sql.query<{ first: number; last: number; n: number }>(
        `select min(l.held_at) as first, max(b.ended_at) as last, count(*) as n
         from build b join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id where b.id >= $1`,
        [Math.min(...builds.map((build) => build.id))],
      );
      if (!row || row.n !== count) throw new Error(`Cannot measure: ${row?.n} attempts for ${count} builds`);
      return (1000 * count) / (row.last - row.first);
    }
  },
};

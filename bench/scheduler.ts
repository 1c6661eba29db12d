/**
 * Does the claim stay as fast as it is, however much has been claimed before? A million leases through the claim statement as the coordinator
 * runs it, on an embedded PostgreSQL with 20,000 machines of 200 host types (scheduler-farm.ts says what is real of them).
 *
 * growth  the same farm at the same hour of two nights, with 10,000 leases behind it and with 1,000,000, on one connection.
 * load    all between: a day, lived through as fast as it goes, AT_ONCE claims and ends at a time.
 *
 * Every claim counts, also one that finds nothing: that has looked in all places.
 */
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../src/store/database.ts";
import { systemClock } from "../src/store/system-clock.ts";
import { reachableFolder } from "../src/store/testing/reachable-folder.ts";
import type { Bench } from "./bench.ts";
import { atLeast, atMost, percentile } from "./figure.ts";
import { type Claim, SchedulerFarm } from "./scheduler-farm.ts";

const FEW = 10_000;
const MANY = 1_000_000;
const RUNS = 3;
/** Leases of each run of few and of many. */
const ONE_BY_ONE = 3000;
/** Of the day, each for one value of its rate. */
const PARTS = 10;
/** By then the database can know what the leases look like. */
const ENOUGH_TO_KNOW = 1000;
const AT_ONCE = 8;

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

export const scheduler: Bench = {
  name: "scheduler",
  about: "the claim on a farm of 20,000 machines, of the first and the last of 1,000,000 leases, and all between",
  limitMs: 2_400_000,
  async run(context) {
    await using stack = new AsyncDisposableStack();
    const data = await reachableFolder(join(tmpdir(), "barnraiser-bench-"));
    stack.defer(() => rm(data, { recursive: true, force: true }));
    const { sql } = stack.use(await openDatabase({ data, clock: systemClock, log: quiet }));
    const farm = stack.use(await SchedulerFarm.make(sql));
    const lived = { claims: 0, leases: 0 };
    const live = async (wanted: number, atOnce: number): Promise<Claim[]> => {
      const claims = await farm.live(wanted, atOnce, context.signal);
      lived.claims += claims.length;
      lived.leases += claims.filter(({ got }) => got).length;
      return claims;
    };
    const oneByOne = async (): Promise<Claim[][]> => {
      const runs: Claim[][] = [];
      for (let run = 0; run < RUNS; run++) runs.push(await live(farm.wanted + ONE_BY_ONE, 1));
      context.note(`${farm.wanted} leases were wanted, ${farm.held} are held`);
      return runs;
    };

    // The database does this by itself once a minute, which is an hour of this farm: growth is to be that of what lies behind, not of how long
    // nobody has cleaned up.
    const upkeep = () => sql.query("vacuum (analyze) lease");

    for (const wanted of [ENOUGH_TO_KNOW, FEW]) {
      await live(wanted, AT_ONCE);
      await upkeep();
    }
    const few = await oneByOne();
    const rates: number[] = [];
    const loaded: number[] = [];
    const first = farm.wanted;
    for (let part = 1; part <= PARTS; part++) {
      const started = performance.now();
      const claims = await live(first + ((MANY - first) * part) / PARTS, AT_ONCE);
      rates.push((claims.length / (performance.now() - started)) * 1000);
      loaded.push(percentOf(claims, 99));
      context.note(
        `${farm.wanted} leases were wanted, ${farm.held} are held; ${rates.at(-1)?.toFixed()} claims a second`,
      );
    }
    await upkeep();
    const many = await oneByOne();

    for (const [name, percent] of [
      ["claim-p50", 50],
      ["claim-p99", 99],
    ] as const) {
      const before = few.map((claims) => percentOf(claims, percent));
      const after = many.map((claims) => percentOf(claims, percent));
      context.report({ figure: name, unit: "ms", values: before });
      context.report({
        figure: `${name}-million`,
        unit: "ms",
        values: after,
        ...(percent === 50 && { goal: atMost(2) }),
      });
      const growth = after.map((value, run) => value / (before[run] ?? Number.NaN));
      context.report({ figure: `${name}-growth`, unit: "", values: growth, goal: atMost(1.2) });
    }
    context.report({ figure: "claims", unit: "/s", values: rates, goal: atLeast(500) });
    context.report({ figure: "claim-p99-load", unit: "ms", values: loaded, goal: atMost(50) });
    context.report({ figure: "leases", unit: "", values: [lived.leases] });
    context.report({ figure: "in-vain", unit: "", values: [1 - lived.leases / lived.claims] });
    const vain = many.map((claims) => claims.filter(({ got }) => !got));
    context.report({ figure: "in-vain-p99", unit: "ms", values: vain.map((claims) => percentOf(claims, 99)) });
    const [size] = await sql.query<{ all: number; claims: number }>(
      `select (pg_indexes_size('lease') / 1e6)::float8 as all,
         ((pg_relation_size('lease_in_order') + pg_relation_size('lease_starving') + pg_relation_size('lease_held')) / 1e6)::float8 as claims`,
    );
    context.report({ figure: "indexes", unit: "MB", values: [size?.all ?? Number.NaN] });
    context.report({ figure: "indexes-of-waiting", unit: "MB", values: [size?.claims ?? Number.NaN] });
  },
};

function percentOf(claims: readonly Claim[], percent: number): number {
  return percentile(
    claims.map(({ ms }) => ms),
    percent,
  );
}

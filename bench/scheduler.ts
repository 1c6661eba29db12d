/**
 * Does the claim stay as fast as it is, however much has been claimed before? The claim statement as the coordinator runs it, on an
 * embedded PostgreSQL with 20,000 machines of 200 host types, through a day of arrivals (scheduler-farm.ts says what is real of it).
 *
 * growth  two farms, with 10,000 and with 1,000,000 leases, equal but for what has ended, live through the same first hours of the day, push by
 *         push in turn, on one connection.
 * load    the large farm lives through the rest of the day as fast as it can, CLAIMERS pushes, ends and claims at once, so that every claim
 *         leaves dead rows behind it as it does on a farm that works.
 *
 * Every claim counts, also one that finds nothing: that has looked in all places.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../src/store/database.ts";
import type { Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { Bench } from "./bench.ts";
import { atLeast, atMost, percentile } from "./figure.ts";
import { type Claim, PUSHES, SchedulerFarm } from "./scheduler-farm.ts";

const SIZES = { small: 10_000, large: 1_000_000 } as const;
const RUNS = 3;
/** Pushes of one run on each farm; three runs are a quarter of the day. */
const ONE_BY_ONE = 70;
/** The rest of the day in three runs. */
const UNDER_LOAD = Math.floor(PUSHES / RUNS) - ONE_BY_ONE;
const CLAIMERS = 8;

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

export const scheduler: Bench = {
  name: "scheduler",
  about: "the claim on a farm of 20,000 machines, with 10,000 and with 1,000,000 leases, and under load",
  limitMs: 480_000,
  async run(context) {
    await using small = await open();
    await using large = await open();
    using few = await SchedulerFarm.seed(small.sql, SIZES.small);
    using many = await SchedulerFarm.seed(large.sql, SIZES.large);
    const farms = { small: few, large: many };
    context.note(`made ${SIZES.large} leases; ${many.held} machines are busy`);

    const sizes = ["small", "large"] as const;
    const p50 = { small: [] as number[], large: [] as number[] };
    const p99 = { small: [] as number[], large: [] as number[] };
    const vain: number[] = [];
    const lived = { claims: 0, leases: 0 };
    const count = (claims: readonly Claim[]): void => {
      lived.claims += claims.length;
      lived.leases += claims.filter(({ got }) => got).length;
    };
    for (let run = 0; run < RUNS; run++) {
      const claims = { small: [] as Claim[], large: [] as Claim[] };
      for (let i = 0; i < ONE_BY_ONE; i++) {
        context.signal.throwIfAborted();
        for (const size of sizes) claims[size].push(...(await farms[size].live(1, 1)));
      }
      count(claims.large);
      for (const size of sizes) {
        const spans = claims[size].map(({ ms }) => ms);
        p50[size].push(percentile(spans, 50));
        p99[size].push(percentile(spans, 99));
      }
      vain.push(
        percentile(
          claims.large.flatMap(({ ms, got }) => (got ? [] : [ms])),
          99,
        ),
      );
    }
    const growth = (of: typeof p50): number[] => of.large.map((value, run) => value / (of.small[run] ?? Number.NaN));
    context.report({ figure: "claim-p50", unit: "ms", values: p50.small });
    context.report({ figure: "claim-p50-million", unit: "ms", values: p50.large, goal: atMost(2) });
    context.report({ figure: "claim-growth", unit: "", values: growth(p50), goal: atMost(1.2) });
    context.report({ figure: "claim-p99", unit: "ms", values: p99.small });
    context.report({ figure: "claim-p99-million", unit: "ms", values: p99.large });
    context.report({ figure: "claim-p99-growth", unit: "", values: growth(p99), goal: atMost(1.2) });

    const rates: number[] = [];
    const loaded: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      context.signal.throwIfAborted();
      const started = performance.now();
      const claims = await many.live(UNDER_LOAD, CLAIMERS);
      rates.push((claims.length / (performance.now() - started)) * 1000);
      loaded.push(
        percentile(
          claims.map(({ ms }) => ms),
          99,
        ),
      );
      count(claims);
    }
    context.report({ figure: "claims", unit: "/s", values: rates, goal: atLeast(500) });
    context.report({ figure: "claim-p99-load", unit: "ms", values: loaded, goal: atMost(50) });
    context.report({ figure: "leases", unit: "", values: [lived.leases] });
    context.report({ figure: "in-vain-p99", unit: "ms", values: vain });
    context.report({ figure: "in-vain", unit: "", values: [1 - lived.leases / lived.claims] });
    const [size] = await large.sql.query<{ all: number; claims: number }>(
      `select (pg_indexes_size('lease') / 1e6)::float8 as all,
         ((pg_relation_size('lease_in_order') + pg_relation_size('lease_starving') + pg_relation_size('lease_held')) / 1e6)::float8 as claims`,
    );
    context.report({ figure: "indexes", unit: "MB", values: [size?.all ?? Number.NaN] });
    context.report({ figure: "indexes-of-waiting", unit: "MB", values: [size?.claims ?? Number.NaN] });
  },
};

async function open(): Promise<AsyncDisposable & { readonly sql: Sql }> {
  await using stack = new AsyncDisposableStack();
  const data = await mkdtemp(join(tmpdir(), "barnraiser-bench-"));
  stack.defer(() => rm(data, { recursive: true, force: true }));
  const { sql } = stack.use(await openDatabase({ data, clock: systemClock, log: quiet }));
  const owned = stack.move();
  return { sql, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

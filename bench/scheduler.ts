/**
 * Does the claim stay as fast as it is, however much has been claimed before? The claim statement as the coordinator runs it, on an
 * embedded PostgreSQL with 20,000 machines of 200 host types (scheduler-farm.ts).
 *
 * growth  two farms, with 10,000 and with 1,000,000 leases, equal but for what has ended. Idle machines chosen at random ask in turn, on one
 *         connection; each lease that is got is ended, and every fortieth time a push comes in.
 * load    the large farm, asked by CLAIMERS at once for LOAD_MS: who got a lease ends another's, and pushes keep the queues as long as
 *         they were, so that every claim leaves dead rows behind it as it does on a farm that works.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDatabase } from "../src/store/database.ts";
import type { Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { Bench } from "./bench.ts";
import { atLeast, atMost, percentile } from "./figure.ts";
import { PUSH, SchedulerFarm } from "./scheduler-farm.ts";

const SIZES = { small: 10_000, large: 1_000_000 } as const;
const RUNS = 3;
const CLAIMS = 400;
const WARM_UP = 50;
const CLAIMERS = 8;
const LOAD_MS = 10_000;

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

export const scheduler: Bench = {
  name: "scheduler",
  about: "the claim on a farm of 20,000 machines, with 10,000 and with 1,000,000 leases, and under load",
  limitMs: 300_000,
  async run(context) {
    await using small = await open();
    await using large = await open();
    const farms = {
      small: await SchedulerFarm.seed(small.sql, SIZES.small),
      large: await SchedulerFarm.seed(large.sql, SIZES.large),
    };
    context.note(`made ${SIZES.large} leases`);

    const p50 = { small: [] as number[], large: [] as number[] };
    const ratios: number[] = [];
    for (const farm of Object.values(farms)) for (let i = 0; i < WARM_UP; i++) await turn(farm, i);
    for (let run = 0; run < RUNS; run++) {
      const spans = { small: [] as number[], large: [] as number[] };
      for (let i = 0; i < CLAIMS; i++) {
        context.signal.throwIfAborted();
        for (const size of ["small", "large"] as const) spans[size].push(await turn(farms[size], i));
      }
      for (const size of ["small", "large"] as const) p50[size].push(percentile(spans[size], 50));
      ratios.push(percentile(spans.large, 50) / percentile(spans.small, 50));
    }
    context.report({ figure: "claim-p50", unit: "ms", values: p50.small });
    context.report({ figure: "claim-p50-million", unit: "ms", values: p50.large, goal: atMost(2) });
    context.report({ figure: "claim-growth", unit: "", values: ratios, goal: atMost(1.2) });

    const rates: number[] = [];
    const p99: number[] = [];
    for (let run = 0; run < RUNS; run++) {
      context.signal.throwIfAborted();
      const { claims, ms } = await load(farms.large);
      rates.push((claims.length / ms) * 1000);
      p99.push(percentile(claims, 99));
    }
    context.report({ figure: "claims", unit: "/s", values: rates, goal: atLeast(500) });
    context.report({ figure: "claim-p99-load", unit: "ms", values: p99, goal: atMost(50) });
    const [size] = await large.sql.query<{ all: number; claims: number }>(
      `select (pg_indexes_size('lease') / 1e6)::float8 as all,
         ((pg_relation_size('lease_in_order') + pg_relation_size('lease_starving') + pg_relation_size('lease_held')) / 1e6)::float8 as claims`,
    );
    context.report({ figure: "indexes", unit: "MB", values: [size?.all ?? Number.NaN] });
    context.report({ figure: "indexes-of-waiting", unit: "MB", values: [size?.claims ?? Number.NaN] });
  },
};

/** One claim that gets something, and what keeps the farm as it is. */
async function turn(farm: SchedulerFarm, i: number): Promise<number> {
  for (;;) {
    const { ms, got } = await farm.claim();
    if (!got) continue;
    await farm.end();
    if (i % PUSH === 0) await farm.push();
    return ms;
  }
}

async function load(farm: SchedulerFarm): Promise<{ claims: number[]; ms: number }> {
  const claims: number[] = [];
  const started = performance.now();
  let count = 0;
  await Promise.all(
    Array.from({ length: CLAIMERS }, async () => {
      while (performance.now() - started < LOAD_MS) claims.push(await turn(farm, count++));
    }),
  );
  return { claims, ms: performance.now() - started };
}

async function open(): Promise<AsyncDisposable & { readonly sql: Sql }> {
  await using stack = new AsyncDisposableStack();
  const data = await mkdtemp(join(tmpdir(), "barnraiser-bench-"));
  stack.defer(() => rm(data, { recursive: true, force: true }));
  const { sql } = stack.use(await openDatabase({ data, clock: systemClock, log: quiet }));
  const owned = stack.move();
  return { sql, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

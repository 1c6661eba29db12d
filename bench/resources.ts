/**
 * What a farm costs its database, and what forgetting costs.
 *
 * size        BUILDS builds on a real machine, each of one step that prints 1 MB as a test run prints it; how much larger all tables with their
 *             indexes are afterwards, per build, and as a part of the raw bytes.
 * retention   A farm with 1,000,000 builds (seed.ts), the oldest with logs. A pass that finds nothing old; one that forgets 10,000
 *             builds, with the rests that it takes in a farm; the time in bites alone for 100,000 builds.
 * claim       The claim statement with 5,000 leases wanted, before and while the pass of 10,000 builds goes on.
 */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { FarmConfig } from "../src/config/effective.ts";
import type { FarmInput } from "../src/config/input.ts";
import type { Clock } from "../src/farm/clock.ts";
import { epochMs, type Ms, ms, sessionId } from "../src/farm/ids.ts";
import { retentionPass } from "../src/retention/retention.ts";
import { claimLease, endLease } from "../src/store/leases.ts";
import type { Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { Bench, Context } from "./bench.ts";
import { BenchFarm, REPO } from "./farm.ts";
import { atMost, percentile } from "./figure.ts";
import { logText } from "./log.ts";
import { seedPast, seedQueue } from "./seed.ts";

const BUILDS = 40;
const LOG_BYTES = 1024 * 1024;
const BUILDERS = 100;
const COMMITS = 10_000;
/** Commits whose builds have logs, and are forgotten: in the pass with rests, and in the one without. */
const OLD = 100;
const OLDER = 1000;
const QUARTER_MS = 15 * 60_000;
const CLAIMS = 2000;
const HOST_TYPE = "host-linux-amd64-past";
const CLAIM_TYPE = "host-linux-amd64-claims";
const SESSION = sessionId("0".repeat(32));

export const resources: Bench = {
  name: "resources",
  about: "size of a build with a 1 MB log, retention with 1,000,000 builds, the claim meanwhile",
  limitMs: 300_000,
  async run(context) {
    await size(context);
    await retention(context);
  },
};

async function size(context: Context): Promise<void> {
  await using farm = await BenchFarm.start(context);
  await using _machine = await farm.machine("printer");
  await farm.commit();
  const file = join(farm.folder, "log");
  await writeFile(file, logText().subarray(0, LOG_BYTES), { mode: 0o644 });
  const build = async (count: number): Promise<void> => {
    await farm.want({ steps: [{ name: "print", command: ["cat", file] }], count });
    await farm.allEnded(120_000, 50);
  };
  await build(2); // first pages of every table
  const before = await bytes(farm.sql);
  await build(BUILDS);
  const each = ((await bytes(farm.sql)) - before) / BUILDS;
  context.report({ figure: "build-size", unit: "KB", values: [each / 1024] });
  context.report({ figure: "build-size-ratio", unit: "of raw", values: [each / LOG_BYTES], goal: atMost(0.5) });
}

async function bytes(sql: Sql): Promise<number> {
  await sql.query("vacuum");
  const [row] = await sql.query<{ bytes: number }>(
    `select sum(pg_total_relation_size(oid))::bigint as bytes from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace`,
  );
  return row?.bytes ?? 0;
}

async function retention(context: Context): Promise<void> {
  const builders = Array.from({ length: BUILDERS }, (_, n) => `linux-amd64-${n}`);
  const config: FarmInput = {
    repos: [{ name: REPO, url: "/nonexistent/repository", branches: "main", poll: "1h", history: 200 }],
    hosts: [{ hostType: HOST_TYPE, trust: "team" }],
    builders: builders.map((name) => ({ name, host: HOST_TYPE, steps: ["true"] })),
  };
  await using farm = await BenchFarm.start({ signal: context.signal, config });
  const { sql } = farm;
  const newest = new Date();
  const seeding = performance.now();
  await seedPast(sql, { repo: REPO, branch: "main", builders, hostType: HOST_TYPE, commits: COMMITS, newest });
  await seedLogs(sql, OLD + OLDER);
  await seedQueue(sql, SESSION, CLAIM_TYPE, 4 * CLAIMS, newest);
  context.note(`${COMMITS * BUILDERS} builds made in ${((performance.now() - seeding) / 1000).toFixed(1)} s`);

  /** A pass that forgets the builds of the oldest `commits`; resolves with its seconds. */
  const pass = async (commits: number, clock: Clock): Promise<number> => {
    const kept = ms((COMMITS - commits) * QUARTER_MS + QUARTER_MS / 2 + (Date.now() - newest.getTime()));
    const long = ms(10 * 365 * 86_400_000);
    const spans = { greenLogsMs: kept, logsMs: kept, buildsMs: kept };
    const farmConfig: Pick<FarmConfig, "retention" | "repos"> = {
      retention: { ...spans, gomotesMs: long, sessionsMs: long, auditMs: long, noticesMs: long },
      repos: [{ name: REPO, history: 200 } as FarmConfig["repos"][number]],
    };
    const started = performance.now();
    const deleted = await retentionPass(
      { sql, clock, log: { debug() {}, info() {}, warn() {}, error() {} }, config: () => farmConfig },
      context.signal,
    );
    const took = (performance.now() - started) / 1000;
    context.note(`forgot ${JSON.stringify(deleted)} in ${took.toFixed(1)} s`);
    return took;
  };
  const claims = async (until: () => boolean): Promise<number[]> => {
    const spans: number[] = [];
    while (!until() && spans.length < CLAIMS) {
      const started = performance.now();
      const { lease } = await claimLease(sql, SESSION, epochMs(Date.now()));
      spans.push(performance.now() - started);
      if (!lease) throw new Error("Cannot measure: the claim found nothing");
      await endLease(sql, lease, epochMs(Date.now()), "measured");
      await systemClock.sleep(ms(2));
    }
    return spans;
  };

  context.report({ figure: "retention-nothing", unit: "s", values: [await pass(0, restless)] });
  await claims(() => false);
  const alone = await claims(() => false);
  let over = false;
  const passing = pass(OLD, systemClock).finally(() => {
    over = true;
  });
  const meanwhile = await claims(() => over);
  context.report({ figure: "retention-10000", unit: "s", values: [await passing] });
  context.report({ figure: "retention-100000-work", unit: "s", values: [await pass(OLD + OLDER, restless)] });
  const [p99, p99Meanwhile] = [percentile(alone, 99), percentile(meanwhile, 99)];
  context.report({ figure: "claim-p50", unit: "ms", values: [percentile(alone, 50)] });
  context.report({ figure: "claim-p50-meanwhile", unit: "ms", values: [percentile(meanwhile, 50)] });
  context.report({ figure: "claim-p99", unit: "ms", values: [p99] });
  context.report({ figure: "claim-p99-meanwhile", unit: "ms", values: [p99Meanwhile], goal: atMost(50) });
}

/** Rests for no longer than it must to let others in. */
const restless: Clock = {
  now: () => systemClock.now(),
  monotonic: () => systemClock.monotonic(),
  sleep: (_span: Ms, signal?: AbortSignal) => systemClock.sleep(ms(0), signal),
};

/** The builds of the first `commits` get a log of one chunk of 1,000 bytes each. */
async function seedLogs(sql: Sql, commits: number): Promise<void> {
  await sql.tx(async (tx) => {
    await tx.query("set local session_replication_role = replica");
    await tx.query(
      `insert into log (id, length, lines, ended) overriding system value select id, 1000, 0, true from build where commit_id <= $1`,
      [commits],
    );
    await tx.query(
      `insert into log_chunk (log_id, at, line, length, packed, data)
       select id, 0, 0, 1000, false, $2::bytea from build where commit_id <= $1`,
      [commits, randomBytes(1000)],
    );
    await tx.query(
      "update step set log_id = attempt_id from build where build.id = step.attempt_id and commit_id <= $1",
      [commits],
    );
  });
  for (const table of ["log", "log_chunk", "step"]) await sql.query(`vacuum (analyze) ${table}`);
}

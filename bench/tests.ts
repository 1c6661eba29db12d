/**
 * makespan: 400 tests with a long-tailed distribution on 8 machines, as real turns in the database (store/test-turn.ts) and simulated time: a
 * machine that was given a group is back after what its tests take. The ratio is that of the time until the last test ended to what no
 * schedule can beat, the longest test or the sum over 8. With history, noisy by half to both sides, and without.
 *
 * group-overhead: what one turn costs, which ends a group and hands out the next, with the embedded database to itself.
 *
 * turn-of-1000: the same for groups as large as they get, of which each test has a row, an outcome and a duration to be kept. test-of-1000: a
 * test's part of it, in ratio to its part of a turn of 100: what a turn costs grows with its tests, and no faster.
 */
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { random } from "../e2e/testing/random.ts";
import { type BuildId, buildId, epochMs, leaseId, machineId, ms } from "../src/farm/ids.ts";
import { openDatabase } from "../src/store/database.ts";
import { at, type Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { TestGroup } from "../src/store/test-groups.ts";
import { type NewTest, storeTests } from "../src/store/test-run.ts";
import { type GroupEnd, testTurn } from "../src/store/test-turn.ts";
import { reachableFolder } from "../src/store/testing/reachable-folder.ts";
import type { Bench } from "./bench.ts";
import { atMost } from "./figure.ts";

const MACHINES = 8;
const TESTS = 400;
const RUNS = 5;
/** Tests in the largest groups, and in those that they are compared with; and how many of each are run. */
const LARGE = 1000;
const SMALL = 100;
const LARGE_TURNS = 8;
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

export const tests: Bench = {
  name: "tests",
  about: "a build's tests on 8 machines: how close to the best end, and what a group costs, also a large one",
  limitMs: 120_000,
  run: async (context) => {
    await using stack = new AsyncDisposableStack();
    const data = await reachableFolder(join(tmpdir(), "bench-tests-"));
    stack.defer(() => rm(data, { recursive: true, force: true }));
    const { sql } = stack.use(await openDatabase({ data, clock: systemClock, log: quiet }));
    const known: number[] = [];
    const unknown: number[] = [];
    const turns: number[] = [];
    await prepare(sql);
    for (let run = 0; run < RUNS; run++) {
      context.signal.throwIfAborted();
      const next = random(run + 1);
      const times = Array.from({ length: TESTS }, () =>
        Math.round(Math.min(60_000, 1500 * Math.exp(1.2 * normal(next)))),
      );
      const noisy = times.map((time) => Math.max(1, Math.round(time * (0.5 + next()))));
      known.push(await makespan(sql, times, noisy, turns));
      unknown.push(await makespan(sql, times, undefined, turns));
    }
    context.report({ figure: "makespan-known", unit: "ratio", values: known, goal: atMost(1.1) });
    context.report({ figure: "makespan-unknown", unit: "ratio", values: unknown, goal: atMost(1.3) });
    context.report({
      figure: "group-overhead",
      unit: "ms",
      values: turns.length === 0 ? [0] : medians(turns),
      goal: atMost(10),
    });
    const large = await turnsOf(sql, LARGE);
    const small = await turnsOf(sql, SMALL);
    context.report({ figure: "turn-of-1000", unit: "ms", values: large, goal: atMost(500) });
    context.report({
      figure: "test-of-1000",
      unit: "ratio",
      values: [middle(large) / LARGE / (middle(small) / SMALL)],
      goal: atMost(1.5),
    });
  },
};

/** The same spread however many turns there were: five parts of them. */
function medians(turns: readonly number[]): number[] {
  const part = Math.ceil(turns.length / RUNS);
  return Array.from({ length: RUNS }, (_, i) => middle(turns.slice(i * part, (i + 1) * part)));
}

function middle(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[times.length >> 1] ?? 0;
}

async function prepare(sql: Sql): Promise<void> {
  const now = new Date();
  await sql.query(
    "insert into coordinator (id, host, pid, version, started_at, seen_at) values ('P000000001', 'h', 1, 'v', $1, $1)",
    [now],
  );
  await sql.query("insert into host_type (name, trust, configured) values ('linux', 'team', true)");
  await sql.query("insert into repo (name, url) values ('r', 'file:///nowhere')");
  await sql.query(
    `insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at)
     values ('r', repeat('a', 40), '{}', 'A', 'a', $1, 'm', $1)`,
    [now],
  );
  await sql.query("insert into recipe (digest, body) values ('d', '{\"steps\": []}')");
  await sql.query(
    `insert into machine (host_type, name, first_seen_at, last_seen_at, agent, version, address)
     select 'linux', 'm' || n, $1, $1, 'barnraiser', 29, '127.0.0.1' from generate_series(1, ${MACHINES}) n`,
    [now],
  );
}

/** A build whose tests are listed, and a lease of each machine that works for it. */
async function planned(
  sql: Sql,
  list: readonly NewTest[],
  start: number,
): Promise<{ build: BuildId; leases: number[] }> {
  const [row] = await sql.query<{ id: number; leases: number[] }>(
    `with b as (
       insert into build (repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, created_at, rebuild_of)
       select 'r', 1, 'main', 'b', 'linux', 'd', 'submitted', 2, 'running', $1, (select min(id) from build) returning id
     ), l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, epoch, machine_id)
       select case n when 1 then 'build' else 'helper' end, 2, 'linux', 'submitted', 0, $1, $1, 'held', 1, n from generate_series(1, ${MACHINES}) n
       returning id, machine_id
     ), a as (
       insert into attempt (build_id, number, lease_id, machine_id, state, created_at) select b.id, 1, l.id, l.machine_id, 'running', $1
       from b, l where l.machine_id = 1
     ), h as (
       insert into helper (lease_id, build_id) select l.id, b.id from b, l where l.machine_id > 1
     )
     select b.id, (select array_agg(id order by machine_id) from l) as leases from b`,
    [at(epochMs(start))],
  );
  if (!row) throw new Error("Cannot insert a build");
  const build = buildId(row.id);
  const [main] = row.leases;
  if (main === undefined) throw new Error("Cannot insert leases");
  await storeTests(sql, { build, lease: leaseId(main), epoch: 1 }, list, "", epochMs(start));
  return { build, leases: row.leases };
}

/** What turns took that ended a group of `count` tests and handed out another. */
async function turnsOf(sql: Sql, count: number): Promise<number[]> {
  const list = Array.from({ length: (LARGE_TURNS + 1) * count }, (_, i) => ({
    ...{ name: `of${count}/t${i + 1}`, expectedMs: null, alone: false },
  }));
  const { build, leases } = await planned(sql, list, Date.now());
  const worker = { build, lease: leaseId(leases[0] ?? 0), epoch: 1, machine: machineId(1) };
  const rules = {
    spec: { groupTargetMs: 10 * list.length, unknownMs: 1, keepGoing: true },
    ...{ mostTests: count, mostBytes: 1_000_000, helpers: 0, elsewhereFirst: ms(0), nonce: "", takes: true },
  };
  const turns: number[] = [];
  let done: GroupEnd | undefined;
  for (;;) {
    const began = performance.now();
    const turn = await testTurn(sql, worker, done, rules, epochMs(Date.now()));
    if (turn.next !== "group") return turns;
    if (done) turns.push(performance.now() - began);
    done = endOf(turn.group, () => 1);
  }
}

function endOf({ id, tests }: TestGroup, took: (number: number) => number): GroupEnd {
  return {
    group: id,
    status: "ok",
    line: "m: some tests: ok after 1s",
    log: undefined,
    tests: tests.map(({ number }) => ({
      number,
      result: "success",
      final: false,
      durationMs: took(number),
      shareMs: null,
      from: 0,
      to: 0,
    })),
  };
}

/** The ratio of the time until all ended to the best that there could be. */
async function makespan(
  sql: Sql,
  times: readonly number[],
  expected: readonly number[] | undefined,
  turns: number[],
): Promise<number> {
  const start = Date.now();
  const list = times.map((_, i) => ({ name: `t${i + 1}`, expectedMs: expected?.[i] ?? null, alone: false }));
  const { build, leases } = await planned(sql, list, start);
  const free = leases.map((lease, i) => ({
    lease,
    machine: i + 1,
    at: 0,
    done: undefined as GroupEnd | undefined,
  }));
  let ended = 0;
  for (;;) {
    const next = free.reduce((first, other) => (other.at < first.at ? other : first));
    const worker = { build, lease: leaseId(next.lease), epoch: 1, machine: machineId(next.machine) };
    const rules = {
      spec: { groupTargetMs: 10_000, unknownMs: 3000, keepGoing: true },
      mostTests: 1000,
      mostBytes: 24_000,
      helpers: MACHINES - 1,
      elsewhereFirst: ms(60_000),
      nonce: randomBytes(16).toString("hex"),
      takes: true,
    };
    const began = performance.now();
    const turn = await testTurn(sql, worker, next.done, rules, epochMs(start + Math.round(next.at)));
    turns.push(performance.now() - began);
    if (next.done) ended = Math.max(ended, next.at);
    if (turn.next === "over") break;
    if (turn.next !== "group") {
      next.done = undefined;
      next.at = Number.POSITIVE_INFINITY;
      continue;
    }
    const { group } = turn;
    const took = (number: number): number => times[number - 1] ?? 0;
    next.at += group.tests.reduce((sum, { number }) => sum + took(number), 0);
    next.done = endOf(group, took);
  }
  const best = Math.max(Math.max(...times), times.reduce((a, b) => a + b, 0) / MACHINES);
  return ended / best;
}

function normal(next: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());
}

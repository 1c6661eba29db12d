/**
 * The tests of a build in the database: listed once, taken in groups by whichever machine is free, settled once.
 *
 *   waiting  nobody runs it; after a failure or a loss it avoids that machine for a while
 *   running  in a group that a lease holds; in two, when the first is slow and another machine has nothing else to do: the first to end
 *            decides, and what the other says then counts for nothing
 *   ended    has an outcome
 *
 *   waiting -taken-> running -passed, failed twice, failed for good-> ended
 *   running -failed once, no result of its own, machine or coordinator lost-> waiting;  running -machine lost LOSSES times-> ended
 *
 * A loss is what the machine did: it went away, broke, or was too slow to tell what came of the test. What the farm did itself, as when a
 * coordinator is stopped or dies, says nothing about a test, which is then run as if for the first time.
 *
 * A turn is one transaction: it stores what a group came to, takes back what the leases that have ended were running, and hands out the next
 * group, or writes the verdict when there is nothing left. All turns of a build follow one another (the lock of its `test_run`),
 * so the sums there are right, and the last one is known to be the last. A turn is refused to a lease that is not held any more: what a
 * machine says after it lost its lease counts for nothing, since others run its tests. Repeating a turn whose answer got lost is harmless:
 * its group has ended, and the lease still has the group that it was given.
 *
 * Locks are taken in this order: test_run, attempt, build, lease.
 */
import { type EpochMs, epochMs, plus } from "../farm/ids.ts";
import { adjustHelpers, anotherMay, neededAnyway } from "./helper-leases.ts";
import { type LogEnd, logEnded } from "./logs.ts";
import { at, type Sql } from "./sql.ts";
import { part, statement } from "./statement.ts";
import {
  chooseNext,
  chooseSlow,
  type GroupTest,
  heldGroup,
  type KeptTests,
  keptTests,
  NONE_SLOW,
  slowTests,
  storeTurn,
  type TestGroup,
} from "./test-groups.ts";
import { lostLine, type RunningGroup, type SettledTest, settledLines, unschedulableLine } from "./test-lines.ts";
import { type LeftRunning, type TestCounts, TestRun, type TestWorker, type Turn, type TurnRules } from "./test-run.ts";
import { remembered, type TimedTest } from "./test-times.ts";
import { LOSSES, writeVerdict } from "./test-verdict.ts";

/**
 * What became of a test in its group.
 *
 *   success, skipped  it has passed
 *   failure           it failed; once more, elsewhere, when that was the first time and it is not `final`
 *   again             the group says nothing about it: it runs alone
 *   lost              what the group says about it could not be read: it runs alone, elsewhere, LOSSES times at most
 */
export interface TestRan {
  readonly number: number;
  readonly result: "success" | "skipped" | "failure" | "again" | "lost";
  readonly final: boolean;
  /** null: unknown. */
  readonly durationMs: number | null;
  /** Its part, by what was expected, of the time of a group that does not say what each took; null: it does, or its time is unknown. */
  readonly shareMs: number | null;
  readonly from: number;
  readonly to: number;
}

export interface GroupEnd {
  readonly group: number;
  readonly status: string;
  /** Who ran it, what that was, and how it ended. */
  readonly line: string;
  readonly log: LogEnd | undefined;
  readonly tests: readonly TestRan[];
}

/** What a turn comes to. */
export type TurnResult =
  | { readonly next: "group"; readonly group: TestGroup; readonly helpersWanted: boolean }
  /** Others run what is left, or what waits is `kept` for others; before `again` nothing is for this machine. */
  | {
      readonly next: "wait";
      readonly again: EpochMs | null;
      readonly running: number;
      readonly kept: KeptTests | null;
      readonly helpersWanted: boolean;
    }
  /** All tests have ended, and the build with them. `unattended`: by this turn, and nobody drives the build's own machine who hears of it. */
  | { readonly next: "over"; readonly counts: TestCounts; readonly unattended: boolean }
  /** The lease is not held any more, or nobody wants the build. */
  | { readonly next: "lost" };

/** See the head of this file. `done` is the group that `worker` has run since its last turn. */
export async function testTurn(
  sql: Sql,
  worker: TestWorker,
  done: GroupEnd | undefined,
  rules: TurnRules,
  now: EpochMs,
): Promise<TurnResult> {
  return sql.tx(async (tx) => {
    const run = await TestRun.lock(tx, worker.build, { ...worker, done: done?.group ?? null });
    if (!run) return { next: "lost" };
    if (run.ended) return { next: "over", counts: run.counts, unattended: false };
    if (!run.open || !run.held) return { next: "lost" };
    const turn: Turn = { tx, run, worker, rules, now, said: [] };
    if (done) await settle(turn, done);
    if (run.lost) await takeBack(turn);
    if (run.counts.failed > 0 && !rules.spec.keepGoing) run.stop();
    if (run.over) return { next: "over", counts: await writeVerdict(turn), unattended: run.working.main === 0 };
    return goOn(turn, done?.tests.some(goesElsewhere) ?? false);
  });
}

/** Hands out what is next, once it is known that the tests are not over. `elsewhere`: the machine has just run what others should run next. */
async function goOn(turn: Turn, elsewhere: boolean): Promise<TurnResult> {
  const { tx, run, worker, rules } = turn;
  const { main, helpers, wanted } = run.working;
  const takes = rules.takes && !run.stopped;
  const given = run.given ? await heldGroup(tx, worker) : undefined; // by this very turn, whose answer got lost
  const least = elsewhere || wanted > 0 ? await neededAnyway(turn) : 0;
  const others = main + helpers + wanted > 1 || least > 0;
  const next = takes && !given ? await nextHere(turn, others) : [];
  const helpersWanted = await adjustHelpers(turn, least);
  const slow = takes && !given && next.length === 0 ? await slowTests(turn) : NONE_SLOW;
  const made = await storeTurn(turn, next.length > 0 ? next : chooseSlow(turn, slow.tests));
  const group = given ?? made;
  if (group) return { next: "group", group, helpersWanted };
  const kept = run.waiting > 0 ? await keptTests(turn) : null;
  const tries = [slow.next, kept?.until ?? null].filter((each) => each !== null);
  const again = tries.length === 0 ? null : epochMs(Math.min(...tries));
  return { next: "wait", again, running: run.running, kept, helpersWanted };
}

/** `others`: what failed here is for others first. Once there is nothing else, it waits for them while there are any, and no longer. */
async function nextHere(turn: Turn, others: boolean): Promise<GroupTest[]> {
  const next = await chooseNext(turn, others);
  if (next.length > 0 || !others || turn.run.waiting === 0 || (await anotherMay(turn))) return next;
  return chooseNext(turn, false);
}

/** It should run once more, on another machine. */
function goesElsewhere({ result, final }: TestRan): boolean {
  return result === "lost" || (result === "failure" && !final);
}

interface SettledRow extends SettledTest, TimedTest, LeftRunning {
  readonly name: string;
  readonly state: "waiting" | "ended";
  readonly outcome: string | null;
}

interface LostTest extends LeftRunning {
  readonly name: string;
}

/** What a group came to. Nothing, when it was taken from this lease in the meantime. */
async function settle(turn: Turn, done: GroupEnd): Promise<void> {
  const { tx, run, worker, rules, now } = turn;
  const ran = done.tests.map(({ number, result, final, durationMs, shareMs, from, to }) => ({
    number,
    result,
    final,
    duration: stored(durationMs),
    share: stored(shareMs),
    from_byte: from,
    to_byte: to,
  }));
  const elsewhere = done.tests.some(goesElsewhere) && (run.working.wanted > 0 || (await anotherMay(turn)));
  const avoidUntil = elsewhere ? plus(now, rules.elsewhereFirst) : null;
  const numbers = ran.map(({ number }) => number);
  const [settled] = await tx.query<{ ended: boolean; tests: SettledRow[] }>(
    ...statement`with ${logEnded(done.log)}, g as (
       update test_group set state = 'ended', status = ${done.status}, ended_at = ${at(now)} from lease l
       where test_group.id = ${done.group} and lease_id = ${worker.lease} and test_group.state = 'running'
         and l.id = lease_id and l.state = 'held' and l.epoch = ${worker.epoch}
       returning test_group.id, build_id
     ), ran as (
       select g.id as group_id, g.build_id, r.*
       from g, jsonb_to_recordset(${JSON.stringify(ran)}::jsonb) as r (number integer, result text, final boolean, duration integer, share integer, from_byte bigint, to_byte bigint)
     ), t as (
     update test t set
       state = case when ${ONCE_MORE} then 'waiting' else 'ended' end,
       outcome = case when ${ONCE_MORE} then null when r.result = 'failure' then 'failure' when r.result = 'lost' then 'unschedulable'
                      when t.failures > 0 then 'flaky' else r.result end,
       alone = t.alone or r.result in ('again', 'failure', 'lost'),
       failures = t.failures + (r.result = 'failure')::integer,
       losses = t.losses + (r.result = 'lost')::integer,
       avoid = case when r.result in ('failure', 'lost') then ${worker.machine} else t.avoid end,
       avoid_until = case when r.result in ('failure', 'lost') then ${at(avoidUntil)} else t.avoid_until end,
       group_id = r.group_id, duration_ms = r.duration, from_byte = r.from_byte, to_byte = r.to_byte,
       failed_group = case when r.result = 'failure' and t.failures = 0 then r.group_id else t.failed_group end,
       failed_from = case when r.result = 'failure' and t.failures = 0 then r.from_byte else t.failed_from end,
       failed_to = case when r.result = 'failure' and t.failures = 0 then r.to_byte else t.failed_to end
     from ran r
     where t.build_id = ${worker.build} and t.number = any (${numbers}::integer[]) and t.number = r.number and t.state = 'running'
     returning t.number, t.name, t.state, t.outcome, t.expected_ms as "expectedMs", t.duration_ms as "durationMs", r.share as "shareMs",
       r.result = 'success' as passed, r.result = 'lost' as lost, t.failures,
       case when t.failures > 0 then (select m.name from test_group f join machine m on m.id = f.machine_id where f.id = t.failed_group) end as "failedOn",
       case when t.failures > 0 then (select name from machine where id = ${worker.machine}) end as "ranOn"
     ), ${remembered(worker.build, now)}
     select exists (select from g) as ended, coalesce((select jsonb_agg(t order by t.number) from t), '[]') as tests`,
  );
  if (!settled?.ended) return; // by this very turn, whose answer got lost, or taken back
  const rows = settled.tests;
  turn.said.push(...settledLines(done.line, done.tests.length, rows));
  for (const row of rows) run.leave(row);
  for (const { name, outcome } of rows)
    if (outcome === "unschedulable") turn.said.push(unschedulableLine(name, LOSSES));
  for (const { passed, expectedMs, durationMs, shareMs } of rows) {
    const took = durationMs ?? shareMs;
    if (passed && took !== null && expectedMs === null) run.learn(took);
  }
}

/** Of a test `t` that came to `r`. */
const ONCE_MORE = part`(r.result = 'again' or (r.result = 'failure' and t.failures = 0 and not r.final)
  or (r.result = 'lost' and t.losses + 1 < ${LOSSES}))`;

/** As a column takes it. */
function stored(span: number | null): number | null {
  return span === null ? null : Math.min(Math.round(span), 2 ** 31 - 1);
}

/** What the leases that have ended were running is free again, or lost for good, where their machines were at fault. */
async function takeBack({ tx, run, rules, said, now }: Turn): Promise<void> {
  const groups = await tx.query<RunningGroup & { status: string; tests: LostTest[] }>(
    `with g as (
       update test_group set state = 'ended', status = coalesce(l.end_reason, 'its machine was lost'), ended_at = $2
       from lease l left join attempt a on a.lease_id = l.id left join helper h on h.lease_id = l.id
       where test_group.build_id = $1 and test_group.state = 'running' and l.id = test_group.lease_id and l.state = 'ended'
       returning test_group.id, test_group.log_id, test_group.machine_id, test_group.tests, test_group.status,
         coalesce(a.machine_fault, h.machine_fault, false) as fault
     ), logs as (
       update log set ended = true from g where log.id = g.log_id and not log.ended
     ), t as (
     update test t set losses = t.losses + g.fault::integer, alone = t.alone or g.fault,
       avoid = case when g.fault then g.machine_id else t.avoid end,
       avoid_until = case when g.fault then $3 else t.avoid_until end,
       state = case when g.fault and t.losses + 1 >= ${LOSSES} then 'ended' else 'waiting' end,
       outcome = case when g.fault and t.losses + 1 >= ${LOSSES} then 'unschedulable' end
     from g, unnest(g.tests) as n (number)
     where t.build_id = $1 and t.number = n.number and t.state = 'running' and t.group_id = g.id
     returning t.group_id, t.number, t.name, t.state, t.outcome, t.expected_ms as "expectedMs"
     )
     select m.name as machine, cardinality(g.tests) as count, g.status,
       (select name from test where build_id = $1 and number = g.tests[1]) as first,
       coalesce((select jsonb_agg(t order by t.number) from t where t.group_id = g.id), '[]') as tests
     from g join machine m on m.id = g.machine_id order by g.id`,
    [run.build, at(now), at(plus(now, rules.elsewhereFirst))],
  );
  for (const { tests, ...group } of groups) {
    said.push(lostLine(group, group.status));
    for (const test of tests) {
      run.leave(test);
      if (test.outcome !== null) said.push(unschedulableLine(test.name, LOSSES));
    }
  }
}

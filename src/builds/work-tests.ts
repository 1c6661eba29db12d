/**
 * One machine's part in the tests of a build: it takes a group, runs it, stores how it ended, and takes the next one.
 *
 *   working -nothing for it now-> waiting -others settled a test-> working
 *   working, waiting -the last test ended-> over   the verdict was written by the machine that ended that test
 *   working -others ended the last test-> over   what runs here was slow, ran once more elsewhere, and is killed here
 *   waiting -a helper has had nothing for a while-> left   it is given back (idle-time.ts)
 *   working, waiting -the build has used up its time-> out-of-time   nothing more is begun here
 *   working -a group had to be stopped on an original agent, and tests are left-> unfit   it may still run
 *   working, waiting -the lease is not held any more-> lost
 *
 * All machines of a build do the same: the one that made the tree and the helpers, at whichever coordinator each is
 * connected. They meet in the database only (store/test-turn.ts), and tell each other when to look there
 * (tests-news.ts). So nothing waits for a helper, and a build goes on when the machine that began it is gone. The lines
 * that the turns produce are written to the log of the tests in the background, in their order: a machine waits for
 * that log only when it has no group to run.
 */
import type { Recipe, TestsSpec } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, seconds } from "../farm/ids.ts";
import type { LogWriter, SealedLog } from "../logs/writer.ts";
import type { BuildRef } from "../store/builds.ts";
import type { Sql } from "../store/sql.ts";
import { heldGroup, storeReportsRemoved, type TestGroup } from "../store/test-groups.ts";
import { shown } from "../store/test-lines.ts";
import type { TestCounts, TestWorker, TurnRules } from "../store/test-run.ts";
import { type GroupEnd, type TurnResult, testTurn } from "../store/test-turn.ts";
import { BackgroundWork } from "./background-work.ts";
import { type BuildLimit, limitsOf, timeLeft } from "./command-limits.ts";
import { IdleTime, type NothingNow, waitLimit, waitText } from "./idle-time.ts";
import type { BuildMachine } from "./machine.ts";
import { publishTestsOver } from "./publish.ts";
import { type GroupRun, runGroup } from "./test-group.ts";
import { TestsNews } from "./tests-news.ts";
import type { Turns } from "./turns.ts";

/** How long a failed test waits for another machine before it may run once more on the same. */
const ELSEWHERE_FIRST: Ms = seconds(60);
const MOST_TESTS = 1000;
/** How many bytes of names one command is given: cmd.exe takes 8 KiB, Windows 32 KiB, and a file has no limit. */
const ARGS_BYTES = 24_000;
const CMD_BYTES = 6_000;
const FILE_BYTES = 4 * 1024 * 1024;

export interface TestsDeps {
  readonly clock: Clock;
  readonly sql: Sql;
  readonly bus: Bus;
  /** Opens the log of a group. `begun`: the machine had the group before, so its log may have something already. */
  readonly open: (group: TestGroup, begun: boolean) => GroupLog;
  /** Makes a secret of 32 random hex digits. */
  readonly nonce: () => string;
  /** Repeats the call until the database answers. */
  readonly patiently: <T>(call: () => Promise<T>) => Promise<T>;
  readonly turns: Turns;
  readonly elsewhereFirst?: Ms;
}

export interface GroupLog {
  readonly writer: LogWriter;
  /** What the log of a group that was begun before has already. */
  readonly before: AsyncIterable<Buffer> | undefined;
}

export interface TestsJob {
  readonly build: BuildRef;
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly worker: TestWorker;
  readonly machine: BuildMachine;
  /** When the commands of the build must be over. */
  readonly limit: BuildLimit;
  readonly role: "main" | "helper";
  /** How many more machines the build may have. */
  readonly helpers: number;
  /** Writes the new lines of all turns (store/test-lines.ts) to the log of the tests. A helper's does nothing. */
  readonly tell: () => Promise<void>;
  /** Writes to the same log what this machine waits for. A helper's does nothing. */
  readonly say: (line: string) => Promise<void>;
}

export type Worked =
  | { readonly why: "over"; readonly counts: TestCounts; readonly unattended: boolean }
  /**
   * `lost`: the lease is not held any more. `out-of-time`: the build has used up its time. `unfit`: tests are left, and
   * this machine may run no more of them.
   */
  | { readonly why: "left" | "lost" | "unfit" | "out-of-time" };

/** The group that this machine runs next. `begun`: the machine had it before, so it may be running already. */
interface NextGroup {
  readonly group: TestGroup;
  readonly begun: boolean;
}

/** What a machine has as long as it works. */
interface Work {
  readonly deps: TestsDeps;
  readonly job: TestsJob;
  readonly news: TestsNews;
  readonly telling: BackgroundWork;
  readonly idle: IdleTime;
  readonly signal: AbortSignal;
}

/** Works until nothing is left for this machine. Rejects when the machine, the database or `signal` ends first. */
export async function workOff(deps: TestsDeps, job: TestsJob, signal: AbortSignal): Promise<Worked> {
  const { clock, sql, patiently } = deps;
  using news = new TestsNews(deps, job.build.id);
  const held = await patiently(() => heldGroup(sql, job.worker));
  let next: NextGroup | undefined = held && { group: held, begun: true };
  await using telling = new BackgroundWork(job.tell);
  telling.ask();
  const idle = new IdleTime(clock);
  const work = { deps, job, news, telling, idle, signal };
  for (;;) {
    const ran = next && (await runUnlessOver(work, next));
    const ended = ran === "killed" ? undefined : ran;
    const stopped = ran === "killed" || ran?.stopped === true;
    const fit = !stopped || job.machine.agent === "barnraiser"; // on an original, what was stopped may still run
    news.forget(); // before the turn: it may not see what others do meanwhile
    const late = timeLeft(clock, job.limit) === 0;
    const turn = await takeTurn(deps, job, ended, rulesOf(deps, job, fit, late));
    telling.ask();
    if (turn.next !== "group") await telling.done();
    if (turn.next === "over") return { why: "over", counts: turn.counts, unattended: turn.unattended };
    if (turn.next === "lost") return { why: "lost" };
    if (late) return { why: "out-of-time" };
    if (!fit) return { why: "unfit" };
    if (turn.next === "group") {
      idle.end();
      next = { group: turn.group, begun: false };
      continue;
    }
    next = undefined;
    if ((await waitForNews(work, turn)) === "left") return { why: "left" };
  }
}

interface Ended {
  readonly end: GroupEnd;
  /** A limit ended the command. */
  readonly stopped: boolean;
  readonly log: SealedLog;
}

/** Runs the group to its end. "killed": others ended the last test of the build first. */
async function runUnlessOver({ deps, job, news, telling, signal }: Work, next: NextGroup): Promise<Ended | "killed"> {
  try {
    return await runHeldGroup(deps, job, next, AbortSignal.any([signal, news.over, telling.failed]));
  } catch (error) {
    if (error === news.over.reason && !signal.aborted) return "killed";
    throw error;
  }
}

async function runHeldGroup(
  deps: TestsDeps,
  job: TestsJob,
  { group, begun }: NextGroup,
  signal: AbortSignal,
): Promise<Ended> {
  const { clock, sql, patiently } = deps;
  const { recipe, spec, machine } = job;
  const { writer, before } = deps.open(group, begun);
  const limits = limitsOf(recipe, spec.run, job.limit);
  const removed = async (all: boolean): Promise<void> => {
    if (await patiently(() => storeReportsRemoved(sql, group, all))) return;
    throw new FarmError("lease-lost", `group ${group.id} was taken back`);
  };
  let run: GroupRun;
  try {
    run = await runGroup(clock, { recipe, spec, group, machine, writer, before, limits, removed }, signal);
  } catch (error) {
    // The coordinator that takes the group up finds what was stored; the machine has the rest.
    await writer.leave().catch(() => {});
    throw error;
  }
  const log = await writer.seal();
  const what = group.tests.length === 1 ? shown(group.tests[0]?.name ?? "") : `${group.tests.length} tests`;
  const took = durationText(run.durationMs);
  const unnamed = run.unnamed === undefined ? "" : `, ${run.unnamed}`;
  const line = `${machine.name}: ${what}: ${run.status} after ${took}${unnamed}`;
  const end = { group: group.id, status: run.status, line, log: log.end, tests: run.tests };
  return { end, stopped: run.stopped, log };
}

/** Stores how the last group `ended`, is given the next one, and tells the others. */
async function takeTurn(
  deps: TestsDeps,
  job: TestsJob,
  ended: Ended | undefined,
  rules: TurnRules,
): Promise<TurnResult> {
  const { clock, sql, patiently, turns } = deps;
  const { worker } = job;
  const take = () => testTurn(sql, worker, ended?.end, rules, clock.now());
  const turn = await patiently(() => turns.take(worker.build, take));
  // A machine that lost its lease lost the group too: its log is written by others, or has ended.
  if (turn.next !== "lost") ended?.log.stored();
  publish(deps, job, turn, ended !== undefined);
  return turn;
}

/** Waits for news of the tests, and says so when that takes long. "left": a helper that is given back instead. */
async function waitForNews({ deps, job, news, idle, signal }: Work, turn: NothingNow): Promise<"left" | undefined> {
  const { clock } = deps;
  const { role, machine } = job;
  const long = idle.dueToTell();
  if (long !== undefined) await job.say(`waiting ${waitText(turn, clock.now())}, ${durationText(long)} so far\n`);
  const times = { idle: idle.soFar(), again: turn.again, timeLeft: timeLeft(clock, job.limit) };
  const limit = waitLimit(role, times, clock.now());
  if (limit === undefined) return "left";
  await news.wait(limit, AbortSignal.any([signal, machine.gone]));
  return undefined;
}

/** `fit`: this machine may run more. `late`: the build has used up its time, so no machine begins anything more. */
function rulesOf(
  { nonce, elsewhereFirst = ELSEWHERE_FIRST }: TestsDeps,
  { spec, helpers }: TestsJob,
  fit: boolean,
  late: boolean,
): TurnRules {
  const argsBytes = spec.run.command[0] === "cmd" ? CMD_BYTES : ARGS_BYTES;
  return {
    spec,
    mostTests: MOST_TESTS,
    mostBytes: spec.names === "file" ? FILE_BYTES : argsBytes,
    helpers: late ? 0 : helpers,
    elsewhereFirst,
    nonce: nonce(),
    takes: fit && !late,
  };
}

function publish({ bus }: TestsDeps, { build }: TestsJob, turn: TurnResult, settled: boolean): void {
  if (turn.next === "lost") return;
  if (settled || turn.next !== "wait") bus.publish(`build:${build.id}`);
  if (settled) bus.publish(`tests:${build.id}`);
  if (turn.next === "over") {
    publishTestsOver(bus, build.id);
    bus.publish(`grid:${build.repo}`);
  }
  if (turn.next !== "over" && turn.helpersWanted) bus.publish(`queue:${build.hostType}`);
}

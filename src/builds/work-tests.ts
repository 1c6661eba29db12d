/**
 * One machine's part in the tests of a build: it takes a group, runs it, says how it went, and takes the next.
 *
 *   working -nothing for it now-> waiting -others settled something-> working
 *   working, waiting -the last test ended-> over, with the verdict written by whoever ended it
 *   working -others ended the last test-> over   what it runs had been slow, was run once more elsewhere, and is killed here
 *   waiting -a helper has had nothing for HELPER_IDLE_FOR-> left: it is given back
 *   working, waiting -the build has used up its time-> out-of-time   nothing more is begun here
 *   working -it had to be stopped, and is not ours-> unfit: what it still does nobody knows
 *
 * Every machine of a build does this alike, the one that made the tree and the helpers, at whichever coordinator each is connected; they
 * meet in the database only (store/test-turn.ts), and tell each other to look there (topic `tests:BUILD`). So nothing waits for a
 * helper, and a build goes on when the machine that began it is gone. What the turns said comes into the log of the tests beside all this, in
 * their order: a machine does not wait for the log, only its end does.
 */
import type { Recipe, TestsSpec } from "../farm/build.ts";
import { type Clock, ENOUGH } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, ms, seconds } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";
import type { BuildRef } from "../store/builds.ts";
import type { Sql } from "../store/sql.ts";
import { heldGroup, storeReportsRemoved, type TestGroup } from "../store/test-groups.ts";
import { shown } from "../store/test-lines.ts";
import type { TestCounts, TestWorker, TurnRules } from "../store/test-run.ts";
import { type GroupEnd, type TurnResult, testTurn } from "../store/test-turn.ts";
import { Beside } from "./beside.ts";
import { type BuildLimit, limitsOf, timeLeft } from "./command-limits.ts";
import type { BuildMachine } from "./machine.ts";
import { publishTestsOver, TESTS_OVER } from "./publish.ts";
import { LONG_WAIT } from "./said-wait.ts";
import { type GroupRun, runGroup } from "./test-group.ts";
import type { Turns } from "./turns.ts";

/** A helper that finds nothing to do stays so long for what may come back, as long again for what is going to, and then helps somebody else. */
export const HELPER_IDLE_FOR: Ms = seconds(5);
/** A word from others may get lost. */
export const LOOK_AGAIN: Ms = seconds(5);
/** How long a failed test waits for another machine before it runs once more on the same. */
export const ELSEWHERE_FIRST: Ms = seconds(60);
const MOST_TESTS = 1000;
/** Bytes of names that one command is given: cmd.exe takes 8 KiB, Windows 32, a file what one likes. */
const ARGS_BYTES = 24_000;
const CMD_BYTES = 6_000;
const FILE_BYTES = 4 * 1024 * 1024;

export interface TestsDeps {
  readonly clock: Clock;
  readonly sql: Sql;
  readonly bus: Bus;
  /** The log of a group: its writer, and what others have written to it. */
  readonly open: (group: TestGroup, begun: boolean) => GroupLog;
  /** 32 hex digits that nobody guesses. */
  readonly nonce: () => string;
  /** Calls until the database is there. */
  readonly patiently: <T>(call: () => Promise<T>) => Promise<T>;
  readonly turns: Turns;
  readonly elsewhereFirst?: Ms;
}

export interface GroupLog {
  readonly writer: LogWriter;
  readonly before: AsyncIterable<Buffer> | undefined;
}

export interface TestsJob {
  readonly build: BuildRef;
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly worker: TestWorker;
  readonly machine: BuildMachine;
  /** Of the build. */
  readonly limit: BuildLimit;
  readonly role: "main" | "helper";
  /** How many further machines the build may have. */
  readonly helpers: number;
  /** Brings what the turns of all machines said since (store/test-lines.ts) into the log of the tests; nothing for a helper. */
  readonly tell: () => Promise<void>;
  /** Says in that log what this machine waits for. */
  readonly say: (line: string) => Promise<void>;
}

export type Worked =
  | { readonly why: "over"; readonly counts: TestCounts; readonly unattended: boolean }
  /** `out-of-time`: the build has used up its time. */
  | { readonly why: "left" | "lost" | "unfit" | "out-of-time" };

/** Works until there is nothing more for this machine. Rejects when the machine, the database or `signal` ends first. */
export async function workOff(deps: TestsDeps, job: TestsJob, signal: AbortSignal): Promise<Worked> {
  const { clock, sql, patiently, turns } = deps;
  const { build } = job.worker;
  const over = new AbortController();
  using _ = { [Symbol.dispose]: () => over.abort(ENOUGH) };
  const news = new News(deps, job.build.id, over.signal);
  const ends = endOf(deps, job.build.id, over.signal);
  let held = await patiently(() => heldGroup(sql, job.worker));
  let begun = held !== undefined;
  let takes = true;
  const idle = new Idle(clock);
  await using telling = new Beside(job.tell);
  telling.ask();
  for (;;) {
    let ended: Ended | undefined;
    try {
      ended = held && (await group(deps, job, held, begun, AbortSignal.any([signal, ends, telling.failed])));
    } catch (error) {
      if (error !== ends.reason || signal.aborted) throw error;
      if (job.machine.agent === "original") return { why: "unfit" };
    }
    begun = false;
    if (ended?.stopped && job.machine.agent === "original") takes = false;
    news.heard = false;
    const late = timeLeft(clock, job.limit) === 0;
    const rules = rulesOf(deps, job, takes, late);
    const takeTurn = () => testTurn(sql, job.worker, ended?.end, rules, clock.now());
    const turn = await patiently(() => turns.take(build, takeTurn));
    await ended?.stored(turn);
    publish(deps, job, turn, ended !== undefined);
    telling.ask();
    if (turn.next !== "group") await telling.done();
    if (turn.next === "over") return { why: "over", counts: turn.counts, unattended: turn.unattended };
    if (turn.next === "lost") return { why: "lost" };
    if (!takes) return { why: "unfit" };
    if (turn.next === "wait" && late) return { why: "out-of-time" };
    held = turn.next === "group" ? turn.group : undefined;
    if (turn.next === "group") {
      idle.end();
      continue;
    }
    const waited = idle.forLong();
    if (waited !== undefined) {
      await job.say(`waiting ${waitText(turn, clock.now())}, ${durationText(waited)} so far\n`);
    }
    const linger = HELPER_IDLE_FOR - idle.since();
    const soon = turn.again !== null && turn.again - clock.now() <= HELPER_IDLE_FOR;
    if (job.role === "helper" && linger <= 0 && !soon) return { why: "left" };
    const limit = Math.min(
      LOOK_AGAIN,
      timeLeft(clock, job.limit),
      ...(job.role === "helper" && linger > 0 ? [linger] : []),
    );
    await news.wait(limited(limit, turn.again, clock.now()), AbortSignal.any([signal, job.machine.gone]));
  }
}

/** What a machine waits for that has nothing to do. */
export function waitText(
  { running, kept }: Pick<Extract<TurnResult, { next: "wait" }>, "running" | "kept">,
  now: EpochMs,
): string {
  const others = running > 0 ? [`for ${running} ${running === 1 ? "test" : "tests"} on other machines`] : [];
  // Nothing runs and nothing is kept for others: what waits is slow, or was stopped here.
  if (kept === null) return others[0] ?? "for other machines";
  const more = kept.count > 1 ? ` and ${kept.count - 1} more` : "";
  const most = durationText(ms(Math.max(0, kept.until - now)));
  return [...others, `up to ${most} for another machine to run "${shown(kept.name)}"${more} once more`].join(", and ");
}

/** How long a machine has had nothing to do. */
class Idle {
  readonly #clock: Clock;
  #began: number | undefined;
  #due: Ms = LONG_WAIT;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  since(): Ms {
    this.#began ??= this.#clock.monotonic();
    return ms(this.#clock.monotonic() - this.#began);
  }

  /** When it is time to tell of it: how long. */
  forLong(): Ms | undefined {
    const since = this.since();
    if (since < this.#due) return undefined;
    this.#due = ms(this.#due * 2);
    return since;
  }

  end(): void {
    this.#began = undefined;
    this.#due = LONG_WAIT;
  }
}

function limited(limit: number, again: EpochMs | null, now: EpochMs): Ms {
  return ms(Math.max(1, again === null ? limit : Math.min(limit, again - now)));
}

/** `late`: the build has used up its time, so that nobody begins anything more. */
function rulesOf(
  { nonce, elsewhereFirst = ELSEWHERE_FIRST }: TestsDeps,
  { spec, helpers }: TestsJob,
  takes: boolean,
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
    takes: takes && !late,
  };
}

interface Ended {
  readonly end: GroupEnd;
  readonly stopped: boolean;
  /** To be called after the turn that stored it. */
  readonly stored: (turn: TurnResult) => Promise<void>;
}

async function group(
  deps: TestsDeps,
  job: TestsJob,
  held: TestGroup,
  begun: boolean,
  signal: AbortSignal,
): Promise<Ended> {
  const { clock, sql, patiently } = deps;
  const { recipe, spec, machine } = job;
  const { writer, before } = deps.open(held, begun);
  const limits = limitsOf(recipe, spec.run, job.limit);
  const removed = async (all: boolean): Promise<void> => {
    if (await patiently(() => storeReportsRemoved(sql, held, all))) return;
    throw new FarmError("lease-lost", `group ${held.id} was taken back`);
  };
  let run: GroupRun;
  try {
    run = await runGroup(clock, { recipe, spec, group: held, machine, writer, before, limits, removed }, signal);
  } catch (error) {
    await writer.leave().catch(() => {}); // whoever takes the group up finds what was stored, the machine has the rest
    throw error;
  }
  const sealed = await writer.seal();
  const what = held.tests.length === 1 ? shown(held.tests[0]?.name ?? "") : `${held.tests.length} tests`;
  const took = durationText(run.durationMs);
  return {
    end: {
      group: held.id,
      status: run.status,
      line: `${machine.name}: ${what}: ${run.status} after ${took}${run.unnamed === undefined ? "" : `, ${run.unnamed}`}`,
      log: sealed.end,
      tests: run.tests,
    },
    stopped: run.stopped,
    stored: async (turn) => {
      // Others have the group by now: its log is theirs, or ended.
      if (turn.next !== "lost") sealed.stored();
    },
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

/** Aborts when somebody says that the tests of the build are over; a word that gets lost is replaced by the lease being lost. */
function endOf({ bus }: TestsDeps, build: BuildRef["id"], signal: AbortSignal): AbortSignal {
  const ended = new AbortController();
  const listener = (heard: string): void => {
    if (heard === `${TESTS_OVER}${build}`) ended.abort(new FarmError("canceled", "others have ended the tests"));
  };
  bus.subscribe(TESTS_OVER, listener, signal);
  return ended.signal;
}

/** Whether somebody said that the tests of a build have changed. */
class News {
  readonly #clock: Clock;
  heard = false;
  #wake: () => void = () => {};

  constructor({ clock, bus }: TestsDeps, build: BuildRef["id"], signal: AbortSignal) {
    this.#clock = clock;
    const topic = `tests:${build}`;
    const listener = (heard: string): void => {
      if (heard !== topic && heard !== "tests:") return;
      this.heard = true;
      this.#wake();
    };
    bus.subscribe("tests:", listener, signal);
  }

  /** Until there is news or `limit` has passed; rejects with the reason of `signal`. */
  async wait(limit: Ms, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.heard) return;
    const done = new AbortController();
    const heard = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    try {
      await Promise.race([heard, this.#clock.sleep(limit, AbortSignal.any([signal, done.signal]))]);
    } finally {
      done.abort(ENOUGH);
      this.#wake = () => {};
    }
  }
}

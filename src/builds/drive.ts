/**
 * Driving one machine through one attempt: clean, write the tree, run the steps in order.
 *
 * What is asked of the machine, in this order and nothing else:
 *
 *   removeall .           first, always: whatever was there before
 *   writetgz SOURCE-DIR   step 0, `source`: the tarball of the commit, and what else the recipe wants (sources.ts);
 *                         or `snapshot`: the tree that an earlier attempt made; the tests come next (source-step.ts)
 *   exec ...              one per step, with its output to the step's log as it comes; stops at the first that fails
 *
 * A step fails (`failure`) when its command ended with anything but "ok", ran or was silent for longer than its limit,
 * or used up the time that its build has for its commands.
 *
 * Everything else that goes wrong is the farm's (`infra_failure`), and its reason says what it was. So it is when
 * step 0, in which nothing of the commit runs, uses up the farm's part of that time (store/build-time.ts). This speaks
 * against the machine only if it was the machine that step 0 waited for.
 *
 * A step is ended in the database before the next one begins. An attempt that was driven before begins with the step at
 * which the database stands. Step 0 then begins again. A command is asked for by its name and the length of its log
 * (command-run.ts): it starts if it never did, and is taken up otherwise.
 *
 * When the machine's connection or the coordinator goes away and the machine resumes, driving ends as `parked`. The
 * command may still run, and the coordinator that the machine reaches next goes on. Nothing is added to the log, since
 * its length must stay that of the command's output; the page of the build says what happened.
 */
import type { Outcome, Step } from "../farm/build.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { within } from "../farm/within.ts";
import type { LogWriter, SealedLog } from "../logs/writer.ts";
import type { Begun } from "../store/attempts.ts";
import type { LogEnd, OpenLog } from "../store/logs.ts";
import { isMachineFine, isOwnRestart, mayGoOn } from "./broken-off.ts";
import { commandOf } from "./command.ts";
import { type BuildLimit, buildLimit, limitsOf, timeLeft } from "./command-limits.ts";
import { type CommandRan, runCommand } from "./command-run.ts";
import type { BuildMachine } from "./machine.ts";
import { runSourceStep, type SourceDeps, type SourceWait } from "./source-step.ts";
import { otherIsMade } from "./sources.ts";
import { TESTS_STEP, type TestsEnd } from "./tests-step.ts";

export interface DriveDeps extends SourceDeps {
  readonly writer: (log: OpenLog) => LogWriter;
  /** Runs the tests of the recipe; see tests-step.ts. */
  readonly tests: (at: UnderWay, signal: AbortSignal) => Promise<TestsEnd>;
  /** Stores that step `number` ended well, and the end of its log. Returns the next step's log. Throws `lease-lost`. */
  readonly next: (number: number, status: string, log: LogEnd) => Promise<OpenLog>;
}

/** How an attempt went. */
export interface Finished {
  readonly outcome: Exclude<Outcome, "canceled" | "skipped">;
  readonly step: { readonly number: number; readonly name: string; readonly status: string };
  /** The reason of the outcome; null: the outcome says enough. */
  readonly reason: string | null;
  /** The last bytes of the last log, still to be stored. */
  readonly sealed: SealedLog | undefined;
  /** The verdict is in the database: it was written with the end of the last test. */
  readonly settled?: true;
  /** The machine may be used again after it was cleaned. */
  readonly machineFine: boolean;
  /** The budget of tries is not charged: our own restart ended the attempt, or its machine was unfit for more tests. */
  readonly uncharged?: true;
}

/** The attempt is not over: its machine may come back with what it runs. */
export interface Parked {
  readonly outcome: "parked";
  readonly reason: string;
}

/** An attempt on its machine. */
interface Driving {
  readonly deps: DriveDeps;
  readonly begun: Begun;
  readonly machine: BuildMachine;
  readonly signal: AbortSignal;
}

/** The step that is under way. */
export interface UnderWay {
  readonly number: number;
  readonly name: string;
  readonly log: OpenLog;
  readonly writer: LogWriter;
  /** The limit of the farm's part of the build in step 0, and of all its commands after that. */
  readonly limit: BuildLimit;
}

/**
 * Runs what `begun` asks for, from where it stands. Never throws: when `signal` aborts (canceled, lease lost,
 * coordinator stops) or the machine goes away, the attempt ends as infra_failure or is parked.
 */
export async function drive(
  deps: DriveDeps,
  begun: Begun,
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<Finished | Parked> {
  const { steps, tests } = begun.recipe;
  const driving: Driving = { deps, begun, machine, signal };
  let limit = buildLimit(deps.clock, begun.recipe, begun.commandsFrom ?? begun.sourceFrom);
  let log = begun.log;
  let status = "ok";
  for (let number = begun.at; log !== undefined; number++) {
    const step = steps[number - 1];
    const isTests = number > steps.length;
    const name = isTests ? TESTS_STEP : (step?.name ?? "source");
    const writer = deps.writer(log);
    const at: UnderWay = { number, name, log, writer, limit };
    let last = number;
    try {
      if (isTests) return await runTestsStep(driving, at);
      if (step === undefined) {
        status = "ok";
        // With the tree of a snapshot, the steps that would make it have nothing to do, and no rows.
        if ((await sourceInTime(driving, at)) === "snapshot") last = steps.length;
      } else {
        const end = await runStep(driving, at, step);
        status = end.state;
        if (!end.ok) {
          const sealed = await writer.seal();
          const machineFine = !end.stopped || machine.agent === "barnraiser";
          return { outcome: "failure", step: { number, name, status }, reason: status, sealed, machineFine };
        }
      }
      const sealed = await writer.seal();
      if (last === steps.length && tests === undefined) return success(begun, status, sealed);
      log = await deps.next(number, status, sealed.end);
      sealed.stored();
      if (step === undefined) limit = buildLimit(deps.clock, begun.recipe, deps.clock.now());
      number = last;
    } catch (error) {
      return mayGoOn(machine, signal) ? await park(driving, at, error) : await infraFailure(driving, at, error);
    }
  }
  return success(begun, status, undefined);
}

function success({ recipe }: Begun, status: string, sealed: SealedLog | undefined): Finished {
  const name = recipe.steps.at(-1)?.name ?? "source";
  const step = { number: recipe.steps.length, name, status };
  return { outcome: "success", step, reason: null, sealed, machineFine: true };
}

/** Runs step 0, for as long as the farm has for what is not the build's own. */
async function sourceInTime(
  { deps, begun, machine, signal }: Driving,
  { writer, limit }: UnderWay,
): Promise<"source" | "snapshot"> {
  const { clock } = deps;
  let wait: SourceWait = { what: "the database", isForMachine: () => false };
  const waits = (next: SourceWait): void => {
    wait = next;
  };
  const late = (): FarmError =>
    new FarmError(wait.isForMachine() ? "timed-out" : "unavailable", `out of time: it waited for ${wait.what}`);
  return await within(clock, timeLeft(clock, limit), [signal], late, (limited) =>
    runSourceStep(deps, begun, machine, writer, waits, limited),
  );
}

async function runTestsStep({ deps, signal }: Driving, at: UnderWay): Promise<Finished> {
  const tests = await deps.tests(at, signal);
  const sealed = await at.writer.seal();
  const { status } = tests;
  const step = { number: at.number, name: TESTS_STEP, status };
  switch (tests.end) {
    case "settled": {
      const outcome = tests.counts.failed === 0 ? "success" : "failure";
      return { outcome, step, reason: null, sealed, machineFine: true, settled: true };
    }
    case "failed":
      return { outcome: "failure", step, reason: status, sealed, machineFine: true };
    case "unfit":
      return { outcome: "infra_failure", step, reason: status, sealed, machineFine: false, uncharged: true };
  }
}

/** Runs the step, or goes on with it where its command was started before. */
async function runStep(
  { deps, begun, machine, signal }: Driving,
  { number, writer, limit }: UnderWay,
  step: Step,
): Promise<Pick<CommandRan, "state" | "ok" | "stopped">> {
  const { recipe, attempt } = begun;
  const either = AbortSignal.any([machine.gone, signal]);
  if (step.makesOther && recipe.with?.builtBy !== undefined && (await otherIsMade(deps.clock, machine, either))) {
    await writer.write(Buffer.from(`Not needed: ${recipe.with.repo} was written as it is after this.\n`));
    return { ok: true, state: "ok", stopped: false };
  }
  const run = {
    machine,
    command: await commandOf(recipe, step, machine.client, either),
    id: `a${attempt}.${number}`,
    from: writer.next,
    writer,
    limits: limitsOf(recipe, step, limit),
    what: `step "${step.name}"`,
  };
  return await runCommand(deps.clock, run, signal);
}

async function park({ machine }: Driving, { writer }: UnderWay, error: unknown): Promise<Parked> {
  await writer.leave().catch(() => {}); // the machine still has what is not stored
  return { outcome: "parked", reason: reasonOf(error, machine) };
}

/** Says in the log what happened, if the log still takes it, and decides what that means for the machine. */
async function infraFailure(
  { machine, signal }: Driving,
  { number, name, writer }: UnderWay,
  error: unknown,
): Promise<Finished> {
  const reason = reasonOf(error, machine);
  let sealed: SealedLog | undefined;
  try {
    await writer.write(Buffer.from(`\nbarnraiser: ${reason}\n`));
    sealed = await writer.seal();
  } catch {
    // The log was ended with the attempt, or the database is away: then only the reason of the attempt says it.
  }
  return {
    outcome: "infra_failure",
    step: { number, name, status: reason },
    reason,
    sealed,
    machineFine: isMachineFine(machine, signal, error),
    ...(isOwnRestart(signal, error) && { uncharged: true }),
  };
}

function reasonOf(error: unknown, machine: BuildMachine): string {
  if (machine.gone.aborted) return `machine gone: ${messageOf(machine.gone.reason)}`;
  const message = messageOf(error);
  if (!(error instanceof FarmError)) return `the coordinator failed: ${message}`;
  if (error.code === "machine-gone") return `machine gone: ${message}`;
  if (error.code === "machine-broken") return `machine broken: ${message}`;
  return message;
}

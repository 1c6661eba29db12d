/**
 * Driving one machine through one attempt: clean, write the tree, run the steps in order.
 *
 * What is asked of the machine, in this order and nothing else:
 *
 *   removeall .                 first, always: whatever was there before
 *   writetgz SOURCE-DIR         step 0, `source`, with the tarball of the commit, and what else the recipe wants (sources.ts); or
 *                               `snapshot`, with the tree that an earlier attempt made: then the tests come next (source-step.ts)
 *   exec ...                    one per step, output to the step's log as it comes; stops at the first that fails
 *
 * A step fails (`failure`) when its command ran and did not end with "ok", ran or was silent for longer than its limit, or used up the time that
 * its build has for its commands. Everything else that goes wrong is the farm's (`infra_failure`) and says what it was; so is step 0, in which
 * nothing of the commit runs, when the farm's part of that time is used up (store/build-time.ts), which speaks against the machine if it was what
 * was waited for. A step is ended in the database before the next one begins.
 *
 * Going on: an attempt that was driven before begins with the step at which the database stands. Step 0 then begins anew; a command is
 * asked for by its name and the length of its log (command-run.ts), so it starts if it never did and is taken up otherwise. When the
 * machine's connection or the coordinator goes away and the machine resumes, driving ends as `parked`: the command may still run, and
 * whoever the machine reaches next goes on. Its log is left as it is, to the byte, so nothing is said there; the build's page says it.
 */
import type { Outcome, Step } from "../farm/build.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { within } from "../farm/within.ts";
import type { LogWriter, SealedLog } from "../logs/writer.ts";
import type { Begun } from "../store/attempts.ts";
import type { LogEnd, OpenLog } from "../store/logs.ts";
import { commandOf } from "./command.ts";
import { type BuildLimit, buildLimit, limitsOf, timeLeft } from "./command-limits.ts";
import { type CommandRan, runCommand } from "./command-run.ts";
import { type BuildMachine, isAgainstMachine } from "./machine.ts";
import { runSourceStep, type SourceDeps, type SourceWait } from "./source-step.ts";
import { otherIsMade } from "./sources.ts";
import { TESTS_STEP, type TestsEnd } from "./tests-step.ts";

export interface DriveDeps extends SourceDeps {
  readonly writer: (log: OpenLog) => LogWriter;
  /** Runs the tests of the recipe; see tests-step.ts. */
  readonly tests: (at: UnderWay, signal: AbortSignal) => Promise<TestsEnd>;
  /** Step `number` ended well: stores that with the end of its log and returns the log of the next. Throws `lease-lost`. */
  readonly next: (number: number, status: string, log: LogEnd) => Promise<OpenLog>;
}

/** How an attempt went. `sealed` are the last bytes of the last log, still to be stored. */
export interface Finished {
  readonly outcome: Exclude<Outcome, "canceled" | "skipped">;
  readonly step: { readonly number: number; readonly name: string; readonly status: string };
  /** Why, when the outcome does not say. */
  readonly reason: string | null;
  readonly sealed: SealedLog | undefined;
  /** The verdict is in the database: whoever ended the last test has written it. */
  readonly settled?: true;
  /** The machine may be used again after it was cleaned. */
  readonly machineFine: boolean;
  /** The farm's own restart ended it: not charged to the budget. */
  readonly ownRestart?: true;
}

/** Not over: the machine may come back with what it runs. */
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
  /** Of the farm's part of its build in step 0, then of all commands. */
  readonly limit: BuildLimit;
}

/**
 * Runs what `begun` asks for, from where it stands.
 * Never throws: `signal` (canceled, lease lost, coordinator stops) and a machine that goes away end it as infra_failure or parked.
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
        // On a made tree the steps that make it have nothing to do, and no rows.
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
      return mayGoOn(driving) ? await park(driving, at, error) : await infraFailure(driving, at, error);
    }
  }
  return success(begun, status, undefined);
}

function success({ recipe }: Begun, status: string, sealed: SealedLog | undefined): Finished {
  const name = recipe.steps.at(-1)?.name ?? "source";
  const step = { number: recipe.steps.length, name, status };
  return { outcome: "success", step, reason: null, sealed, machineFine: true };
}

/** Step 0, for as long as the farm has for what is not the build's own. */
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
  const end = await deps.tests(at, signal);
  const sealed = await at.writer.seal();
  const step = { number: at.number, name: TESTS_STEP, status: end.status };
  const outcome = end.settled && end.counts.failed === 0 ? "success" : "failure";
  const reason = end.settled ? null : end.status;
  return { outcome, step, reason, sealed, machineFine: true, ...(end.settled && { settled: true }) };
}

/** Runs the step, or takes it up. */
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

/** Whether what the machine runs can be taken up later: it went away, or we do. */
function mayGoOn({ machine, signal }: Driving): boolean {
  if (!machine.resumes) return false;
  if (signal.aborted) return signal.reason instanceof FarmError && signal.reason.code === "unavailable";
  return machine.gone.aborted;
}

async function park({ machine }: Driving, { writer }: UnderWay, error: unknown): Promise<Parked> {
  await writer.leave().catch(() => {}); // what is not stored, the machine still has
  return { outcome: "parked", reason: reasonOf(error, machine) };
}

/** Says in the log what happened, when it still can, and what it means for the machine. */
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
    // The log was ended with the attempt, or the database is away: the attempt's reason says it.
  }
  const ours = signal.aborted || !isAgainstMachine(error);
  const machineFine = ours && !machine.gone.aborted && (!signal.aborted || machine.agent === "barnraiser");
  // Ours, which stops, or that of another coordinator, over which the machine was connected.
  const stops = signal.aborted && signal.reason instanceof FarmError && signal.reason.code === "unavailable";
  const carrierGone = !signal.aborted && error instanceof FarmError && error.code === "carrier-gone";
  const ended = { step: { number, name, status: reason }, reason, sealed, machineFine };
  return { outcome: "infra_failure", ...ended, ...((stops || carrierGone) && { ownRestart: true }) };
}

function reasonOf(error: unknown, machine: BuildMachine): string {
  if (machine.gone.aborted) return `machine gone: ${messageOf(machine.gone.reason)}`;
  const message = messageOf(error);
  if (!(error instanceof FarmError)) return `the coordinator failed: ${message}`;
  if (error.code === "machine-gone") return `machine gone: ${message}`;
  if (error.code === "machine-broken") return `machine broken: ${message}`;
  return message;
}

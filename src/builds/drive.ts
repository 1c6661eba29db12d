/**
 * Driving one machine through one attempt: clean, write the tree, run the steps in order.
 *
 * What is asked of the machine, in this order and nothing else:
 *
 *   removeall .                 first, always: whatever was there before
 *   writetgz SOURCE-DIR         step 0, `source`, with the tarball of the commit, and what else the recipe wants (sources.ts)
 *   exec ...                    one per step, output to the step's log as it comes; stops at the first that fails
 *
 * A step fails (`failure`) when its command ran and did not end with "ok", or ran or was silent for longer than its limit. Everything else that goes wrong
 * is the farm's (`infra_failure`) and says what it was. A step is ended in the database before the next one begins.
 */
import type { Readable } from "node:stream";
import type { Outcome, Step } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type LogId, type Ms, minutes, ms } from "../farm/ids.ts";
import type { LogWriter, SealedLog } from "../logs/writer.ts";
import type { Begun } from "../store/attempts.ts";
import type { LogEnd } from "../store/logs.ts";
import { commandOf } from "./command.ts";
import { type CommandRan, runCommand } from "./command-run.ts";
import type { BuildMachine } from "./machine.ts";
import { headline, writeSources } from "./sources.ts";
import { within } from "./within.ts";

/** Cleaning, and writing the tree: what the farm itself does on a machine. */
export const CLEAN_LIMIT: Ms = minutes(10);
export const SOURCE_LIMIT: Ms = minutes(30);
/** A step that prints nothing for so long is stopped. */
export const SILENCE_LIMIT: Ms = minutes(30);

export interface DriveDeps {
  readonly clock: Clock;
  /** The commit's tree, gzipped tar. */
  readonly tarball: (repo: string, hash: string, signal: AbortSignal) => Promise<Readable>;
  readonly writer: (log: LogId) => LogWriter;
  /** Step `number` ended well: stores that with the end of its log and returns the log of the next. Throws `lease-lost`. */
  readonly next: (number: number, status: string, log: LogEnd) => Promise<LogId>;
}

/** How an attempt went. `end` is the last bytes of the last log, still to be stored. */
export interface Driven {
  readonly outcome: Exclude<Outcome, "canceled" | "skipped">;
  readonly step: { readonly number: number; readonly name: string; readonly status: string };
  /** Why, when the outcome does not say. */
  readonly reason: string | null;
  readonly sealed: SealedLog | undefined;
  /** The machine may be used again after it was cleaned. */
  readonly machineFine: boolean;
}

/**
 * Runs what `begun` asks for on a machine that `cleaned` (see `clean`) is emptying.
 * Never throws: `signal` (canceled, lease lost) and a machine that goes away end it as infra_failure.
 */
export async function drive(
  deps: DriveDeps,
  begun: Begun,
  machine: BuildMachine,
  cleaned: Promise<void>,
  signal: AbortSignal,
): Promise<Driven> {
  const { recipe, build } = begun;
  let log = begun.log;
  for (let number = 0; ; number++) {
    const step = recipe.steps[number - 1];
    const name = step?.name ?? "source";
    const writer = deps.writer(log);
    let status = "ok";
    try {
      if (step === undefined) {
        await writer.write(Buffer.from(`${headline(recipe, { repo: build.repo, hash: begun.hash })}\n\n`));
        await cleaned;
        await writeSource(deps, begun, machine, writer, signal);
      } else {
        const end = await runStep(deps, begun, number, step, machine, writer, signal);
        status = end.state;
        if (!end.ok) {
          const sealed = await writer.seal();
          const machineFine = !end.stopped || machine.agent === "barnraiser";
          return { outcome: "failure", step: { number, name, status }, reason: status, sealed, machineFine };
        }
      }
      const sealed = await writer.seal();
      if (number === recipe.steps.length) {
        return { outcome: "success", step: { number, name, status }, reason: null, sealed, machineFine: true };
      }
      log = await deps.next(number, status, sealed.end);
      sealed.stored();
    } catch (error) {
      return infraFailure(error, { number, name }, writer, machine, signal);
    }
  }
}

/** The first call on a machine, always; to be started as soon as the machine is held. A rejection may be left unheard. */
export function clean(clock: Clock, machine: BuildMachine, signal: AbortSignal): Promise<void> {
  const cleaned = within(clock, CLEAN_LIMIT, [machine.gone, signal], `cleaning ${machine.name}`, (limited) =>
    machine.client.removeAll(["."], limited),
  );
  cleaned.catch(() => {});
  return cleaned;
}

async function writeSource(
  deps: DriveDeps,
  begun: Begun,
  machine: BuildMachine,
  writer: LogWriter,
  signal: AbortSignal,
): Promise<void> {
  const { clock, tarball } = deps;
  const { build, hash, recipe } = begun;
  const say = (line: string): Promise<void> => writer.write(Buffer.from(`${line}\n`));
  await within(clock, SOURCE_LIMIT, [machine.gone, signal], `writing ${build.repo} to ${machine.name}`, (limited) =>
    writeSources({ clock, tarball, say }, { repo: build.repo, hash }, recipe, machine, limited),
  );
}

/** Runs step `number`, or takes it up. */
async function runStep(
  deps: DriveDeps,
  begun: Begun,
  number: number,
  step: Step,
  machine: BuildMachine,
  writer: LogWriter,
  signal: AbortSignal,
): Promise<CommandRan> {
  const { recipe, attempt } = begun;
  const run = {
    machine,
    command: await commandOf(recipe, step, machine.client, AbortSignal.any([machine.gone, signal])),
    id: `a${attempt}.${number}`,
    from: 0,
    writer,
    limits: { time: ms(step.timeLimitMs), silence: SILENCE_LIMIT },
    what: `step "${step.name}"`,
  };
  return await runCommand(deps.clock, run, signal);
}

/** Says in the log what happened, when it still can, and what it means for the machine. */
async function infraFailure(
  error: unknown,
  step: { number: number; name: string },
  writer: LogWriter,
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<Driven> {
  const reason = reasonOf(error, machine);
  const told = error instanceof FarmError ? error.code : "internal";
  let sealed: SealedLog | undefined;
  try {
    await writer.write(Buffer.from(`\nbarnraiser: ${reason}\n`));
    sealed = await writer.seal();
  } catch {
    // The log was ended with the attempt, or the database is away: the attempt's reason says it.
  }
  const ours = signal.aborted || ["unavailable", "lease-lost", "bad-request"].includes(told);
  const machineFine = ours && !machine.gone.aborted && (!signal.aborted || machine.agent === "barnraiser");
  return { outcome: "infra_failure", step: { ...step, status: reason }, reason, sealed, machineFine };
}

function reasonOf(error: unknown, machine: BuildMachine): string {
  if (machine.gone.aborted) return `machine gone: ${messageOf(machine.gone.reason)}`;
  const message = messageOf(error);
  if (!(error instanceof FarmError)) return `machine broken: ${message}`;
  if (error.code === "machine-gone") return `machine gone: ${message}`;
  if (error.code === "machine-broken") return `machine broken: ${message}`;
  return message;
}

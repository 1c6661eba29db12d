/**
 * Runs one command on a machine, durably, with its output into one log: a step, or anything else that a build runs.
 *
 *   running -ends-> ended                 with the command's own state
 *   running -a limit-> stopped            the log says which; the command and all that it started are killed
 *   running -canceled-> rejects           killed as well
 *   running -connection cut-> running     a machine that resumes is asked again, from the byte that the log has
 *   running -machine gone, coordinator stops-> rejects   the command goes on; the next call with the same id and the
 *                                         log's length takes it up again
 *
 * `id` names the run for ever. A machine that resumes starts a command once per id, so calling this again never runs it
 * twice. On other machines a command cannot be taken up: it dies with its connection.
 *
 * Always: the bytes given to the log are the command's output from `from` on, in order, each once. Only a stop adds a
 * line of ours.
 */
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, ms, seconds } from "../farm/ids.ts";
import { unless, within } from "../farm/within.ts";
import type { LogWriter } from "../logs/writer.ts";
import { type CommandLimits, LimitWatch } from "./command-limits.ts";
import type { BuildMachine, Command, CommandEnd } from "./machine.ts";

/** How often in a row a connection may break before the run fails. The pause between two tries doubles. */
const CUTS = 6;
const CUT_PAUSE: Ms = ms(200);
/** How long a machine may take to kill a command. */
const STOP_LIMIT: Ms = seconds(15);

export interface CommandRun {
  readonly machine: BuildMachine;
  readonly command: Omit<Command, "execution">;
  /**
   * The name of the run, such as `a7.2`: letters, digits, `.`, `-` and `_`. Every try has the same, on any coordinator.
   */
  readonly id: string;
  /** How many bytes of the output the log has already. */
  readonly from: number;
  readonly writer: Pick<LogWriter, "write">;
  readonly limits: CommandLimits;
  /** What the log calls the command, such as `step "make"`. */
  readonly what: string;
  /** Called each time the command is taken up, with the length of the output so far, which then comes in one burst. */
  readonly takenUp?: (length: number) => void;
}

export interface CommandRan extends CommandEnd {
  /** A limit ended the command; `state` says which. */
  readonly stopped: boolean;
  /** How long the command ran, from its own start, even if another coordinator started it. */
  readonly durationMs: Ms;
  /** The connection held all the time, so this call saw every byte as it was printed. */
  readonly unbroken: boolean;
}

/** When a command started, on our clock, as far as is known by now. */
interface Watched {
  startedAt: number;
  unbroken: boolean;
}

/** Runs or takes up a command, until it has ended. Rejects when the machine, the log or `signal` ends first. */
export async function runCommand(clock: Clock, run: CommandRun, signal: AbortSignal): Promise<CommandRan> {
  const { machine, writer, what } = run;
  const unstored = new AbortController(); // the log takes no more
  const watched: Watched = { startedAt: clock.monotonic(), unbroken: true };
  const span = (): Pick<CommandRan, "durationMs" | "unbroken"> => ({
    durationMs: ms(clock.monotonic() - watched.startedAt),
    unbroken: watched.unbroken,
  });
  using limits = new LimitWatch(clock, run.limits);
  const stop = AbortSignal.any([machine.gone, signal, unstored.signal, limits.signal]);
  try {
    const end = await attended(clock, run, limits, watched, unstored, stop);
    return { ...end, stopped: false, ...span() };
  } catch (error) {
    if (!(error instanceof FarmError)) throw error;
    const outOfTime = limits.signal.aborted && error === limits.signal.reason;
    if (outOfTime || error.code === "canceled") await kill(clock, run);
    if (!outOfTime) throw error;
    await writer.write(Buffer.from(`\nbarnraiser: ${what} was stopped: ${error.message}\n`));
    return { state: error.message, ok: false, stopped: true, ...span() };
  }
}

/** Follows the command over as many connections as it takes. */
async function attended(
  clock: Clock,
  run: CommandRun,
  limits: LimitWatch,
  watched: Watched,
  unstored: AbortController,
  stop: AbortSignal,
): Promise<CommandEnd> {
  const { machine, command, id, writer } = run;
  let at = run.from;
  const onOutput = (chunk: Buffer): void | Promise<void> => {
    if (stop.aborted) return;
    at += chunk.length;
    const taken = limits.hold();
    return writer.write(chunk).then(taken, (error: unknown) => unstored.abort(error));
  };
  const began = (age: Ms, length: number): void => {
    limits.ran(age);
    watched.startedAt = clock.monotonic() - age;
    run.takenUp?.(length);
  };
  for (let cuts = 0, since = at; ; cuts++) {
    try {
      const whole = machine.resumes ? { ...command, execution: { id, from: at, began } } : command;
      return await unless(stop, (limited) => machine.client.exec(whole, onOutput, limited));
    } catch (error) {
      const cut = error instanceof FarmError && ["machine-gone", "carrier-gone"].includes(error.code);
      if (stop.aborted || !machine.resumes || !cut) throw error;
      watched.unbroken = false;
      if (at > since) cuts = 0;
      if (cuts === CUTS) throw error;
      since = at;
      await clock.sleep(ms(CUT_PAUSE * 2 ** cuts), stop);
    }
  }
}

/** Kills the command on a machine that resumes. On others the end of the connection has killed it. */
async function kill(clock: Clock, { machine, id, what }: CommandRun): Promise<void> {
  if (!machine.resumes || machine.gone.aborted) return;
  await within(clock, STOP_LIMIT, [machine.gone], `stopping ${what} on ${machine.name}`, (limited) =>
    machine.client.endExecution(id, limited),
  );
}

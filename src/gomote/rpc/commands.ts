/**
 * Running a person's command on their instance, in the way in which builds run theirs (builds/command-run.ts), with its
 * output to a stream.
 *
 *   running -exits 0-> the stream ends well
 *   running -exits otherwise, or cannot be started-> Aborted, with the exit status in its details
 *   running -the caller leaves, their token expires or is revoked, or the coordinator stops-> killed, with all that it
 *           started; the instance goes on
 *   running -somebody kills it-> killed likewise; Aborted, which says by whom
 *   running -the machine goes away-> Unavailable; the next coordinator that reaches the machine ends the command
 *           (../running-commands.ts)
 *
 * The caller reads as fast as it likes: output that it has not taken holds the command back, and does not fill our
 * memory.
 */
import type { HandlerContext } from "@connectrpc/connect";
import { runCommand } from "../../builds/command-run.ts";
import type { Command } from "../../builds/machine.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import { type Code, FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, ms } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import type { MachineSession } from "../../machines/machine-session.ts";
import type { ExecuteCommandRequest } from "../../wire/gomote/gen/gomote_pb.ts";
import type { HeldInstance } from "../holdings.ts";
import { environmentOn, typeNamed } from "../instance-types.ts";
import { executionOf, type RunningCommands } from "../running-commands.ts";
import { OutputQueue } from "./output-queue.ts";
import { commandFailed, commandKilled } from "./rpc-error.ts";

/** The longest span that a timer takes. The instance's own limit is shorter. */
const NO_LIMIT: Ms = ms(2 ** 31 - 1);
/** Errors after which a command does not run: it could not be started, was killed, or ended with its instance. */
const OVER: ReadonlySet<Code> = new Set(["bad-request", "canceled", "gone"]);

/** The command to run, as the caller gave it. */
export interface ExecForm extends Omit<Command, "execution"> {
  /** The type whose environment the command gets; "": that of the instance. */
  readonly imitate: string;
}

/** Reads a request. Throws FarmError `bad-request` for an argument that no program can be given. */
export function execForm(request: ExecuteCommandRequest): ExecForm {
  const { command, args, directory, appendEnvironment, path, systemLevel, debug, imitateHostType } = request;
  for (const [what, texts] of Object.entries({
    command: [command],
    args,
    directory: [directory],
    append_environment: appendEnvironment,
    path,
  })) {
    if (texts.some((text) => text.includes("\0")))
      throw new FarmError(
        "bad-request",
        `Cannot run ${JSON.stringify(command.slice(0, 100))}: there is a NUL in ${what}.`,
      );
  }
  const broken = appendEnvironment.find((pair) => pair.indexOf("=") < 1);
  if (broken !== undefined)
    throw new FarmError(
      "bad-request",
      `Cannot run ${JSON.stringify(command.slice(0, 100))} with the variable ${JSON.stringify(broken.slice(0, 100))}: want KEY=VALUE.`,
    );
  const form = { cmd: command, args, dir: directory, env: appendEnvironment, path, debug };
  return { ...form, system: systemLevel, imitate: imitateHostType };
}

export interface CommandsDeps {
  readonly clock: Clock;
  readonly config: () => Pick<FarmConfig, "hosts" | "builders">;
  readonly running: Pick<RunningCommands, "begin">;
}

export class Commands {
  readonly #deps: CommandsDeps;

  constructor(deps: CommandsDeps) {
    this.#deps = deps;
  }

  /** Yields the output as it comes. Throws when the command does not end well. */
  async *run(
    held: HeldInstance,
    person: Person,
    { imitate, ...form }: ExecForm,
    context: Pick<HandlerContext, "signal">,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const { clock, running } = this.#deps;
    const { instance, machine, over } = held;
    if (form.cmd === "") throw commandFailed("there is no command to run");
    const command = { ...form, env: [...this.#environment(held, imitate), ...form.env] };
    const words = [form.cmd, ...form.args].join(" ");
    const beginning = { who: person.email, command: words, dir: form.dir, action: "gomote run", detail: words };
    const { number, killed, ended } = await running.begin(instance, beginning);
    const left = new AbortController();
    const leave = () => {
      const { reason } = context.signal;
      left.abort(new FarmError("canceled", reason instanceof FarmError ? reason.message : "whoever ran it left"));
    };
    context.signal.addEventListener("abort", leave, { once: true });
    if (context.signal.aborted) leave();
    const wanted = AbortSignal.any([left.signal, killed]);
    const output = new OutputQueue(wanted);
    const limits = { time: NO_LIMIT, silence: NO_LIMIT };
    const id = executionOf(instance.id, number);
    const run = { machine, command, id, from: 0, writer: output, limits, what: "the command" };
    // This goes on while the caller takes no output, and so does not reach the end.
    const ran = runCommand(clock, run, AbortSignal.any([wanted, over])).then(
      (end) => {
        output.end(end.ok ? undefined : commandFailed(end.state));
        return ended(end.state);
      },
      (error: unknown) => {
        output.end(tellable(error, killed, context.signal));
        return ended(mayGoOn(machine, error) ? undefined : messageOf(error));
      },
    );
    try {
      yield* output.chunks();
    } finally {
      leave(); // does nothing to a command that has ended
      context.signal.removeEventListener("abort", leave);
      await ran;
    }
  }

  /** The environment of the instance's type, or of the type that it is to imitate. */
  #environment({ instance }: HeldInstance, imitate: string): readonly string[] {
    const config = this.#deps.config();
    if (imitate !== "" && !typeNamed(config, imitate))
      throw new FarmError(
        "bad-request",
        `Cannot run a command as on ${JSON.stringify(imitate.slice(0, 100))}: there is no such builder or host type.`,
      );
    return environmentOn(config, { ...instance, builderType: imitate || instance.builderType });
  }
}

/** The error for the caller of a command of which nothing was heard but `error`. */
function tellable(error: unknown, killed: AbortSignal, { reason }: AbortSignal): unknown {
  if (!(error instanceof FarmError)) return error;
  // The machine is well, and cannot start it: no such program, no such folder.
  if (error.code === "bad-request") return commandFailed(error.message);
  if (error.code === "canceled" && killed.aborted) return commandKilled(messageOf(killed.reason));
  // The reason to end it says more than the error of ending it: a coordinator that stops has left the machine by then.
  if (!(reason instanceof FarmError)) return error;
  if (reason.code !== "unavailable") return reason;
  return new FarmError(
    "unavailable",
    `${reason.message}, and what it ran ends with it; the instance goes on: run it again`,
  );
}

/**
 * Whether a command of which nothing was heard but `error` may still run. Our agent keeps a command for a while when no
 * coordinator is there to kill it.
 */
function mayGoOn({ resumes, gone }: Pick<MachineSession, "resumes" | "gone">, error: unknown): boolean {
  if (!resumes) return false;
  return gone.aborted || !(error instanceof FarmError) || !OVER.has(error.code);
}

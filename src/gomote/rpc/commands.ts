/**
 * Running a person's command on their instance: the way in which builds run theirs (builds/command-run.ts), with its output to a stream.
 *
 *   running -exits 0-> the stream ends well
 *   running -exits otherwise, or cannot be started-> Aborted, with the exit status in its details
 *   running -the caller leaves, or their token is good no more-> killed, with all that it started; the instance goes on
 *   running -the machine or the coordinator goes away-> Unavailable; our agent ends what nobody attends to
 *
 * The caller reads as fast as it likes: output that it has not taken holds the command back, not our memory.
 */
import type { HandlerContext } from "@connectrpc/connect";
import { runCommand } from "../../builds/command-run.ts";
import type { Command } from "../../builds/machine.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import { within } from "../../farm/within.ts";
import { commandBegan, commandEnded } from "../../store/gomote-commands.ts";
import type { Sql } from "../../store/sql.ts";
import type { ExecuteCommandRequest } from "../../wire/gomote/gen/gomote_pb.ts";
import type { HeldInstance } from "../holdings.ts";
import { environmentOn, typeNamed } from "../instance-types.ts";
import { KILLED, killedTopic } from "../shell-commands.ts";
import { OutputQueue } from "./output-queue.ts";
import { auditText } from "./requests.ts";
import { commandFailed } from "./rpc-error.ts";

const KILL_LIMIT: Ms = seconds(15);
/** Timers take no longer span; an instance's own limit is shorter. */
const NO_LIMIT: Ms = ms(2 ** 31 - 1);

/** What is to be run, as the caller said it. */
export interface ExecForm extends Omit<Command, "execution"> {
  /** With the environment of this type instead of the instance's own; "": its own. */
  readonly imitate: string;
}

/** Throws FarmError `bad-request` for what no program can be given. */
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
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "hosts" | "builders">;
}

export class Commands {
  readonly #deps: CommandsDeps;
  /** Those that run here, by their number in the database. */
  readonly #running = new Map<number, AbortController>();

  constructor(deps: CommandsDeps) {
    this.#deps = deps;
  }

  /**
   * Ends a command of an instance, with all that it started: one that is attended to here, one whose coordinator ended or lost the machine
   * before, which goes on there until it is missed, and a shell, wherever it is served (shell-commands.ts).
   */
  async kill({ instance, machine, over }: HeldInstance, number: number): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    const here = this.#running.get(number);
    if (here) {
      here.abort(new FarmError("canceled", KILLED));
      return;
    }
    if (machine.resumes)
      await within(clock, KILL_LIMIT, [over], `killing a command on ${machine.name}`, (limited) =>
        machine.client.endExecution(executionOf(instance.id, number), limited),
      );
    await commandEnded(sql, number, KILLED, clock.now());
    bus.publish(killedTopic(instance.id, number));
    bus.publish(`gomote:${instance.id}`);
  }

  /** The output, as it comes. Throws when the command does not end well. */
  async *run(
    held: HeldInstance,
    person: Person,
    { imitate, ...form }: ExecForm,
    context: Pick<HandlerContext, "signal">,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const { sql, bus, clock, log } = this.#deps;
    const { instance, machine, over } = held;
    if (form.cmd === "") throw commandFailed("there is no command to run");
    const command = { ...form, env: [...this.#environment(held, imitate), ...form.env] };
    const words = [form.cmd, ...form.args].join(" ");
    const now = clock.now();
    const who = person.email;
    const began = { instance: instance.id, who, command: words, dir: form.dir };
    const entry = { at: now, who, action: "gomote run", subject: `gomote:${instance.name}`, detail: auditText(words) };
    const number = await commandBegan(sql, began, now, entry);
    bus.publish(`gomote:${instance.id}`);
    const left = new AbortController();
    this.#running.set(number, left);
    const leave = () => {
      const { reason } = context.signal;
      left.abort(new FarmError("canceled", reason instanceof FarmError ? reason.message : "whoever ran it left"));
    };
    context.signal.addEventListener("abort", leave, { once: true });
    if (context.signal.aborted) leave();
    const output = new OutputQueue(left.signal);
    const limits = { time: NO_LIMIT, silence: NO_LIMIT };
    const id = executionOf(instance.id, number);
    const run = { machine, command, id, from: 0, writer: output, limits, what: "the command" };
    let state = "it was left";
    const ran = runCommand(clock, run, AbortSignal.any([left.signal, over])).then(
      (end) => {
        state = end.state;
        output.end(end.ok ? undefined : commandFailed(end.state));
      },
      (error: unknown) => {
        state = messageOf(error);
        // The machine is well, and refuses to start it: no such program, no such folder.
        output.end(error instanceof FarmError && error.code === "bad-request" ? commandFailed(state) : error);
      },
    );
    try {
      yield* output.chunks();
    } finally {
      leave(); // does nothing to a command that has ended
      context.signal.removeEventListener("abort", leave);
      await ran;
      this.#running.delete(number);
      await commandEnded(sql, number, state, clock.now()).catch((error: unknown) =>
        log.warn({ instance: instance.name, error: messageOf(error) }, "Could not write down how a command ended"),
      );
      bus.publish(`gomote:${instance.id}`);
    }
  }

  /** That of what the instance is, or of what it is to be taken for. */
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

/** What the machine knows a command by, whichever coordinator asks. */
function executionOf(instance: number, number: number): string {
  return `g${instance}.${number}`;
}

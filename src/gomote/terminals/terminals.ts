/**
 * Shells in browsers, on instances whose machines are connected to this coordinator.
 *
 * A shell is a command of its instance (running-commands.ts): it is in the audit and among the commands, and it can be
 * killed. It is recorded (recorder.ts). While it is open the instance is in use. Only the person who opened it can come
 * back to it.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, type PersonId, seconds } from "../../farm/ids.ts";
import type { Person } from "../../farm/person.ts";
import type { Sql } from "../../store/sql.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import type { Size } from "../../wire/gomote/terminal-message.ts";
import type { HeldInstance } from "../holdings.ts";
import type { Instances } from "../instances.ts";
import type { RunningCommand, RunningCommands } from "../running-commands.ts";
import { Recorder, type Waiting } from "./recorder.ts";
import { type Screen, Terminal } from "./terminal.ts";

/** Shells of one person at a time. */
export const MOST_OF_PERSON = 16;
/** Shells of everybody at a time. */
const MOST = 1000;
/** How long a machine may take to open a shell. */
const OPEN_LIMIT: Ms = seconds(20);
const COMMAND = "a shell in the browser";

export interface TerminalsDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly instances: Pick<Instances, "held" | "keep">;
  readonly commands: Pick<RunningCommands, "begin">;
}

export class Terminals implements AsyncDisposable {
  readonly #deps: TerminalsDeps;
  readonly #recordings: Waiting = { bytes: 0 };
  readonly #open = new Map<string, Terminal>();
  /** The owners of shells that are being opened. */
  readonly #opening: PersonId[] = [];
  /** The ends of shells: of each that is open, or whose end is being written down. */
  readonly #ends = new Set<Promise<void>>();

  constructor(deps: TerminalsDeps) {
    this.#deps = deps;
  }

  /** The shell `id` of `person` on their instance `name`, if they can come back to it. */
  find(person: Person, name: string, id: string): Terminal | undefined {
    const found = this.#open.get(id);
    return found?.owner === person.id && found.instance === name ? found : undefined;
  }

  /** Opens a shell on `person`'s instance `name`. Throws HeldElsewhere, or FarmError that says why there is none. */
  async open(person: Person, name: string, size: Size, signal: AbortSignal): Promise<Terminal> {
    const { clock, instances } = this.#deps;
    const held = await instances.held(person, name);
    const { instance, machine, over } = held;
    if (machine.agent === "original")
      throw new FarmError(
        "conflict",
        `The machine ${machine.name} runs the original buildlet, which has no shell for a browser: use gomote ssh.`,
      );
    const owners = [...[...this.#open.values()].map(({ owner }) => owner), ...this.#opening];
    const mine = owners.filter((owner) => owner === person.id);
    if (mine.length >= MOST_OF_PERSON || owners.length >= MOST)
      throw new FarmError(
        "too-large",
        `You have ${mine.length} shells open, or the farm has ${MOST}: close one first.`,
      );
    this.#opening.push(person.id);
    const limit = new AbortController();
    const done = new AbortController();
    clock.sleep(OPEN_LIMIT, done.signal).then(
      () => limit.abort(new FarmError("timed-out", `The machine ${machine.name} did not open a shell in time.`)),
      () => {},
    );
    let duplex: Duplex | undefined;
    try {
      duplex = await machine.client.openShell(AbortSignal.any([signal, over, limit.signal]));
      duplex.on("error", () => {}); // a close follows
      const [command, recorder] = await this.#record(held, person, size);
      const terminal = new Terminal(
        {
          clock,
          line: new ShellLine(duplex),
          owner: person.id,
          instance: instance.name,
          printed: (bytes) => recorder.printed(bytes),
          resized: (to) => recorder.resized(to),
        },
        size,
      );
      this.#open.set(terminal.id, terminal);
      const end = this.#follow(terminal, held, command, recorder).finally(() => this.#ends.delete(end));
      this.#ends.add(end);
      return terminal;
    } catch (error) {
      duplex?.destroy();
      throw error;
    } finally {
      done.abort();
      this.#opening.splice(this.#opening.indexOf(person.id), 1);
    }
  }

  /**
   * Shows `terminal` on `screen` from byte `from` on. The result is to be called when the screen's connection is gone.
   */
  show(terminal: Terminal, screen: Screen, from: number, size: Size): () => void {
    terminal.show(screen, from, size);
    return () => terminal.leave(screen);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const terminal of this.#open.values()) terminal.end("The coordinator was stopped; open another shell.");
    await Promise.all(this.#ends);
  }

  async #record({ instance }: HeldInstance, { email }: Person, size: Size): Promise<[RunningCommand, Recorder]> {
    const { sql, clock, log, commands } = this.#deps;
    const beginning = { who: email, command: COMMAND, dir: "", action: "gomote shell", detail: "in the browser" };
    const command = await commands.begin(instance, beginning);
    try {
      return [command, await Recorder.begin({ sql, clock, log, waiting: this.#recordings }, command.number, size)];
    } catch (error) {
      await command.ended(messageOf(error));
      throw error;
    }
  }

  async #follow(terminal: Terminal, held: HeldInstance, command: RunningCommand, recorder: Recorder): Promise<void> {
    const { instance, over } = held;
    const { killed } = command;
    using _ = this.#deps.instances.keep(instance);
    const end = AbortSignal.any([over, killed]);
    const ended = () =>
      terminal.end(killed.aborted ? `This is over: ${messageOf(killed.reason)}.` : messageOf(over.reason));
    end.addEventListener("abort", ended, { once: true });
    if (end.aborted) ended();
    const why = await terminal.over;
    end.removeEventListener("abort", ended);
    // From here on nobody can come back to it.
    this.#open.delete(terminal.id);
    await recorder[Symbol.asyncDispose]();
    await command.ended(why === "The shell has ended." ? "ok" : why);
  }
}

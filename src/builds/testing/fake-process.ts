/**
 * An agent process in memory that outlives the sessions of its machine: the contract of executions.
 *
 * A command prints and ends when the test says so (`print`, `exit`), whether or not a coordinator is attached. With
 * `atOnce` it prints and ends at once.
 */
import { randomBytes } from "node:crypto";
import { FarmError } from "../../farm/errors.ts";
import { type Ms, ms } from "../../farm/ids.ts";
import type { Execution } from "../../machines/machine-session.ts";
import { systemClock } from "../../store/system-clock.ts";
import type { Command, CommandEnd } from "../machine.ts";

interface Run {
  readonly command: Command;
  output: Buffer;
  /** When the command was started; `endedAt`: when it ended. */
  startedAt: number;
  endedAt: number | undefined;
  state: string | undefined;
  changed: PromiseWithResolvers<void>;
}

export class FakeProcess {
  readonly instance: string = randomBytes(16).toString("hex");
  /** The commands in the order in which they started, each as often as it started. */
  readonly started: string[] = [];
  /** The requests for an execution, in order: its id, and the first byte that was asked for. */
  readonly attached: { readonly id: string; readonly from: number }[] = [];
  readonly #runs = new Map<string, Run>();
  readonly #atOnce: ((cmd: string) => string) | undefined;

  /** With `atOnce` each command prints what that returns, and ends well. */
  constructor(atOnce?: (cmd: string) => string) {
    this.#atOnce = atOnce;
  }

  /** The execution whose command is `cmd`; undefined before it started. */
  idOf(cmd: string): string | undefined {
    return [...this.#runs].find(([, run]) => run.command.cmd === cmd)?.[0];
  }

  /** Executions that have not ended. */
  get running(): { readonly id: string; readonly command: Command }[] {
    return [...this.#runs].flatMap(([id, { command, state }]) => (state === undefined ? [{ id, command }] : []));
  }

  print(cmd: string, text: string): void {
    const run = this.#of(cmd);
    run.output = Buffer.concat([run.output, Buffer.from(text)]);
    this.#tell(run);
  }

  /** Makes the command `by` older than it is. */
  older(cmd: string, by: Ms): void {
    this.#of(cmd).startedAt -= by;
  }

  exit(cmd: string, state = "ok"): void {
    const run = this.#of(cmd);
    run.state = state;
    run.endedAt = systemClock.monotonic();
    this.#tell(run);
  }

  async attend(
    command: Command,
    { id, from, began }: Execution,
    onOutput: (chunk: Buffer) => void | Promise<void>,
    signal: AbortSignal,
  ): Promise<CommandEnd> {
    let run = this.#runs.get(id);
    if (!run) {
      if (from > 0) throw new FarmError("bad-request", `answered 409: there is no execution ${id}`);
      const fresh = { startedAt: systemClock.monotonic(), endedAt: undefined, state: undefined };
      run = { command, output: Buffer.alloc(0), ...fresh, changed: Promise.withResolvers() };
      this.#runs.set(id, run);
      this.started.push(command.cmd);
      if (this.#atOnce) {
        this.print(command.cmd, this.#atOnce(command.cmd));
        this.exit(command.cmd);
      }
    }
    this.attached.push({ id, from });
    const { endedAt = systemClock.monotonic(), startedAt } = run;
    began?.(ms(Math.floor(endedAt - startedAt)), run.output.length);
    for (let at = Math.min(from, run.output.length); ; ) {
      signal.throwIfAborted();
      const { changed, output, state } = run;
      if (output.length > at) {
        await onOutput(output.subarray(at));
        at = output.length;
        continue;
      }
      if (state !== undefined) return { state, ok: state === "ok" };
      await new Promise<void>((resolve, reject) => {
        const stop = (): void => reject(signal.reason);
        signal.addEventListener("abort", stop, { once: true });
        void changed.promise.then(() => {
          signal.removeEventListener("abort", stop);
          resolve();
        });
      });
    }
  }

  end(id: string): void {
    const run = this.#runs.get(id);
    if (!run) return;
    run.state ??= "signal: killed";
    this.#tell(run);
    this.#runs.delete(id);
  }

  clean(): void {
    for (const id of [...this.#runs.keys()]) this.end(id);
  }

  #of(cmd: string): Run {
    const run = this.#runs.get(cmd) ?? this.#runs.get(this.idOf(cmd) ?? "");
    if (!run) throw new Error(`Cannot find the command ${cmd}`);
    return run;
  }

  #tell(run: Run): void {
    const { changed } = run;
    run.changed = Promise.withResolvers();
    changed.resolve();
  }
}

/**
 * The commands of this build that have names (../../wire/buildlet-api/execution.ts), running or ended.
 *
 *   unknown -start-> known -ended by the client, given up, crowded out-> over
 *
 * A name that is over starts nothing again, so that no command runs twice. `clear`, at the end of a lease, forgets all.
 */
import type { Clock } from "../../farm/clock.ts";
import type { OutputSink } from "./commands.ts";
import { Execution } from "./execution.ts";

/** Ended executions whose output is kept though nobody is attached: the oldest are the first to go. */
const ENDED_KEPT = 4;

export class Executions {
  readonly #clock: Clock;
  readonly #known = new Map<string, Execution>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #over = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether anything is known that a client may come back for. */
  get any(): boolean {
    return this.#known.size > 0;
  }

  find(id: string): Execution | "over" | undefined {
    return this.#known.get(id) ?? (this.#over.has(id) ? "over" : undefined);
  }

  /** Starts a command under a name that is unknown. `run` resolves with the text of Process-State. */
  start(id: string, run: (sink: OutputSink, signal: AbortSignal) => Promise<string>): Execution {
    const execution = new Execution(this.#clock, () => void this.end(id));
    this.#known.set(id, execution);
    const running = run(execution.sink, execution.stop.signal).then((state) => {
      this.#running.delete(id);
      execution.end(state);
      this.#crowdOut();
    });
    this.#running.set(id, running);
    return execution;
  }

  /** Kills the command with all that it started, if it runs, and gives its name up: one that is still to be started never is. */
  async end(id: string): Promise<void> {
    this.#over.add(id);
    this.#known.get(id)?.[Symbol.dispose]();
    this.#known.delete(id);
    await this.#running.get(id);
  }

  /** The lease is over: all are killed. Whoever runs them waits for that (Commands.killLeftovers). */
  clear(): void {
    for (const id of this.#known.keys()) void this.end(id);
    this.#over.clear();
  }

  #crowdOut(): void {
    const ended = [...this.#known].filter(([, execution]) => execution.isOver && execution.isAlone);
    for (const [id] of ended.slice(0, Math.max(0, ended.length - ENDED_KEPT))) void this.end(id);
  }
}

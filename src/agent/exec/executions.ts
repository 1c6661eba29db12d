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

/** How many ended executions are kept while no client is attached. The oldest go first. */
const ENDED_KEPT = 4;

export class Executions {
  readonly #clock: Clock;
  readonly #known = new Map<string, Execution>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #over = new Set<string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether any execution is known that a client may come back for. */
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

  /** Kills the command, if it runs, with all that it started. Its name is used up: a later start does nothing. */
  async end(id: string): Promise<void> {
    this.#over.add(id);
    this.#known.get(id)?.[Symbol.dispose]();
    this.#known.delete(id);
    await this.#running.get(id);
  }

  /** Ends the lease: all are killed. Commands.killLeftovers waits for that. */
  clear(): void {
    for (const id of this.#known.keys()) void this.end(id);
    this.#over.clear();
  }

  #crowdOut(): void {
    const ended = [...this.#known].filter(([, execution]) => execution.isOver && execution.isAlone);
    for (const [id] of ended.slice(0, Math.max(0, ended.length - ENDED_KEPT))) void this.end(id);
  }
}

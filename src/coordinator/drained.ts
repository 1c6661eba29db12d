/** What is drained as a whole, for the banner on every page: read when it changes, and now and then in case that a word got lost. */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import { drains } from "../store/drain.ts";
import type { Sql } from "../store/sql.ts";
import type { Banner } from "../ui/data.ts";

const LOOK_EVERY: Ms = seconds(30);

export interface DrainedDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
}

export class Drained implements AsyncDisposable {
  readonly #deps: DrainedDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #now: Awaited<ReturnType<typeof drains>>;
  #wake: () => void = () => {};

  private constructor(deps: DrainedDeps, now: Awaited<ReturnType<typeof drains>>) {
    this.#deps = deps;
    this.#now = now;
    deps.bus.subscribe("drain:", () => this.#wake(), this.#stop.signal);
    this.#loop = this.#run();
  }

  static async open(deps: DrainedDeps): Promise<Drained> {
    return new Drained(deps, await drains(deps.sql, deps.coordinator));
  }

  banners(): readonly Banner[] {
    const { farm, coordinator } = this.#now;
    const said = (what: string, note: string): Banner => {
      return { summary: `${what}: nothing new is begun${note === "" ? "" : ` (${note})`}`, detail: "" };
    };
    if (farm) return [said("The farm is drained", farm.note)];
    return coordinator ? [said("This coordinator is drained", coordinator.note)] : [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { sql, bus, clock, log, coordinator } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const rest = new AbortController();
      await Promise.race([woken, clock.sleep(LOOK_EVERY, AbortSignal.any([rest.signal, signal])).catch(() => {})]);
      rest.abort();
      if (signal.aborted) return;
      try {
        const before = JSON.stringify(this.#now);
        this.#now = await drains(sql, coordinator);
        if (JSON.stringify(this.#now) !== before) bus.publish("farm:");
      } catch (error) {
        log.warn({ error: messageOf(error) }, "Could not look at what is drained");
      }
    }
  }
}

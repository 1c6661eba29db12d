/**
 * The parts of the farm that are drained as a whole, for the banner on every page. They are read when they change, and
 * now and then too, since a word may get lost.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { drains } from "../store/drain.ts";
import type { Sql } from "../store/sql.ts";
import type { Banner } from "../ui/data.ts";

const READ_DRAINS_EVERY: Ms = seconds(30);

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
  readonly #wake: Wake;
  #now: Awaited<ReturnType<typeof drains>>;

  private constructor(deps: DrainedDeps, now: Awaited<ReturnType<typeof drains>>) {
    this.#deps = deps;
    this.#now = now;
    this.#wake = new Wake(deps.clock, this.#stop.signal);
    deps.bus.subscribe("drain:", () => this.#wake.call(), this.#stop.signal);
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
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { sql, bus, log, coordinator } = this.#deps;
    for (;;) {
      await this.#wake.sleep(READ_DRAINS_EVERY);
      if (this.#stop.signal.aborted) return;
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

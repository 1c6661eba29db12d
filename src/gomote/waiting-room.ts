/**
 * Everybody who waits for an instance at this coordinator. Each of them hears how many are ahead, when the instance is
 * up, and why it never will be.
 *
 * One loop looks for all of them together: whenever a topic about an instance or a queue is published, and every
 * TOLD_EVERY. A waiting person hears each change of their place, and at least every TOLD_EVERY that nothing has
 * changed.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, ms, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { type Instance, instancesById } from "../store/gomote.ts";
import { queueLines } from "../store/queue-line.ts";
import type { Sql } from "../store/sql.ts";

const TOLD_EVERY: Ms = seconds(5);
/**
 * Places are read at most this often, and for at most one part in REST of the time: a long queue changes all the time.
 */
const PLACES_EVERY: Ms = ms(250);
const REST = 5;
/** How many places of a queue are counted. Everybody behind them is told this number. */
const COUNTED = 2000;

export type News =
  | { readonly kind: "waiting"; readonly ahead: number }
  | { readonly kind: "up"; readonly instance: Instance }
  | { readonly kind: "ended"; readonly reason: string };

interface Waiter {
  readonly id: number;
  /** News that the waiter has not taken yet. */
  news: News | undefined;
  ahead: number | undefined;
  toldAt: number;
  call: () => void;
}

export interface WaitingRoomDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

export class WaitingRoom implements AsyncDisposable {
  readonly #deps: WaitingRoomDeps;
  readonly #waiters = new Set<Waiter>();
  readonly #stop = new AbortController();
  readonly #wake: Wake;
  readonly #loop: Promise<void>;
  #placesAt = Number.NEGATIVE_INFINITY;
  #placesDue = false;
  #placesTook = 0;

  constructor(deps: WaitingRoomDeps) {
    this.#deps = deps;
    this.#wake = new Wake(deps.clock, this.#stop.signal);
    const call = () => {
      if (this.#waiters.size > 0) this.#wake.call();
    };
    deps.bus.subscribe("gomote:", call, this.#stop.signal);
    deps.bus.subscribe("queue:", call, this.#stop.signal);
    this.#loop = this.#run();
  }

  /** Yields the news of instance `id` until it is up or has ended. Throws the reason of `signal` when that aborts. */
  async *follow(id: number, signal: AbortSignal): AsyncGenerator<News, void> {
    const waiter: Waiter = { id, news: undefined, ahead: undefined, toldAt: this.#now, call: () => {} };
    this.#waiters.add(waiter);
    this.#wake.call();
    const either = AbortSignal.any([signal, this.#stop.signal]);
    const onAbort = () => waiter.call();
    either.addEventListener("abort", onAbort, { once: true });
    try {
      for (;;) {
        while (waiter.news === undefined) {
          either.throwIfAborted();
          await new Promise<void>((resolve) => {
            waiter.call = resolve;
          });
        }
        const { news } = waiter;
        waiter.news = undefined;
        waiter.toldAt = this.#now;
        yield news;
        if (news.kind !== "waiting") return;
      }
    } finally {
      either.removeEventListener("abort", onAbort);
      this.#waiters.delete(waiter);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "The coordinator was stopped; ask again."));
    await this.#loop;
  }

  get #now(): number {
    return this.#deps.clock.monotonic();
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#wake.sleep(this.#waiters.size > 0 ? TOLD_EVERY : seconds(60));
      if (this.#stop.signal.aborted || this.#waiters.size === 0) continue;
      try {
        await this.#look();
      } catch (error) {
        this.#deps.log.warn({ error: messageOf(error) }, "Could not look how long people wait; trying again");
      }
    }
  }

  async #look(): Promise<void> {
    const { sql } = this.#deps;
    const waiters = [...this.#waiters];
    const found = await instancesById(
      sql,
      waiters.map(({ id }) => id),
    );
    const byId = new Map(found.map((instance) => [instance.id, instance]));
    const waiting: { readonly waiter: Waiter; readonly instance: Instance }[] = [];
    for (const waiter of waiters) {
      const instance = byId.get(waiter.id);
      if (!instance || instance.state === "ended")
        this.#tell(waiter, { kind: "ended", reason: instance?.endReason ?? "it has ended" });
      else if (instance.upAt !== null) this.#tell(waiter, { kind: "up", instance });
      else waiting.push({ waiter, instance });
    }
    if (waiting.length > 0) await this.#places(waiting);
  }

  async #places(waiting: readonly { readonly waiter: Waiter; readonly instance: Instance }[]): Promise<void> {
    const { sql, clock } = this.#deps;
    const since = this.#now - this.#placesAt;
    const pause = Math.min(TOLD_EVERY, Math.max(PLACES_EVERY, REST * this.#placesTook));
    if (since < pause) {
      if (this.#placesDue) return;
      this.#placesDue = true;
      clock.sleep(ms(pause - since), this.#stop.signal).then(
        () => {
          this.#placesDue = false;
          this.#wake.call();
        },
        () => {},
      );
      return;
    }
    const began = this.#now;
    const queues = [...new Set(waiting.map(({ instance }) => instance.hostType))];
    const lines = await queueLines(sql, queues, clock.now(), COUNTED);
    const place = new Map([...lines.values()].flatMap((line) => line.map(({ id }, at): [number, number] => [id, at])));
    this.#placesAt = this.#now;
    this.#placesTook = this.#placesAt - began;
    for (const { waiter, instance } of waiting) {
      const ahead = instance.state === "held" ? 0 : (place.get(instance.lease) ?? COUNTED);
      if (ahead === waiter.ahead && this.#now - waiter.toldAt < TOLD_EVERY) continue;
      waiter.ahead = ahead;
      this.#tell(waiter, { kind: "waiting", ahead });
    }
  }

  #tell(waiter: Waiter, news: News): void {
    waiter.news = news;
    waiter.call();
  }
}

/** A clock that stands still while it is held, for limits on work that may have to wait for something else. */
import type { Clock } from "../farm/clock.ts";
import { type Ms, ms } from "../farm/ids.ts";

export class HeldClock {
  readonly #clock: Clock;
  #behind = 0;
  #held: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Holds the clock until `work` has settled. One call at a time. */
  async during<T>(work: Promise<T>): Promise<T> {
    const began = this.#clock.monotonic();
    const over = Promise.withResolvers<void>();
    this.#held = over.promise;
    try {
      return await work;
    } finally {
      this.#behind += this.#clock.monotonic() - began;
      over.resolve();
    }
  }

  /** Resolves after `span` of time that was not held. Rejects as any clock does. */
  async sleep(span: Ms, signal?: AbortSignal): Promise<void> {
    const due = this.#now + span;
    for (;;) {
      await this.#held;
      const left = due - this.#now;
      if (left <= 0) return;
      await this.#clock.sleep(ms(left), signal);
    }
  }

  get #now(): number {
    return this.#clock.monotonic() - this.#behind;
  }
}

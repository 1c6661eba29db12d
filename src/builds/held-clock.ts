/** A clock that stands still while it is held: for limits of what may have to wait for something else. */
import type { Clock } from "../farm/clock.ts";
import { type Ms, ms } from "../farm/ids.ts";

export class HeldClock {
  readonly #clock: Clock;
  #behind = 0;
  #held: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** No time passes until `work` has settled; one at a time. */
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

  /** As of any clock. */
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

/** A limit for work that may take any time while it moves: `signal` aborts once `moved` was not called for `limit`. */
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, ms } from "../farm/ids.ts";

export class Silence implements Disposable {
  readonly #clock: Clock;
  readonly #silent = new AbortController();
  readonly #over = new AbortController();
  #movedAt: number;

  /** `who` is the beginning of the error's sentence, up to the name of the silent side. */
  constructor(clock: Clock, limit: Ms, who: string) {
    this.#clock = clock;
    this.#movedAt = clock.monotonic();
    void this.#watch(limit, who);
  }

  /** Aborts after too long a silence. Its reason is a FarmError. */
  get signal(): AbortSignal {
    return this.#silent.signal;
  }

  moved(): void {
    this.#movedAt = this.#clock.monotonic();
  }

  [Symbol.dispose](): void {
    this.#over.abort();
  }

  async #watch(limit: Ms, who: string): Promise<void> {
    for (;;) {
      const left = this.#movedAt + limit - this.#clock.monotonic();
      if (left <= 0) break;
      await this.#clock.sleep(ms(left), this.#over.signal).catch(() => {});
      if (this.#over.signal.aborted) return;
    }
    this.#silent.abort(new FarmError("timed-out", `${who} has said and taken nothing for ${durationText(limit)}`));
  }
}

/**
 * A rate limit for whatever can be guessed or is expensive: so many attempts within a time, for each caller and for all
 * together.
 */
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";

export interface AttemptLimits {
  readonly each: number;
  readonly all: number;
  readonly within: Ms;
}

export const WRONG_SECRETS: AttemptLimits = { each: 10, all: 100, within: minutes(1) };

export class Attempts {
  readonly #clock: Clock;
  readonly #limits: AttemptLimits;
  /** Caller -> attempts, and when the first of them was made. The key "" counts all callers together. */
  readonly #counted = new Map<string, { count: number; since: number }>();

  constructor(clock: Clock, limits: AttemptLimits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  /** How many seconds `who` has to wait before the next attempt; 0: none. */
  delay(who: string): number {
    return Math.max(this.#over(who, this.#limits.each), this.#over("", this.#limits.all));
  }

  count(who: string): void {
    const now = this.#clock.now();
    for (const [key, value] of this.#counted) if (now - value.since >= this.#limits.within) this.#counted.delete(key);
    for (const key of [who, ""]) {
      const known = this.#counted.get(key) ?? { count: 0, since: now };
      known.count++;
      this.#counted.set(key, known);
    }
  }

  #over(key: string, limit: number): number {
    const known = this.#counted.get(key);
    if (!known || known.count < limit) return 0;
    return Math.max(0, Math.ceil((known.since + this.#limits.within - this.#clock.now()) / 1000));
  }
}

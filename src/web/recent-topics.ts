/**
 * What was published a moment ago, so that nothing is missed between the making of a page and its first `/events`.
 *
 * A page says when it was asked for. What was published since then, or may have been, is told to it at once when it begins to listen. Remembered is
 * each topic's last time, for KEPT and MOST topics at most; of what is forgotten only the time is known, and whoever asks from before it hears of
 * all its topics. Coordinators may answer for one another, so times are wall times, and SKEW is what their clocks may differ by.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { type EpochMs, type Ms, ms, plus, seconds } from "../farm/ids.ts";

export const KEPT: Ms = seconds(60);
const MOST = 10_000;
const SKEW = seconds(1);

export class RecentTopics {
  readonly #clock: Clock;
  /** When each was published last, the oldest first. */
  readonly #at = new Map<string, EpochMs>();
  /** Nothing is known of what was published until then. */
  #unknownUntil: EpochMs;

  constructor(bus: Bus, clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#unknownUntil = clock.now();
    bus.subscribe("", (topic) => this.#note(topic), signal);
  }

  /** Of `topics`, those that were published at `since` or later, as far as that is known. One ending in `:` stands for all of its kind. */
  since(topics: readonly string[], since: EpochMs): readonly string[] {
    const from = plus(since, ms(-SKEW));
    if (from <= this.#unknownUntil) return topics;
    const published = [...this.#at].filter(([, at]) => at >= from).map(([topic]) => topic);
    return topics.filter((topic) =>
      published.some((one) => (topic.endsWith(":") ? one.startsWith(topic) : one === topic)),
    );
  }

  #note(topic: string): void {
    const now = this.#clock.now();
    if (topic === "") this.#unknownUntil = now; // the bus lost its connection: anything may have been published
    this.#at.delete(topic);
    this.#at.set(topic, now);
    for (const [oldest, at] of this.#at) {
      if (at > plus(now, ms(-KEPT)) && this.#at.size <= MOST) break;
      this.#at.delete(oldest);
      if (at > this.#unknownUntil) this.#unknownUntil = at;
    }
  }
}

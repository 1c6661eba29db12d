/**
 * What was published in the last moments, so that a page misses nothing between its making and its first `/events`.
 *
 * A page says when it was asked for. When it begins to listen, it is told all its topics that were, or may have been,
 * published since then. Each topic's last time is remembered, for KEPT and for at most MOST topics. Of forgotten topics
 * only the latest time is known: a page from before that time is told all its topics. Coordinators may answer for one
 * another, so times are wall times, and SKEW is the largest difference between their clocks that is allowed for.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { type EpochMs, type Ms, ms, plus, seconds } from "../farm/ids.ts";

export const KEPT: Ms = seconds(60);
const MOST = 10_000;
const SKEW = seconds(1);

export class RecentTopics {
  readonly #clock: Clock;
  /** Topic -> when it was published last, the oldest first. */
  readonly #at = new Map<string, EpochMs>();
  /** Nothing is known of publications before this instant. */
  #unknownUntil: EpochMs;

  constructor(bus: Bus, clock: Clock, signal: AbortSignal) {
    this.#clock = clock;
    this.#unknownUntil = clock.now();
    bus.subscribe("", (topic) => this.#note(topic), signal);
  }

  /**
   * Those of `topics` that were, or may have been, published at `since` or later. A topic that ends in `:` stands for
   * all of its kind.
   */
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

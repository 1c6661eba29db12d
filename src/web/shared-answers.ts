/**
 * Questions that many people ask at the same moment, answered once.
 *
 * Everybody who has a log open asks for its end whenever the log has grown. The first question makes the answer; all
 * who ask before the next change get the same one. An answer is dropped when its topic is published, so nobody who asks
 * after a change gets an answer from before it. HOLD limits how old an answer can get if a notice was lost, and how
 * long it stays in memory. KEPT limits how many there are.
 */

import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { type Ms, ms } from "../farm/ids.ts";

export const HOLD: Ms = ms(1000);
const KEPT = 32;

interface Shared<T> {
  readonly topic: string;
  readonly answer: Promise<T>;
}

export class SharedAnswers<T> {
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  /** Topic and question -> answer, the oldest first. */
  readonly #answers = new Map<string, Shared<T>>();

  /** Shares answers about topics that begin with `prefix`, until `signal` aborts. */
  constructor(bus: Bus, clock: Clock, prefix: string, signal: AbortSignal) {
    this.#clock = clock;
    this.#signal = signal;
    bus.subscribe(prefix, (topic) => this.#changed(topic, prefix), signal);
  }

  /** The answer of `make`, or the one that the same `question` got since `topic` was last published. */
  get(topic: string, question: string, make: () => Promise<T>): Promise<T> {
    const key = `${topic}\n${question}`;
    const known = this.#answers.get(key);
    if (known) return known.answer;
    const answer = make();
    const shared = { topic, answer };
    this.#answers.set(key, shared);
    const drop = (): void => {
      if (this.#answers.get(key) === shared) this.#answers.delete(key);
    };
    answer.catch(drop); // an error is not kept: the next question asks again
    this.#clock.sleep(HOLD, this.#signal).then(drop, drop);
    for (const oldest of this.#answers.keys()) {
      if (this.#answers.size <= KEPT) break;
      this.#answers.delete(oldest);
    }
    return answer;
  }

  #changed(topic: string, prefix: string): void {
    for (const [key, shared] of this.#answers) {
      if (shared.topic === topic || topic === prefix) this.#answers.delete(key);
    }
  }
}

/**
 * A clock that stands still until a test moves it: `await clock.advance(seconds(30))` runs every sleep that is due by
 * then.
 */
import type { Clock } from "../clock.ts";
import { type EpochMs, epochMs, type Ms } from "../ids.ts";

interface Sleeper {
  readonly due: number;
  readonly wake: () => void;
}

export class FakeClock implements Clock {
  #now: number;
  #monotonic = 0;
  readonly #sleepers = new Set<Sleeper>();

  constructor(now: EpochMs = epochMs(Date.UTC(2026, 10, 23, 12))) {
    this.#now = now;
  }

  now(): EpochMs {
    return epochMs(this.#now);
  }

  monotonic(): number {
    return this.#monotonic;
  }

  /** How many sleeps are pending. With this a test waits until the code under test sleeps. */
  get sleeping(): number {
    return this.#sleepers.size;
  }

  sleep(span: Ms, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = () => {
      this.#sleepers.delete(sleeper);
      reject(signal?.reason);
    };
    const sleeper = {
      due: this.#monotonic + span,
      wake: () => {
        signal?.removeEventListener("abort", abort);
        resolve();
      },
    };
    signal?.addEventListener("abort", abort, { once: true });
    this.#sleepers.add(sleeper);
    return promise;
  }

  /** Moves wall and monotonic time by `span`, waking sleepers in the order in which they come due. */
  async advance(span: Ms): Promise<void> {
    const end = this.#monotonic + span;
    for (;;) {
      const next = [...this.#sleepers].filter((s) => s.due <= end).sort((a, b) => a.due - b.due)[0];
      if (!next) break;
      this.#now += next.due - this.#monotonic;
      this.#monotonic = next.due;
      this.#sleepers.delete(next);
      next.wake();
      await settle();
    }
    this.#now += end - this.#monotonic;
    this.#monotonic = end;
    await settle();
  }

  /** Makes wall time jump, as when somebody sets the clock. Sleeps do not notice. */
  jump(span: Ms): void {
    this.#now += span;
  }
}

/** Lets promise callbacks run, and I/O that is ready. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/**
 * What the machines that work on the tests of one build tell each other, here and at other coordinators.
 *
 *   tests:BUILD        the tests have changed: a machine that waits looks at the database again
 *   tests-over:BUILD   the last test has ended: a machine that still runs something of the build stops it
 *
 * The bus may lose a message. So every wait for news has a limit, and a machine that misses the end of the tests loses
 * its lease.
 */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import type { BuildId, Ms } from "../farm/ids.ts";
import { TESTS_OVER } from "./publish.ts";

/** What the bus says when it may have lost messages about the tests of any build. */
const ANY_TESTS = "tests:";

export interface TestsNewsDeps {
  readonly clock: Clock;
  readonly bus: Pick<Bus, "subscribe">;
}

export class TestsNews implements Disposable {
  readonly #clock: Clock;
  readonly #over = new AbortController();
  readonly #disposed = new AbortController();
  #heard = false;
  #wake: () => void = () => {};

  constructor({ clock, bus }: TestsNewsDeps, build: BuildId) {
    this.#clock = clock;
    const changed = `${ANY_TESTS}${build}`;
    const onChange = (topic: string): void => {
      if (topic !== changed && topic !== ANY_TESTS) return;
      this.#heard = true;
      this.#wake();
    };
    const onOver = (topic: string): void => {
      if (topic !== `${TESTS_OVER}${build}`) return;
      this.#over.abort(new FarmError("canceled", "others have ended the tests"));
    };
    bus.subscribe(ANY_TESTS, onChange, this.#disposed.signal);
    bus.subscribe(TESTS_OVER, onOver, this.#disposed.signal);
  }

  /** Aborts when somebody says that the last test has ended. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Forgets the news so far. To be called before the database is read: news that comes during the read is kept. */
  forget(): void {
    this.#heard = false;
  }

  /** Resolves when there has been news since `forget`, or `limit` has passed. Rejects with the reason of `signal`. */
  async wait(limit: Ms, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#heard) return;
    const done = new AbortController();
    const heard = new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    try {
      await Promise.race([heard, this.#clock.sleep(limit, AbortSignal.any([signal, done.signal]))]);
    } finally {
      done.abort(ENOUGH);
      this.#wake = () => {};
    }
  }

  [Symbol.dispose](): void {
    this.#disposed.abort(ENOUGH);
  }
}

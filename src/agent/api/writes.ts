/**
 * What requests write into the work dir, so that nothing of one lease is written into the next one's folder.
 *
 *   open -the lease ends-> over     what is being written is given up, and waited for; what comes now is refused: whoever has the machine next comes
 *                                   once the folder is empty
 *   over -the folder is empty-> open
 *
 * What is being written is given up, too, when whoever sends it hangs up, though all of it may have come: the machine may be somebody else's by now.
 */
import type { ServerResponse } from "node:http";
import type { Clock } from "../../farm/clock.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { ApiError } from "./api-error.ts";

/** What is given up ends at once, unless the system waits for a disk. */
const END_LIMIT: Ms = seconds(20);

export class Writes {
  readonly #clock: Clock;
  readonly #running = new Map<Promise<unknown>, AbortController>();
  #lease = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Aborts when the lease of now ends: for who begins what is not waited for. */
  get lease(): AbortSignal {
    return this.#lease.signal;
  }

  /** `write` for the request that `response` answers, until it is given up: then its signal aborts, and the call rejects with why. */
  async run(response: ServerResponse, write: (signal: AbortSignal) => Promise<void>): Promise<void> {
    this.lease.throwIfAborted();
    const stop = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) stop.abort(new ApiError(400, "The upload was cut off"));
    });
    const running = write(stop.signal).finally(() => this.#running.delete(running));
    this.#running.set(running, stop);
    try {
      await running;
    } catch (error) {
      stop.signal.throwIfAborted();
      throw error;
    }
  }

  /** The lease is over: `empty` is called once nothing is being written, and nothing is until it has settled. */
  async end(empty: () => Promise<void>): Promise<void> {
    const over = new ApiError(409, "The lease is over");
    this.#lease.abort(over);
    try {
      for (const stop of this.#running.values()) stop.abort(over);
      await within(this.#clock, END_LIMIT, [], "ending uploads", () => Promise.allSettled(this.#running.keys()));
      await empty();
    } finally {
      this.#lease = new AbortController();
    }
  }
}

/**
 * What requests write into the work dir. Nothing of one lease may be written into the folder of the next lease.
 *
 *   open -the lease ends-> over            running writes are given up and waited for; new ones are refused, since the
 *                                          next lease writes only once the folder is empty
 *   over -the folder is empty-> open
 *
 * A write is also given up when its client hangs up, even if all bytes have come: by now the machine may be lent to
 * somebody else.
 */
import type { ServerResponse } from "node:http";
import type { Clock } from "../../farm/clock.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { ApiError } from "./api-error.ts";

/** How long writes that were given up may take to end. They end at once, unless the system waits for a disk. */
const END_LIMIT: Ms = seconds(20);

export class Writes {
  readonly #clock: Clock;
  readonly #running = new Map<Promise<unknown>, AbortController>();
  #lease = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Aborts when the present lease ends. It is for work that end() does not wait for. */
  get lease(): AbortSignal {
    return this.#lease.signal;
  }

  /**
   * Runs `write` for the request that `response` answers. When the write is given up its signal aborts, and the call
   * rejects with the reason.
   */
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

  /** Ends the lease: calls `empty` once no write runs, and lets none begin until that has settled. */
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

/**
 * What is typed into a pseudo-terminal. The library's own way of writing blocks this whole process until the program
 * reads. Here, what the terminal does not take is tried again, and the sender is held back.
 *
 *   empty -the terminal is full-> waiting -it takes the rest-> empty;  any -its program ended-> closed
 */
import { writeSync } from "node:fs";
import type { Clock } from "../../farm/clock.ts";
import { errnoOf } from "../../farm/errors.ts";
import { type Ms, ms } from "../../farm/ids.ts";

/** When to try a full terminal again. It does not say when there is room. */
const AGAIN: Ms = ms(10);

export class PtyInput {
  readonly #fd: number;
  readonly #clock: Clock;
  readonly #closed = new AbortController();
  /** The bytes that wait; undefined: none do. */
  #rest: Uint8Array | undefined;
  #empty: PromiseWithResolvers<void> | undefined;

  /** `fd` must not block, and must stay open until `close`. */
  constructor(fd: number, clock: Clock) {
    this.#fd = fd;
    this.#clock = clock;
  }

  /** Writes what was typed. False: wait for `drained` before the next call. */
  write(bytes: Uint8Array): boolean {
    if (this.#closed.signal.aborted) return true;
    this.#rest = this.#rest ? Buffer.concat([this.#rest, bytes]) : this.#taken(bytes);
    if (this.#rest && !this.#empty) {
      this.#empty = Promise.withResolvers();
      void this.#goOn();
    }
    return this.#rest === undefined;
  }

  drained(): Promise<void> {
    return this.#empty?.promise ?? Promise.resolve();
  }

  close(): void {
    this.#closed.abort();
  }

  async #goOn(): Promise<void> {
    const { signal } = this.#closed;
    while (this.#rest) {
      await this.#clock.sleep(AGAIN, signal).catch(() => {});
      this.#rest = signal.aborted ? undefined : this.#taken(this.#rest);
    }
    this.#empty?.resolve();
    this.#empty = undefined;
  }

  /** Writes `bytes`, and returns the rest that the terminal does not take. */
  #taken(bytes: Uint8Array): Uint8Array | undefined {
    let at = 0;
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at);
      return undefined;
    } catch (error) {
      return errnoOf(error) === "EAGAIN" ? bytes.subarray(at) : undefined; // others: its program has just ended
    }
  }
}

/**
 * The sleep of a loop: until it is called, or for a time. A call while the loop is at work ends its next sleep, so no
 * call gets lost.
 */
import { type Clock, ENOUGH } from "./clock.ts";
import { type Ms, ms } from "./ids.ts";

export class Wake {
  readonly #clock: Clock;
  readonly #stop: AbortSignal;
  #called = false;
  #rouse: () => void = () => {};

  /** After `stop` is aborted, no sleep waits any more. */
  constructor(clock: Clock, stop: AbortSignal) {
    this.#clock = clock;
    this.#stop = stop;
  }

  call(): void {
    this.#called = true;
    this.#rouse();
  }

  /** Resolves `gather` after a call, or after `span` and `gather`. All calls until then count as one. */
  async sleep(span: Ms, gather: Ms = ms(0)): Promise<void> {
    if (!this.#called) {
      const rest = new AbortController();
      this.#rouse = () => rest.abort(ENOUGH);
      await this.#clock.sleep(span, AbortSignal.any([rest.signal, this.#stop])).catch(() => {}); // called, or stopped
    }
    if (gather > 0) await this.#clock.sleep(gather, this.#stop).catch(() => {});
    this.#called = false;
  }
}

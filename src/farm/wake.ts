/** A loop's sleep: until it is called, or for so long. A call while the loop is at work ends its next sleep, so that none gets lost. */
import { type Clock, ENOUGH } from "./clock.ts";
import { type Ms, ms } from "./ids.ts";

export class Wake {
  readonly #clock: Clock;
  readonly #stop: AbortSignal;
  #called = false;
  #rouse: () => void = () => {};

  /** From the moment that `stop` is aborted nothing sleeps any more. */
  constructor(clock: Clock, stop: AbortSignal) {
    this.#clock = clock;
    this.#stop = stop;
  }

  call(): void {
    this.#called = true;
    this.#rouse();
  }

  /** Resolves after a call or after `span`, and `gather` later: what is called within that is one call. */
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

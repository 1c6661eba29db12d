/**
 * Gives memory back when the machine has nothing to do: five seconds after the last request has ended, unless V8 was
 * started without `--expose-gc` (stage0 starts it with). Status questions do not count.
 */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { type Ms, seconds } from "../farm/ids.ts";

const QUIET: Ms = seconds(5);

export class IdleMemory implements Disposable {
  readonly #clock: Clock;
  readonly #collect: unknown = Reflect.get(globalThis, "gc");
  #wait = new AbortController();
  #busy = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Notes that work begins, and returns the function that notes its end. */
  begin(): () => void {
    this.#busy++;
    this.#wait.abort(ENOUGH);
    return () => {
      if (--this.#busy === 0) this.#collectSoon();
    };
  }

  [Symbol.dispose](): void {
    this.#busy++;
    this.#wait.abort(ENOUGH);
  }

  #collectSoon(): void {
    const collect = this.#collect;
    if (typeof collect !== "function") return;
    this.#wait = new AbortController();
    this.#clock.sleep(QUIET, this.#wait.signal).then(
      () => Reflect.apply(collect, undefined, [{ type: "major", execution: "sync", flavor: "last-resort" }]),
      () => {},
    );
  }
}

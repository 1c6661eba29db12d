/**
 * What every file passes on its way, so that none takes more than it may: a limit of size, one of time, and an end when
 * nothing has moved for STALL. Both sides count alike: a sender that fell silent, and a reader that stopped reading.
 */
import { Transform, type TransformCallback } from "node:stream";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { type Ms, minutes, ms, seconds } from "../../farm/ids.ts";
import { sizeText } from "../../farm/size-text.ts";

export const STALL: Ms = seconds(60);
/** The longest time that a file may take, from its first byte to its last. */
export const LONGEST: Ms = minutes(6 * 60);

export interface MeterOptions {
  readonly clock: Clock;
  /** The file as messages name it: "the upload". */
  readonly what: string;
  /** Bytes that the file may have; undefined: it is known to be small enough. */
  readonly limitBytes?: number | undefined;
  /** Called before bytes are let past. An error that it throws ends the transfer. */
  readonly admit?: (bytes: number) => Promise<void>;
}

export class Meter extends Transform {
  readonly #options: MeterOptions;
  readonly #over = new AbortController();
  readonly #began: number;
  #moved: number;
  #bytes = 0;

  constructor(options: MeterOptions) {
    super({ highWaterMark: 1 << 18 });
    this.#options = options;
    this.#began = options.clock.monotonic();
    this.#moved = this.#began;
    this.once("close", () => this.#over.abort());
    this.on("error", () => {}); // its reader gets the error, also one from before it read
    void this.#watch();
  }

  override _transform(chunk: Buffer, _: BufferEncoding, done: TransformCallback): void {
    this.#admit(chunk).then(
      () => done(null, chunk),
      (error: Error) => done(error),
    );
  }

  async #admit(chunk: Buffer): Promise<void> {
    const { clock, what, limitBytes, admit } = this.#options;
    this.#moved = clock.monotonic();
    this.#bytes += chunk.length;
    if (limitBytes !== undefined && this.#bytes > limitBytes)
      throw new FarmError("too-large", `Cannot take ${what}: it is larger than the limit of ${sizeText(limitBytes)}`);
    if (this.#moved - this.#began > LONGEST)
      throw new FarmError("timed-out", `Cannot take ${what}: it lasts for longer than ${LONGEST / minutes(60)} hours`);
    await admit?.(chunk.length);
  }

  async #watch(): Promise<void> {
    const { clock, what } = this.#options;
    for (;;) {
      const left = this.#moved + STALL - clock.monotonic();
      if (left <= 0) {
        this.destroy(new FarmError("timed-out", `Gave up ${what}: nothing moved for ${STALL / 1000} s`));
        return;
      }
      await clock.sleep(ms(Math.ceil(left)), this.#over.signal).catch(() => {});
      if (this.#over.signal.aborted) return;
    }
  }
}

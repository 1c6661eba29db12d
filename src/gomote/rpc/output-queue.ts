/**
 * Output between a command that writes and a caller that reads. A write resolves once the caller has taken it, which
 * holds the writer back.
 */

/**
 * Bytes of one message, as in the original. With what surrounds it, one fits into the window of a stream (65,535
 * bytes), so that it is sent without a wait.
 */
const PIECE = 32 * 1024;

interface Waiting {
  readonly chunk: Buffer;
  readonly taken: () => void;
}

export class OutputQueue {
  readonly #signal: AbortSignal;
  readonly #waiting: Waiting[] = [];
  #ended: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  /** Once `signal` aborts, writes resolve at once, and what waits is not read any more. */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#left(), { once: true });
  }

  write(chunk: Uint8Array): Promise<void> {
    if (this.#signal.aborted) return Promise.resolve();
    return new Promise((taken) => {
      this.#waiting.push({ chunk: Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), taken });
      this.#wake();
    });
  }

  /** Says that nothing more is written. The reader takes what waits, and then ends, with `error` if there is one. */
  end(error: unknown): void {
    this.#ended = { error };
    this.#wake();
  }

  async *chunks(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    for (;;) {
      const waiting = this.#waiting.shift();
      if (waiting) {
        for (let at = 0; at < waiting.chunk.length; at += PIECE) {
          yield new Uint8Array(waiting.chunk.subarray(at, at + PIECE));
        }
        waiting.taken();
        continue;
      }
      if (this.#ended) {
        if (this.#ended.error !== undefined) throw this.#ended.error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  #left(): void {
    for (const { taken } of this.#waiting.splice(0)) taken();
  }
}

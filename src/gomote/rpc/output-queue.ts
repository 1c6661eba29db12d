/** Output between a command that writes and a caller that reads: a write resolves once it was taken, so one piece waits at most. */

/** Messages stay far below what a client takes. */
const PIECE = 64 * 1024;

export class OutputQueue {
  readonly #signal: AbortSignal;
  #waiting: { readonly chunk: Buffer; readonly taken: () => void } | undefined;
  #ended: { readonly error: unknown } | undefined;
  #wake: () => void = () => {};

  /** Once `signal` aborts, writes resolve at once, and nothing more is read. */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", () => this.#left(), { once: true });
  }

  write(chunk: Uint8Array): Promise<void> {
    if (this.#signal.aborted) return Promise.resolve();
    return new Promise((taken) => {
      this.#waiting = { chunk: Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength), taken };
      this.#wake();
    });
  }

  /** Nothing more is written; the reader ends after what waits, with `error` when there is one. */
  end(error: unknown): void {
    this.#ended = { error };
    this.#wake();
  }

  async *chunks(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    for (;;) {
      const waiting = this.#waiting;
      if (waiting) {
        this.#waiting = undefined;
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
    this.#waiting?.taken();
    this.#waiting = undefined;
  }
}

/**
 * Work that goes on beside something else, one run after the other: the log of the tests is told of one group while the next one runs.
 *
 *   idle -ask-> running -ended-> idle;  asked again while it runs, it runs once more after that
 *   running -failed-> failed: `failed` aborts, for whoever does not wait for it, and `done` rejects
 */
export class Beside implements AsyncDisposable {
  readonly #work: () => Promise<void>;
  readonly #failed = new AbortController();
  #asked = false;
  /** Never rejects. */
  #running: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** Aborts with the reason why the work failed; it is not done any more then. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** What there is to do from now on is done. */
  ask(): void {
    this.#asked = true;
    this.#running ??= this.#run();
  }

  /** Resolves when all is done that was asked for; rejects when it never will be. */
  async done(): Promise<void> {
    await this.#running;
    this.#failed.signal.throwIfAborted();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#asked && !this.#failed.signal.aborted) {
      this.#asked = false;
      await this.#work().catch((error: unknown) => this.#failed.abort(error));
    }
    this.#running = undefined;
  }
}

/**
 * Work in the background, one run at a time: the log of the tests receives the line of one group while the next runs.
 *
 *   idle -ask-> running -ended-> idle      asked again while it runs, it runs once more after that
 *   running -failed-> failed               `failed` aborts, `done` rejects, and nothing runs any more
 */
export class BackgroundWork implements AsyncDisposable {
  readonly #work: () => Promise<void>;
  readonly #failed = new AbortController();
  #asked = false;
  /** Never rejects. */
  #running: Promise<void> | undefined;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** Aborts when the work fails, with the reason: for callers that do not wait in `done`. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }

  /** Starts the work now, or once more when the present run has ended. */
  ask(): void {
    this.#asked = true;
    this.#running ??= this.#run();
  }

  /** Resolves when everything that was asked for is done. Rejects when the work has failed. */
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

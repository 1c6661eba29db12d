/**
 * Many small writes as few statements: items that come while one statement is under way go together into the next.
 *
 * A lone item waits for nothing. Each caller gets the result, or the error, of the statement that took its item.
 */
export class Batch<Item, Result> {
  readonly #run: (items: readonly Item[]) => Promise<Result>;
  readonly #most: number;
  #waiting: { item: Item; resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];
  #running: Promise<void> | undefined;

  constructor(most: number, run: (items: readonly Item[]) => Promise<Result>) {
    this.#most = most;
    this.#run = run;
  }

  add(item: Item): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    this.#waiting.push({ item, resolve, reject });
    this.#running ??= this.#drain();
    return promise;
  }

  /** Resolves once no statement is under way. */
  async settled(): Promise<void> {
    while (this.#running) await this.#running;
  }

  async #drain(): Promise<void> {
    await Promise.resolve(); // items that are added in this same moment go along
    while (this.#waiting.length > 0) {
      const taken = this.#waiting.splice(0, this.#most);
      try {
        const result = await this.#run(taken.map(({ item }) => item));
        for (const { resolve } of taken) resolve(result);
      } catch (error) {
        for (const { reject } of taken) reject(error);
      }
    }
    this.#running = undefined;
  }
}

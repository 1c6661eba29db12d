/**
 * Instances that a person asked for with a button. A program that asks waits on its connection; a browser goes on to
 * another page, so the coordinator waits in its place.
 *
 *   asked -allowed, and in the line-> waiting -> up
 *   waiting -destroyed, or no machine in time, or the coordinator stops-> ended; the pages say why
 */
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { Person } from "../farm/person.ts";
import type { Creations } from "../gomote/creations.ts";

export interface WaitsDeps {
  readonly creations: Pick<Creations, "create">;
  readonly log: Log;
}

export class Waits implements AsyncDisposable {
  readonly #deps: WaitsDeps;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<Promise<void>>();

  constructor(deps: WaitsDeps) {
    this.#deps = deps;
  }

  /**
   * Asks for an instance. Resolves once it stands in the line, or is up. Throws FarmError that says why there will be
   * none.
   */
  async begin(person: Person, builderType: string): Promise<void> {
    const news = this.#deps.creations.create(person, builderType, this.#stop.signal);
    const first = await news.next();
    if (first.done) return;
    const waiting = this.#follow(news).finally(() => this.#waiting.delete(waiting));
    this.#waiting.add(waiting);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "The coordinator was stopped; ask again."));
    await Promise.all(this.#waiting);
  }

  async #follow(news: AsyncGenerator<unknown>): Promise<void> {
    try {
      for await (const _ of news);
    } catch (error) {
      this.#deps.log.info({ error: messageOf(error) }, "An instance that was asked for on a page will not be there");
    }
  }
}

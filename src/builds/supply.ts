/**
 * The tarballs that a machine is to take: whether the machine waits for them, or they for the machine. An archive may
 * be read while it is still being made, so only a look at its bytes tells which of the two is slow.
 */
import { Readable } from "node:stream";
import type { Tarball } from "./sources.ts";

export class Supply {
  readonly #given: Tarball;
  #awaited = 0;

  constructor(tarball: Tarball) {
    this.#given = tarball;
  }

  /** Whether something was asked for and has not come: an archive, or more of one. */
  get isAwaited(): boolean {
    return this.#awaited > 0;
  }

  /** Gives the same archives as the function that was passed in. */
  readonly tarball: Tarball = async (repo, hash, signal) =>
    this.#passedOn(await this.#awaiting(this.#given(repo, hash, signal)));

  #passedOn(body: Readable): Readable {
    const chunks: AsyncIterator<Buffer> = body[Symbol.asyncIterator]();
    const next = () => this.#awaiting(chunks.next());
    return new Readable({
      highWaterMark: body.readableHighWaterMark,
      read(): void {
        next().then(
          ({ done, value }) => this.push(done ? null : value),
          (error: Error) => this.destroy(error),
        );
      },
      destroy(error, done): void {
        body.destroy();
        done(error);
      },
    });
  }

  async #awaiting<T>(work: Promise<T>): Promise<T> {
    this.#awaited++;
    try {
      return await work;
    } finally {
      this.#awaited--;
    }
  }
}

/**
 * The bytes of a snapshot on their way to a machine. The stream ends well only when all bytes are what the snapshot's
 * row says.
 */
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { FarmError } from "../farm/errors.ts";
import type { Snapshot } from "../store/snapshots.ts";

export class CheckedBytes {
  readonly #snapshot: Snapshot;
  readonly #open: () => Promise<Readable>;
  /** Whether all bytes were passed on, and were right. */
  whole = false;
  /** Why the bytes were wrong, or could not be read; undefined: so far nothing went wrong. */
  trouble: unknown;

  constructor(snapshot: Snapshot, open: () => Promise<Readable>) {
    this.#snapshot = snapshot;
    this.#open = open;
  }

  async *read(): AsyncGenerator<Buffer> {
    try {
      yield* this.#checked();
    } catch (error) {
      this.trouble = error;
      throw error;
    }
  }

  async *#checked(): AsyncGenerator<Buffer> {
    const { bytes, sha256 } = this.#snapshot;
    const hash = createHash("sha256");
    let given = 0;
    const body: AsyncIterable<Buffer> = await this.#open();
    for await (const chunk of body) {
      given += chunk.length;
      if (given > bytes) break;
      hash.update(chunk);
      yield chunk;
    }
    if (given !== bytes) {
      throw new FarmError(
        "internal",
        `the snapshot is damaged: it has ${given > bytes ? "more than" : `${given} of`} ${bytes} bytes`,
      );
    }
    if (hash.digest("hex") !== sha256) {
      throw new FarmError("internal", "the snapshot is damaged: its SHA-256 is not what it was when it was stored");
    }
    this.whole = true;
  }
}

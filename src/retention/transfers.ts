/**
 * Files on their way between people and machines (gomote/transfers/), once nobody may use them any more: theirs are minutes, not days, so they are
 * not left for the hourly pass.
 *
 * Rows go first, by whichever coordinator comes to it; bytes go where they lie, once they have no row. A row is there before the first byte and
 * goes only when it has expired, so what is found without one belongs to nobody, also when a coordinator died in between.
 */
import type { Blobs } from "../blobs/blobs.ts";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { every } from "../farm/every.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import type { Sql } from "../store/sql.ts";
import { deleteTransfers, livingTransfers, TRANSFER_BLOBS } from "../store/transfers.ts";

export const EXPIRE_EVERY: Ms = minutes(5);
/** Rows at a time. */
const ROWS = 500;

export interface ExpiredTransfersDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly blobs: Pick<Blobs, "list" | "delete">;
}

export class ExpiredTransfers implements AsyncDisposable {
  readonly #deps: ExpiredTransfersDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  constructor(deps: ExpiredTransfersDeps) {
    this.#deps = deps;
    const failed = "Could not delete transfers that expired; trying again later";
    this.#loop = every(EXPIRE_EVERY, () => this.#look(), failed, deps, this.#stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #look(): Promise<void> {
    const { sql, clock, blobs } = this.#deps;
    while ((await deleteTransfers(sql, clock.now(), ROWS)) === ROWS);
    const found = await blobs.list(TRANSFER_BLOBS);
    const ids = new Map(found.map(({ key }) => [key, key.slice(TRANSFER_BLOBS.length + 1)]));
    const living = await livingTransfers(sql, [...ids.values()]);
    for (const [key, id] of ids) {
      if (!living.has(id)) await blobs.delete(key);
    }
  }
}

/**
 * POST /removeall. Removals take turns: a removal whose client has hung up still ends before the next one is answered,
 * so it cannot delete what the next client writes after that answer.
 *
 *   asked -earlier ones are done-> works -> done     refused after TURN_LIMIT: one of the earlier ones may never end
 *
 * A removal that ends a lease first ends everything that runs or is being written. It is refused when that fails.
 */
import type { Clock } from "../../farm/clock.ts";
import { type Ms, minutes } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { orSay } from "./api-error.ts";
import type { Writes } from "./writes.ts";

/** A coordinator waits for ten minutes, so a large tree has time. Shortly before, it hears what is in the way. */
const TURN_LIMIT: Ms = minutes(9);

export interface RemovalsDeps {
  readonly clock: Clock;
  readonly workDir: string;
  readonly writes: Writes;
  /** Ends everything that the lease left running. */
  readonly endLease: () => Promise<void>;
}

export class Removals {
  readonly #deps: RemovalsDeps;
  /** Settles when nothing is being removed. */
  #working: Promise<unknown> = Promise.resolve();

  constructor(deps: RemovalsDeps) {
    this.#deps = deps;
  }

  /** `goesOn`: the client says that the lease goes on, though the work dir is emptied. */
  async remove(paths: readonly string[], goesOn: boolean): Promise<void> {
    const isLeaseOver = !goesOn && paths.includes(".");
    const before = this.#working;
    const turn = within(this.#deps.clock, TURN_LIMIT, [], "what was to be deleted before", () => before);
    const removed = turn.then(() => this.#remove(paths, isLeaseOver));
    this.#working = Promise.allSettled([before, removed]);
    await orSay("Cannot delete", () => removed);
  }

  async #remove(paths: readonly string[], isLeaseOver: boolean): Promise<void> {
    const { removeAll } = await import("./remove-all.ts");
    const { workDir, writes, endLease } = this.#deps;
    if (!isLeaseOver) return await removeAll(workDir, paths);
    await orSay("Cannot give this machine to anybody else", () =>
      writes.end(async () => {
        await endLease();
        await removeAll(workDir, paths);
      }),
    );
  }
}

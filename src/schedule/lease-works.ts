/**
 * The leases that this process works on, each from its claim or adoption until its worker has given the machine back.
 *
 *   started -work-> over        once per epoch of a lease, however often it is started
 *   a later epoch               the machine came back before we knew that it was gone: the work of the earlier epoch is
 *                               ended first, with `lease-lost`
 *   told to stop                ends all work with the given reason, and whatever is started from then on
 */
import { FarmError } from "../farm/errors.ts";
import type { LeaseId } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";

/** The work on one lease. `About` is what its worker learns about it. */
export class LeaseWork<About> {
  readonly lease: Lease;
  readonly stop: AbortController = new AbortController();
  about: About | undefined;
  /** Never rejects. */
  done: Promise<void> = Promise.resolve();

  constructor(lease: Lease) {
    this.lease = lease;
  }
}

export interface LeaseWorksDeps<About> {
  /** Works on the lease. Ends soon after the work was told to stop. */
  readonly run: (work: LeaseWork<About>) => Promise<void>;
  /** Reports that `run` rejected. */
  readonly failed: (lease: Lease, error: unknown) => void;
  /** The reason for stopping work when everything ends. */
  readonly stopping: () => FarmError;
}

export class LeaseWorks<About> implements AsyncDisposable {
  readonly #deps: LeaseWorksDeps<About>;
  readonly #works = new Map<LeaseId, LeaseWork<About>>();
  readonly #stop = new AbortController();

  constructor(deps: LeaseWorksDeps<About>) {
    this.#deps = deps;
  }

  /** Aborts when everything ends. */
  get stopping(): AbortSignal {
    return this.#stop.signal;
  }

  get all(): readonly LeaseWork<About>[] {
    return [...this.#works.values()];
  }

  get(lease: LeaseId): LeaseWork<About> | undefined {
    return this.#works.get(lease);
  }

  start(lease: Lease): void {
    const earlier = this.#works.get(lease.id);
    if (earlier && earlier.lease.epoch >= lease.epoch) return;
    const work = new LeaseWork<About>(lease);
    this.#works.set(lease.id, work);
    if (this.#stop.signal.aborted) work.stop.abort(this.#deps.stopping());
    earlier?.stop.abort(new FarmError("lease-lost", "its machine came back over another connection"));
    work.done = (earlier ? earlier.done.then(() => this.#deps.run(work)) : this.#deps.run(work))
      .catch((error: unknown) => this.#deps.failed(lease, error))
      .finally(() => {
        if (this.#works.get(lease.id) === work) this.#works.delete(lease.id);
      });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(this.#deps.stopping());
    for (const { stop } of this.all) stop.abort(this.#deps.stopping());
    await Promise.all(this.all.map(({ done }) => done));
  }
}

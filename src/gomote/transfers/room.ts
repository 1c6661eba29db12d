/**
 * Room for files that arrive: on the disk, for all of them together, and for each person.
 *
 *   admitted -written-> on the disk;  admitted -its file ends-> given back
 *
 * What is admitted and not yet written is counted, and what the disk has left is looked at together with that count: of any number of files that
 * arrive at once none is told of room that another was promised. A look is good for AT_A_LOOK bytes of all together.
 *
 * Of one person's files, what is kept is asked for and a file becomes one that is kept one after the other: it is in an answer, or added to it.
 */
import { LEAVE_FREE } from "../../builds/snapshots.ts";
import { FarmError } from "../../farm/errors.ts";
import type { PersonId } from "../../farm/ids.ts";
import { sizeText } from "../../farm/size-text.ts";

/** Files of one person that arrive at a time, at least; more where they may have more instances. */
const MOST_ARRIVING = 32;
/** Above one for each instance. */
const SOME_MORE = 12;
/** All files of one person, in files of the largest size. */
export const MOST_KEPT = 2;
const AT_A_LOOK = 64 * 1024 ** 2;

export interface RoomDeps {
  /** Bytes that the disk has left. */
  readonly free: () => Promise<number>;
  /** Bytes of a person's files that came whole and have not expired. */
  readonly kept: (owner: PersonId) => Promise<number>;
  /** Of one file. */
  readonly limitBytes: () => number;
  /** Instances that one person may have. */
  readonly perPerson: () => number;
}

interface Owner {
  readonly id: PersonId;
  arriving: number;
  /** Bytes of those that arrive. */
  coming: number;
  /** Bytes that were kept when their last file began, and of those that came whole since. */
  kept: number;
  /** Who asks what is kept, or changes it. */
  turns: Promise<unknown>;
}

/** Of one file. */
export interface Share {
  readonly owner: Owner;
  coming: number;
  unwritten: number;
  ended: boolean;
}

export class Room {
  readonly #deps: RoomDeps;
  readonly #owners = new Map<PersonId, Owner>();
  /** Bytes admitted and not yet written. */
  #unwritten = 0;
  /** What the last look is good for still. */
  #allowed = 0;
  #turns: Promise<void> = Promise.resolve();

  constructor(deps: RoomDeps) {
    this.#deps = deps;
  }

  /** For one file more of somebody's; to be ended. Throws FarmError `too-large` when they have too many. */
  async begin(id: PersonId): Promise<Share> {
    const owner = this.#owners.get(id) ?? { id, arriving: 0, coming: 0, kept: 0, turns: Promise.resolve() };
    const most = Math.max(MOST_ARRIVING, this.#deps.perPerson() + SOME_MORE);
    if (owner.arriving >= most)
      throw new FarmError(
        "too-large",
        `Cannot take another file of yours: ${owner.arriving} are on their way, and ${most} may be at a time; wait until one has come`,
      );
    owner.arriving++;
    this.#owners.set(id, owner);
    const share = { owner, coming: 0, unwritten: 0, ended: false };
    try {
      await inTurn(owner, async () => {
        owner.kept = await this.#deps.kept(id);
      });
      this.#throwIfOver(owner, 1);
      return share;
    } catch (error) {
      this.end(share);
      throw error;
    }
  }

  /** Before bytes are written. Throws FarmError `too-large` when their owner has too many, `unavailable` when there is no room. */
  async admit(share: Share, bytes: number): Promise<void> {
    this.#throwIfOver(share.owner, bytes);
    share.owner.coming += bytes;
    share.coming += bytes;
    // One after another: nobody else is let past while somebody looks.
    const turn = this.#turns.then(() => this.#promise(bytes));
    this.#turns = turn.catch(() => {});
    await turn;
    if (share.ended) this.#unwritten -= bytes;
    else share.unwritten += bytes;
  }

  /** They are on the disk. */
  wrote(share: Share, bytes: number): void {
    share.unwritten -= bytes;
    this.#unwritten -= bytes;
  }

  /** All of it came: `keeps` says so in the database, and whether it did. */
  async keep(share: Share, keeps: () => Promise<boolean>): Promise<boolean> {
    const { owner } = share;
    return await inTurn(owner, async () => {
      const kept = await keeps();
      if (!kept) return false;
      owner.kept += share.coming;
      owner.coming -= share.coming;
      share.coming = 0;
      return true;
    });
  }

  /** Gives back what was not written, and what is not kept. */
  end(share: Share): void {
    const { owner, coming, unwritten } = share;
    share.ended = true;
    this.#unwritten -= unwritten;
    owner.coming -= coming;
    owner.arriving--;
    if (owner.arriving === 0) this.#owners.delete(owner.id);
  }

  async #promise(bytes: number): Promise<void> {
    if (bytes > this.#allowed) {
      this.#allowed = 0;
      const unwritten = this.#unwritten;
      const free = await this.#deps.free();
      const left = free - LEAVE_FREE - unwritten;
      if (left < bytes)
        throw new FarmError(
          "unavailable",
          `The coordinator's disk has only ${sizeText(free)} left${unwritten === 0 ? "" : `, ${sizeText(unwritten)} of it for files on their way`}, and leaves ${sizeText(LEAVE_FREE)} free; try again later`,
        );
      this.#allowed = Math.min(left, Math.max(bytes, AT_A_LOOK));
    }
    this.#allowed -= bytes;
    this.#unwritten += bytes;
  }

  #throwIfOver({ kept, coming }: Owner, bytes: number): void {
    const most = MOST_KEPT * this.#deps.limitBytes();
    if (kept + coming + bytes <= most) return;
    throw new FarmError(
      "too-large",
      `Cannot take more files of yours: ${sizeText(kept)} are kept and ${sizeText(coming)} on their way, of at most ${sizeText(most)}; what came is kept for ten minutes`,
    );
  }
}

async function inTurn<T>(owner: Owner, work: () => Promise<T>): Promise<T> {
  const turn = owner.turns.then(work);
  owner.turns = turn.catch(() => {});
  return await turn;
}

/**
 * Room for files that arrive: on the disk, for all of them together, and for each person.
 *
 *   admitted -written-> on the disk;  admitted -its file ends-> given back
 *
 * Bytes that are admitted and not yet written are counted, and that count is taken off what the disk has left. So of
 * any number of files that arrive at once no two are promised the same room. One look at the disk is good for AT_A_LOOK
 * bytes of all files together.
 *
 * For each person, two things happen one after the other and never at once: reading how much is kept, and making an
 * arrived file one that is kept. So a file is either part of what was read, or is added to it.
 */
import { LEAVE_FREE } from "../../builds/snapshots.ts";
import { FarmError } from "../../farm/errors.ts";
import type { PersonId } from "../../farm/ids.ts";
import { sizeText } from "../../farm/size-text.ts";

/** Files of one person that may arrive at a time. A person who may have many instances gets more. */
const MOST_ARRIVING = 32;
/** Files that may arrive at a time above one for each instance. */
const SOME_MORE = 12;
/** Room for all files of one person, in files of the largest size. */
export const MOST_KEPT = 2;
const AT_A_LOOK = 64 * 1024 ** 2;

export interface RoomDeps {
  /** Bytes that the disk has left. */
  readonly free: () => Promise<number>;
  /** Bytes of a person's files that came whole and have not expired. */
  readonly kept: (owner: PersonId) => Promise<number>;
  /** Bytes that one file may have. */
  readonly limitBytes: () => number;
  /** Instances that one person may have. */
  readonly perPerson: () => number;
}

interface Owner {
  readonly id: PersonId;
  arriving: number;
  /** Bytes of their files that are arriving. */
  coming: number;
  /** Bytes that were kept when their last file began, with those of files that came whole since. */
  kept: number;
  /** The last of those that read or change `kept`, one after another. */
  turns: Promise<unknown>;
}

/** The room of one file. */
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
  /** Bytes that may be admitted before the disk is looked at again. */
  #allowed = 0;
  #turns: Promise<void> = Promise.resolve();

  constructor(deps: RoomDeps) {
    this.#deps = deps;
  }

  /**
   * Begins one more file of a person; the share has to be ended. Throws FarmError `too-large` when they have too many.
   */
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

  /**
   * Asks for room before bytes are written. Throws FarmError `too-large` when their owner has too many, `unavailable`
   * when the disk has no room.
   */
  async admit(share: Share, bytes: number): Promise<void> {
    this.#throwIfOver(share.owner, bytes);
    share.owner.coming += bytes;
    share.coming += bytes;
    // One after another: nothing else is admitted while the disk is looked at.
    const turn = this.#turns.then(() => this.#promise(bytes));
    this.#turns = turn.catch(() => {});
    await turn;
    if (share.ended) this.#unwritten -= bytes;
    else share.unwritten += bytes;
  }

  /** Says that bytes are on the disk. */
  wrote(share: Share, bytes: number): void {
    share.unwritten -= bytes;
    this.#unwritten -= bytes;
  }

  /** Keeps a file that came whole: `keeps` says so in the database, and returns whether it did. */
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

  /** Ends a file. Gives back its room that was not written, and its bytes if it is not kept. */
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

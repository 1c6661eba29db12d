/**
 * Digests of files that were listed before, so that a push which changes little does not have 50,000 files read.
 *
 * A digest is valid while size, inode and both times of its file are unchanged; nobody can set the time of the last
 * change of an inode. A file that was changed within RACY_MS before it was read may change once more within the same
 * tick of the clock, so its digest is not kept. The digests of the MOST_FOLDERS folders listed last are kept, at most
 * MOST_FILES of each.
 */
import type { Stats } from "node:fs";
import type { Clock } from "../../farm/clock.ts";

const RACY_MS = 2000;
const MOST_FOLDERS = 2;
const MOST_FILES = 200_000;

interface Known {
  readonly size: number;
  readonly inode: number;
  readonly modified: number;
  readonly changed: number;
  readonly sha1: string;
}

export class KnownDigests {
  readonly #clock: Pick<Clock, "now">;
  /** Folder → name → what is known. The folder that was listed last stands at the end. */
  readonly #folders = new Map<string, ReadonlyMap<string, Known>>();
  /** Folder → name → what this listing has found so far. */
  readonly #found = new Map<string, Map<string, Known>>();

  constructor(clock: Pick<Clock, "now">) {
    this.#clock = clock;
  }

  /** The digest of the file `name` of `folder`: the known one, or else the result of `read`. */
  of(
    folder: string,
    name: string,
    { size, ino: inode, mtimeMs: modified, ctimeMs: changed }: Stats,
    read: () => string,
  ): string {
    const known = this.#folders.get(folder)?.get(name);
    if (known?.size === size && known.inode === inode && known.modified === modified && known.changed === changed) {
      this.#note(folder, name, known);
      return known.sha1;
    }
    const began = this.#clock.now();
    const sha1 = read();
    if (Math.max(modified, changed) < began - RACY_MS)
      this.#note(folder, name, { size, inode, modified, changed, sha1 });
    return sha1;
  }

  /** Ends the listing of `folder`: what it found replaces what was known. */
  keep(folder: string): void {
    const found = this.#found.get(folder);
    this.#found.delete(folder);
    this.#folders.delete(folder);
    if (found) this.#folders.set(folder, found);
    const [oldest] = this.#folders.keys();
    if (this.#folders.size > MOST_FOLDERS && oldest !== undefined) this.#folders.delete(oldest);
  }

  #note(folder: string, name: string, known: Known): void {
    let found = this.#found.get(folder);
    if (!found) {
      found = new Map();
      this.#found.set(folder, found);
    }
    if (found.size < MOST_FILES) found.set(name, known);
  }
}

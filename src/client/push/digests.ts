/**
 * SHA-1 digests of local files, remembered from one push to the next.
 *
 * A digest is good for as long as size, inode, and both times of the file are what they were when it was read; a file that was changed
 * within RACY_MS before it was read may change once more without any of these telling, so its digest is not kept. The record of a tree is
 * one file in the cache folder; without it, or when it cannot be read, everything is read again.
 */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import { errnoOf } from "../../farm/errors.ts";

const RACY_MS = 2000;
const CHUNK = 1 << 20;
/** So many files are read in one go; in between, the connection gets its turn. */
const AT_ONCE = 200;

export interface LocalFile {
  readonly name: string;
  readonly size: number;
  readonly executable: boolean;
  /** Lower-case hex; of a link, its target instead. */
  readonly content: { readonly sha1: string } | { readonly target: string };
}

export interface Scan {
  readonly files: readonly LocalFile[];
  /** Names that are folders: submodules, in a list of git's. */
  readonly folders: readonly string[];
  /** Names that are neither files nor links, or no text that a listing could hold. */
  readonly odd: readonly string[];
}

/** size, inode, changed, changed inside or out */
type Mark = readonly [number, number, number, number];

export class Digests {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #before: ReadonlyMap<string, readonly [...Mark, string]>;
  readonly #now = new Map<string, readonly [...Mark, string]>();
  #read = 0;

  private constructor(path: string, clock: Clock, before: ReadonlyMap<string, readonly [...Mark, string]>) {
    this.#path = path;
    this.#clock = clock;
    this.#before = before;
  }

  static async open(cacheFolder: string, root: string, clock: Clock): Promise<Digests> {
    const path = join(cacheFolder, "digests", `${createHash("sha1").update(root).digest("hex")}.json`);
    return new Digests(path, clock, await load(path));
  }

  /** How many files had to be read. */
  get read(): number {
    return this.#read;
  }

  /** The files called `names` below `root`; those that are gone are left out. */
  async scan(root: string, names: readonly string[]): Promise<Scan> {
    const files: LocalFile[] = [];
    const folders: string[] = [];
    const odd: string[] = [];
    const scratch = Buffer.allocUnsafe(CHUNK);
    for (let at = 0; at < names.length; at += AT_ONCE) {
      for (const name of names.slice(at, at + AT_ONCE)) {
        const path = join(root, name);
        const stats = lstatIfThere(path);
        if (stats === undefined) continue;
        if (stats.isDirectory()) folders.push(name);
        else if (/[\ufffd\n]/.test(name)) odd.push(name);
        else if (stats.isSymbolicLink())
          files.push({ name, size: 0, executable: false, content: { target: readlinkSync(path) } });
        else if (stats.isFile())
          files.push({
            name,
            size: stats.size,
            executable: (stats.mode & 0o100) !== 0,
            content: { sha1: this.#digest(name, path, stats, scratch) },
          });
        else odd.push(name);
      }
      await new Promise<void>((next) => setImmediate(next));
    }
    return { files, folders, odd };
  }

  async save(): Promise<void> {
    if (this.#read === 0 && this.#now.size === this.#before.size) return;
    await mkdir(join(this.#path, ".."), { recursive: true, mode: 0o700 });
    const draft = `${this.#path}.${process.pid}`;
    await writeFile(draft, JSON.stringify([...this.#now].map(([name, entry]) => [name, ...entry])));
    await rename(draft, this.#path);
  }

  #digest(name: string, path: string, stats: Stats, scratch: Buffer): string {
    const { size, ino, mtimeMs, ctimeMs } = stats;
    const known = this.#before.get(name);
    if (known && known[0] === size && known[1] === ino && known[2] === mtimeMs && known[3] === ctimeMs) {
      this.#now.set(name, known);
      return known[4];
    }
    this.#read++;
    const began = this.#clock.now();
    const sha1 = sha1Of(path, scratch);
    if (Math.max(mtimeMs, ctimeMs) < began - RACY_MS) this.#now.set(name, [size, ino, mtimeMs, ctimeMs, sha1]);
    return sha1;
  }
}

async function load(path: string): Promise<ReadonlyMap<string, readonly [...Mark, string]>> {
  try {
    const rows = JSON.parse(await readFile(path, "utf8")) as (readonly [string, ...Mark, string])[];
    return new Map(rows.map(([name, ...entry]) => [name, entry]));
  } catch {
    return new Map(); // only a cache
  }
}

function lstatIfThere(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

function sha1Of(path: string, scratch: Buffer): string {
  const hash = createHash("sha1");
  const fd = openSync(path, "r");
  try {
    for (;;) {
      const read = readSync(fd, scratch, 0, scratch.length, null);
      if (read === 0) return hash.digest("hex");
      hash.update(scratch.subarray(0, read));
    }
  } finally {
    closeSync(fd);
  }
}

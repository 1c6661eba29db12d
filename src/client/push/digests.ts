/**
 * SHA-1 digests of local files, remembered from one push to the next.
 *
 * A digest is valid while size, inode, and both times of the file are what they were when it was read. A file that was
 * changed within RACY_MS before it was read may change once more without a trace in any of these, so its digest is not
 * kept. The record of a tree is one file in the cache folder. Without it, or when it cannot be read, everything is read
 * again.
 */
import { createHash } from "node:crypto";
import { closeSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from "node:fs";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import { errnoOf } from "../../farm/errors.ts";

const RACY_MS = 2000;
const CHUNK = 1 << 20;
/** How many files are read in one go. In between, the connection gets its turn. */
const AT_ONCE = 200;

export interface LocalFile {
  readonly name: string;
  readonly size: number;
  readonly executable: boolean;
  /** The digest in lower-case hex, or the target of a link. */
  readonly content: { readonly sha1: string } | { readonly target: string };
}

export interface Scan {
  readonly files: readonly LocalFile[];
  /** Names that are folders: submodules, in a list from git. */
  readonly folders: readonly string[];
  /** Names that are not UTF-8, and names of anything that is not a file or a link. */
  readonly odd: readonly string[];
}

/** The numbers of each file: size, inode, and the times of the last change of its content and of its inode. */
const MARKS = 4;
const SHA1_BYTES = 20;
const MAGIC = "barnraiser digests 1\n";

/**
 * What was known of the files of one tree. Numbers and digests lie in arrays, so that nothing is parsed after reading.
 */
class Known {
  readonly names: readonly string[];
  readonly #marks: Float64Array;
  readonly #digests: Buffer;
  readonly #places: ReadonlyMap<string, number>;

  constructor(names: readonly string[], marks: Float64Array, digests: Buffer) {
    this.names = names;
    this.#marks = marks;
    this.#digests = digests;
    this.#places = new Map(names.map((name, at) => [name, at]));
  }

  /** The digest of the file, unless size, inode or times show a change. */
  of(name: string, { size, ino, mtimeMs, ctimeMs }: Stats): string | undefined {
    const place = this.#places.get(name);
    if (place === undefined) return undefined;
    const [marks, at] = [this.#marks, place * MARKS];
    if (marks[at] !== size || marks[at + 1] !== ino || marks[at + 2] !== mtimeMs || marks[at + 3] !== ctimeMs)
      return undefined;
    return this.#digests.toString("hex", place * SHA1_BYTES, (place + 1) * SHA1_BYTES);
  }
}

export class Digests {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #before: Known;
  readonly #now = { names: [] as string[], marks: [] as number[], sha1s: [] as string[] };
  #read = 0;

  private constructor(path: string, clock: Clock, before: Known) {
    this.#path = path;
    this.#clock = clock;
    this.#before = before;
  }

  static async open(cacheFolder: string, root: string, clock: Clock): Promise<Digests> {
    const path = join(cacheFolder, "digests", createHash("sha1").update(root).digest("hex"));
    return new Digests(path, clock, await load(path));
  }

  /** The number of files that had to be read. */
  get read(): number {
    return this.#read;
  }

  /** The files with these `names` below `root`, without those that are gone. */
  async scan(root: string, names: readonly string[]): Promise<Scan> {
    const files: LocalFile[] = [];
    const folders: string[] = [];
    const odd: string[] = [];
    const scratch = Buffer.allocUnsafe(CHUNK);
    for (let at = 0; at < names.length; at += AT_ONCE) {
      for (const name of names.slice(at, at + AT_ONCE)) {
        if (name.includes("\ufffd")) {
          odd.push(name);
          continue;
        }
        const path = `${root}/${name}`;
        const stats = lstatIfThere(path);
        if (stats === undefined) continue;
        if (stats.isDirectory()) folders.push(name);
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
    const { names, marks, sha1s } = this.#now;
    if (this.#read === 0 && names.length === this.#before.names.length) return;
    const draft = `${this.#path}.${process.pid}`;
    await mkdir(join(this.#path, ".."), { recursive: true, mode: 0o700 });
    await writeFile(draft, [
      MAGIC,
      new Float64Array([names.length]),
      new Float64Array(marks),
      Buffer.from(sha1s.join(""), "hex"),
      names.join("\0"),
    ]);
    await rename(draft, this.#path);
  }

  #digest(name: string, path: string, stats: Stats, scratch: Buffer): string {
    const known = this.#before.of(name, stats);
    if (known !== undefined) {
      this.#note(name, stats, known);
      return known;
    }
    this.#read++;
    const began = this.#clock.now();
    const sha1 = sha1Of(path, scratch);
    if (Math.max(stats.mtimeMs, stats.ctimeMs) < began - RACY_MS) this.#note(name, stats, sha1);
    return sha1;
  }

  #note(name: string, { size, ino, mtimeMs, ctimeMs }: Stats, sha1: string): void {
    this.#now.names.push(name);
    this.#now.marks.push(size, ino, mtimeMs, ctimeMs);
    this.#now.sha1s.push(sha1);
  }
}

/** Reads the record of a tree: MAGIC, the count, four numbers per file, a digest per file, names separated by NUL. */
async function load(path: string): Promise<Known> {
  const nothing = new Known([], new Float64Array(), Buffer.alloc(0));
  const bytes = await readFile(path).catch(() => undefined); // it is only a cache
  if (bytes?.toString("latin1", 0, MAGIC.length) !== MAGIC) return nothing;
  const numbersAt = (from: number, to: number) =>
    new Float64Array(bytes.buffer.slice(bytes.byteOffset + from, bytes.byteOffset + to));
  const marks = MAGIC.length + 8;
  const [count = 0] = numbersAt(MAGIC.length, marks);
  const digests = marks + count * MARKS * 8;
  const names = bytes.toString("utf8", digests + count * SHA1_BYTES).split("\0");
  if (names.length !== count) return nothing;
  return new Known(names, numbersAt(marks, digests), bytes.subarray(digests, digests + count * SHA1_BYTES));
}

function lstatIfThere(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    if (errnoOf(error) === "ENOTDIR") return undefined;
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

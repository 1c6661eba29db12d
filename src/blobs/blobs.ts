/**
 * Blobs: byte strings too large for the database, kept by name in one folder.
 *
 * A key is a path of plain names, such as `tarballs/app/0123abcd.tar.gz`. A blob is there whole or not at all: it is
 * written under a temporary name beside the others, and then renamed. Nothing outside the folder is ever read or
 * written, since no key can name it.
 *
 * Several coordinators may share a folder. Half-written blobs of one that died are removed by an `open` later than
 * ABANDONED.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, minutes } from "../farm/ids.ts";
import { Growing } from "./growing.ts";

/** A blob as it stands in the folder. */
export interface Blob {
  readonly key: string;
  readonly bytes: number;
  /** When it was written, or `touch`ed last, in milliseconds since 1970. */
  readonly usedAt: number;
}

export interface Written {
  readonly bytes: number;
  /** The SHA-256 of the bytes, in hex. */
  readonly digest: string;
}

const PARTIAL = ".partial";
/** How long ago the last byte of a half-written file must have come before it is removed. */
const ABANDONED = minutes(60);

export class Blobs {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  static async open(root: string, now: EpochMs): Promise<Blobs> {
    const partial = join(root, PARTIAL);
    await mkdir(partial, { recursive: true });
    for (const name of await readdir(partial)) {
      const path = join(partial, name);
      const found = await stat(path).catch(() => undefined); // another coordinator may have ended it by now
      if (found && found.mtimeMs < now - ABANDONED) await rm(path, { recursive: true, force: true });
    }
    return new Blobs(root);
  }

  /** Keeps all of `content` under `key`, in place of what was there. When `content` fails, nothing has changed. */
  put(key: string, content: AsyncIterable<Uint8Array>): Promise<Written> {
    return this.begin(() => key, content).written;
  }

  /** As `put`, with a key that is made from what was written. The bytes so far can be read meanwhile. */
  begin(
    key: (written: Written) => string,
    content: AsyncIterable<Uint8Array>,
  ): { readonly growing: Growing; readonly written: Promise<Written> } {
    const growing = new Growing(join(this.#root, PARTIAL, randomBytes(12).toString("hex")));
    return { growing, written: this.#write(growing, key, content) };
  }

  async #write(
    growing: Growing,
    key: (written: Written) => string,
    content: AsyncIterable<Uint8Array>,
  ): Promise<Written> {
    try {
      const written = await write(growing, content);
      const path = this.#path(key(written));
      await mkdir(dirname(path), { recursive: true });
      await rename(growing.path, path);
      growing.end();
      return written;
    } catch (error) {
      await rm(growing.path, { force: true });
      const full = isCode(error, "ENOSPC") || isCode(error, "EDQUOT");
      const text = `Cannot keep a blob: the disk of ${this.#root} is full`;
      const told = full ? new FarmError("unavailable", text, { cause: error }) : error;
      growing.fail(told);
      throw told;
    }
  }

  /** The bytes of a blob, whole even if it is deleted or replaced meanwhile. Throws FarmError `not-found`. */
  async get(key: string): Promise<Readable> {
    const file = await open(this.#path(key)).catch((error: unknown) => noSuch(key, error));
    return file.createReadStream({ highWaterMark: 1 << 18 });
  }

  /** All bytes of a blob at once. Only for small blobs. */
  async whole(key: string): Promise<Buffer> {
    return await readFile(this.#path(key)).catch((error: unknown) => noSuch(key, error));
  }

  /** A blob as it stands in the folder. Undefined: there is no such blob. */
  async stat(key: string): Promise<Blob | undefined> {
    try {
      const { size, mtimeMs } = await stat(this.#path(key));
      return { key, bytes: size, usedAt: mtimeMs };
    } catch (error) {
      if (isCode(error, "ENOENT") || isCode(error, "ENOTDIR")) return undefined;
      throw error;
    }
  }

  /** Notes that a blob was used at `at`, milliseconds since 1970. */
  async touch(key: string, at: number): Promise<void> {
    await utimes(this.#path(key), at / 1000, at / 1000);
  }

  /** How many bytes the disk has free. */
  async free(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#root);
    return bavail * bsize;
  }

  /** Deletes a blob. Does nothing when there is no such blob. */
  async delete(key: string): Promise<void> {
    await rm(this.#path(key), { force: true });
  }

  /** All blobs whose keys begin with the key `prefix`. */
  async list(prefix: string): Promise<Blob[]> {
    const names = await readdir(this.#path(prefix), { recursive: true, withFileTypes: true }).catch(
      (error: unknown) => {
        if (isCode(error, "ENOENT")) return [];
        throw error;
      },
    );
    const keys = names
      .filter((entry) => entry.isFile())
      .map((entry) =>
        join(entry.parentPath, entry.name)
          .slice(this.#root.length + 1)
          .replaceAll("\\", "/"),
      );
    const blobs = await Promise.all(keys.map((key) => this.stat(key)));
    return blobs.filter((blob) => blob !== undefined);
  }

  #path(key: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/.test(key) || key.length > 400) {
      throw new FarmError(
        "bad-request",
        `Cannot use ${JSON.stringify(key)} as the key of a blob: want plain names with '/' between`,
      );
    }
    return join(this.#root, key);
  }
}

function noSuch(key: string, error: unknown): never {
  if (!isCode(error, "ENOENT")) throw error;
  throw new FarmError("not-found", `Cannot read ${JSON.stringify(key)}: there is no such blob`, { cause: error });
}

async function write(growing: Growing, content: AsyncIterable<Uint8Array>): Promise<Written> {
  const hash = createHash("sha256");
  let bytes = 0;
  const file = await open(growing.path, "wx");
  try {
    for await (const chunk of content) {
      hash.update(chunk);
      bytes += chunk.length;
      await file.writeFile(chunk);
      growing.advance(chunk.length);
    }
    // Before the rename: else a power cut could leave the name of a blob on an empty file.
    await file.datasync();
  } finally {
    await file.close();
  }
  return { bytes, digest: hash.digest("hex") };
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

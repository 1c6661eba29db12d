/**
 * GET /tgz: a folder as tar.gz, in several gzip members (wire/tar/gzip-members.ts). Links are stored as links.
 *
 * The archive holds what was there at the beginning: names are listed first, and files are then read by synchronous
 * calls, a few for each, as in unpack.ts. Anything that cannot be read ends the stream without its last chunk, so that
 * nobody takes half an archive for a whole one. A snapshot is packed while tests run in the same folder
 * (pack-beside.ts); it leaves out what has gone away meanwhile. packFiles() looks only at the files that are asked for.
 */
import { closeSync, constants, lstatSync, openSync, readlinkSync, readSync, type Stats } from "node:fs";
import { readdir } from "node:fs/promises";
import { errnoOf } from "../../farm/errors.ts";
import { gzipMembers } from "../../wire/tar/gzip-members.ts";
import { TAR_LIMITS } from "../../wire/tar/tar-reader.ts";
import { tarEnd, tarHeader, tarPadding } from "../../wire/tar/tar-writer.ts";
import { bytesOrText } from "./unpack.ts";

const SCRATCH = 1024 * 1024;

export interface PackOptions {
  /** Whether to leave out a name. A folder's name ends in `/`; with it goes all that is below. */
  readonly leaveOut?: (name: string) => boolean;
  /** Whether to leave out what goes away meanwhile. Otherwise that ends the stream. */
  readonly mayVanish?: boolean;
}

/** The archive of `dir`, in order. Throws for what cannot be read. */
export async function* pack(dir: string, options: PackOptions = {}): AsyncGenerator<Buffer> {
  const names: string[] = [];
  await list(dir, "", options, names);
  yield* gzipMembers(tar(dir, names, options.mayVanish ? isGone : () => false));
}

/** The archive of these files of `dir`, without those that are gone or that the agent may not read. */
export async function* packFiles(dir: string, files: readonly string[]): AsyncGenerator<Buffer> {
  const names = files.map((file) => Buffer.from(file).toString("latin1"));
  yield* gzipMembers(tar(dir, names, (error) => isGone(error) || isForbidden(error)));
}

/** Collects the names below `name`, one character per byte. A folder's ends in `/` and stands before its content. */
async function list(dir: string, name: string, options: PackOptions, names: string[]): Promise<void> {
  const folder = await readdir(pathOf(dir, name), { encoding: "buffer", withFileTypes: true }).catch(
    (error: unknown) => {
      if (name !== "" && options.mayVanish && isGone(error)) return [];
      throw error;
    },
  );
  const children = folder.map((child) => `${child.name.toString("latin1")}${child.isDirectory() ? "/" : ""}`).sort();
  for (const child of children) {
    const below = name + child;
    if (options.leaveOut?.(below)) continue;
    if (names.push(below) > TAR_LIMITS.entries) {
      throw new Error(`Cannot pack: there are more than ${TAR_LIMITS.entries} files and folders`);
    }
    if (below.endsWith("/")) await list(dir, below, options, names);
  }
}

/** The tar in pieces. A piece is valid until the next one is asked for. */
function* tar(dir: string, names: readonly string[], leavesOut: (error: unknown) => boolean): Generator<Buffer> {
  const scratch = Buffer.allocUnsafe(SCRATCH);
  for (const name of names) {
    try {
      yield* entry(name, pathOf(dir, name), scratch);
    } catch (error) {
      // Nothing of the file has been given yet: its header is made once it is open.
      if (!leavesOut(error)) throw error;
    }
  }
  yield tarEnd();
}

function* entry(name: string, path: string | Buffer, scratch: Buffer): Generator<Buffer> {
  const stats = lstatSync(path);
  const plain = name.endsWith("/") ? name.slice(0, -1) : name;
  const common = commonOf(stats);
  if (stats.isDirectory()) yield tarHeader({ ...common, type: "directory", name: `${plain}/`, size: 0 });
  else if (stats.isSymbolicLink()) {
    yield tarHeader({ ...common, type: "symlink", name: plain, linkName: readlinkSync(path, "latin1"), size: 0 });
  } else if (stats.isFile()) yield* file(plain, path, stats, scratch);
  // Sockets, FIFOs and devices are nothing that another machine could use.
}

function* file(name: string, path: string | Buffer, stats: Stats, scratch: Buffer): Generator<Buffer> {
  const header = (size: number) => tarHeader({ ...commonOf(stats), type: "file", name, size });
  if (stats.size === 0) {
    yield header(0);
    return;
  }
  // It may have become a FIFO by now. Opening one with blocking would hold the agent up.
  const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const begin = fill(fd, scratch.subarray(0, Math.min(scratch.length, stats.size)));
    // The size of a small file is what could be read of it, whatever its size was a moment before.
    const size = stats.size <= scratch.length ? begin : stats.size;
    yield header(size);
    yield scratch.subarray(0, begin);
    for (let left = size - begin; left > 0; ) {
      const read = fill(fd, scratch.subarray(0, Math.min(scratch.length, left)));
      if (read === 0) throw new Error(`Cannot pack: a file of ${size} bytes has become shorter`);
      left -= read;
      yield scratch.subarray(0, read);
    }
    yield tarPadding(size);
  } finally {
    closeSync(fd);
  }
}

/** Reads as much as there is, up to the whole of `into`. */
function fill(fd: number, into: Buffer): number {
  let filled = 0;
  while (filled < into.length) {
    const read = readSync(fd, into, filled, into.length - filled, null);
    if (read === 0) break;
    filled += read;
  }
  return filled;
}

function commonOf({ mode, mtimeMs, uid, gid }: Stats) {
  return { mode, mtime: mtimeMs / 1000, uid, gid };
}

function pathOf(dir: string, name: string): string | Buffer {
  if (name === "") return dir;
  const text = bytesOrText(name);
  return typeof text === "string" ? `${dir}/${text}` : Buffer.concat([Buffer.from(`${dir}/`), text]);
}

function isGone(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(errnoOf(error));
}

function isForbidden(error: unknown): boolean {
  return ["EACCES", "EPERM"].includes(errnoOf(error));
}

/** Packs the files of a push as one tar.gz while it is sent: only a few pieces are in memory at a time. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { FarmError } from "../../farm/errors.ts";
import { gzipMembers } from "../../wire/tar/gzip-members.ts";
import { tarEnd, tarHeader, tarPadding } from "../../wire/tar/tar-writer.ts";
import type { LocalFile } from "./digests.ts";

const SCRATCH = 1 << 20;
const FILE = 0o644;
const PROGRAM = 0o755;

/** A file that exists nowhere on this computer. */
export interface MadeFile {
  readonly name: string;
  readonly text: string;
}

export interface PackedFiles {
  readonly root: string;
  readonly files: readonly LocalFile[];
  readonly made: readonly MadeFile[];
  /** Whether a file is a program although this computer has no bit that says so. */
  readonly isProgram: (name: string) => boolean;
  /** The time in seconds since 1970, for files that have none of their own. */
  readonly now: number;
}

/** The archive, in the order of names. Throws when a file has become shorter since it was looked at. */
export function packFiles(packed: PackedFiles): AsyncGenerator<Buffer> {
  return gzipMembers(tar(packed));
}

function* tar({ root, files, made, isProgram, now }: PackedFiles): Generator<Buffer> {
  const scratch = Buffer.allocUnsafe(SCRATCH);
  for (const file of files) {
    const name = latin1(file.name);
    if ("target" in file.content)
      yield tarHeader({
        type: "symlink",
        name,
        linkName: latin1(file.content.target),
        mode: 0o777,
        size: 0,
        mtime: now,
      });
    else yield* content(join(root, file.name), name, file.executable || isProgram(file.name) ? PROGRAM : FILE, scratch);
  }
  for (const { name, text } of made) {
    const bytes = Buffer.from(text);
    yield tarHeader({ type: "file", name: latin1(name), mode: FILE, size: bytes.length, mtime: now });
    yield bytes;
    yield tarPadding(bytes.length);
  }
  yield tarEnd();
}

function* content(path: string, name: string, mode: number, scratch: Buffer): Generator<Buffer> {
  const fd = openSync(path, "r");
  try {
    const { size, mtimeMs } = fstatSync(fd);
    yield tarHeader({ type: "file", name, mode, size, mtime: mtimeMs / 1000 });
    for (let left = size; left > 0; ) {
      const read = readSync(fd, scratch, 0, Math.min(scratch.length, left), null);
      if (read === 0) throw new FarmError("conflict", `Cannot send ${path}: it became shorter meanwhile; push again`);
      left -= read;
      yield scratch.subarray(0, read);
    }
    yield tarPadding(size);
  } finally {
    closeSync(fd);
  }
}

/** The bytes of a name, one per character, as tar has them. */
function latin1(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/**
 * Tar archives, read and written as they stream by.
 *
 * Written by hand rather than on a library's streams, because each source tarball of each build goes through here on
 * the machine: the reader is pushed bytes and calls back at once, with pieces of the very buffer it was given, so that it
 * costs no promise and no copy per file, and holds no more than one header however hostile the archive is.
 *
 *   record   512 bytes: header, content padded to 512, ..., two records of zeros
 *   formats  v7, ustar (prefix), GNU (long names, base-256 numbers), pax (path, linkpath, size, mtime)
 *
 * What is refused with TarError: wrong checksums, sizes that make no sense, names or pax records over NAME_LIMIT and
 * PAX_LIMIT, sparse files, and archives that unpack to more than the limits given. The reader decides nothing about
 * where files may go: ./extract-rule.ts does.
 */
export const RECORD = 512;
export const NAME_LIMIT = 4096;
export const PAX_LIMIT: number = 1024 * 1024;

export class TarError extends Error {
  override readonly name = "TarError";
}

export type TarType = "file" | "directory" | "symlink" | "link" | "global" | "other";

export interface TarHeader {
  readonly type: TarType;
  /** The type byte as a character, for messages. */
  readonly flag: string;
  /** One character per byte (latin1), since names are bytes; `tarText` gives what people read. */
  readonly name: string;
  readonly linkName: string;
  /** Permission bits and setuid, setgid, sticky. */
  readonly mode: number;
  /** Bytes of content that follow. */
  readonly size: number;
  /** Seconds since 1970, with fraction. */
  readonly mtime: number;
}

/** The text of a name that is kept as one character per byte. */
export function tarText(bytes: string): string {
  return /[\x80-\xff]/.test(bytes) ? Buffer.from(bytes, "latin1").toString("utf8") : bytes;
}

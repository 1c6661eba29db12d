/**
 * Lines of GET /ls: TAB between columns, LF at the end; NUL at the end instead where that was asked for (LS_NUL) and the agent is ours. No name
 * holds a NUL, so what was answered tells by itself which it is, and only then is a name with an LF one name.
 *
 *   drwxr-xr-x  d/
 *   -rwxr-xr-x  d/x.sh  46  2026-11-23T17:00:05Z  4e896ca0cc07a8126d096abf70aea336b650b1e3
 *   Lrwxrwxrwx  link
 *
 * The mode is Go's text. Size, time (UTC, whole seconds) and, when asked for, the SHA-1 are there for regular files only.
 */
import { FarmError } from "../../farm/errors.ts";

/** The parameter of GET /ls that asks for NUL. */
export const LS_NUL = "nul";
/** Ours: how many levels of a recursive listing are wanted. The original lists them all. */
export const LS_DEPTH = "depth";
/** Ours: a folder that is called so is neither listed nor entered, wherever it is. `skip` is the path of one. */
export const LS_SKIP_NAME = "skip-name";

export interface LsEntry {
  /** Go's text, `-rw-r--r--`. */
  readonly mode: string;
  /** Relative to the listed directory; a directory's ends in `/`. Empty when a file itself was listed. */
  readonly name: string;
  readonly file?: { readonly size: number; readonly modified: string; readonly sha1?: string };
}

export function formatLsLine({ mode, name, file }: LsEntry, end: "\n" | "\0" = "\n"): string {
  if (!file) return `${mode}\t${name}${end}`;
  const digest = file.sha1 === undefined ? "" : `\t${file.sha1}`;
  return `${mode}\t${name}\t${file.size}\t${file.modified}${digest}${end}`;
}

/** The lines of a whole listing, without their ends. */
export function linesOf(listing: string): string[] {
  const lines = listing.split(listing.endsWith("\0") ? "\0" : "\n");
  if (lines.at(-1) === "") lines.pop();
  return lines;
}

/**
 * The lines of a listing that ends them with LF, without their ends, as it comes: those that each piece completes. Throws FarmError
 * `machine-broken` for a line that has no end.
 */
export async function* linesIn(listing: AsyncIterable<Uint8Array>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder();
  let begun = "";
  for await (const piece of listing) {
    const lines = (begun + decoder.decode(piece, { stream: true })).split("\n");
    begun = lines.pop() ?? "";
    if (begun.length > LONGEST_LINE) throw lineTooLong(LONGEST_LINE);
    if (lines.length > 0) yield lines;
  }
  if (begun !== "") yield [begun];
}

export function lineTooLong(most: number): FarmError {
  return new FarmError(
    "machine-broken",
    `The machine listed a line of more than ${most} characters; no name has them.`,
  );
}

/** Reads one line, without its end; undefined when it is none. A name may hold TABs, so columns count from the end. */
export function parseLsLine(line: string): LsEntry | undefined {
  const first = line.indexOf("\t");
  if (first < 1) return undefined;
  const mode = line.slice(0, first);
  // No name is looked through: a listing has tens of thousands.
  const columns = FILE_COLUMNS.exec(line.slice(Math.max(first + 1, line.length - LONGEST_COLUMNS)));
  if (!columns) return { mode, name: line.slice(first + 1) };
  const [tail, size, modified = "", sha1] = columns;
  const name = line.slice(first + 1, line.length - tail.length);
  return { mode, name, file: { size: Number(size), modified, ...(sha1 === undefined ? {} : { sha1 }) } };
}

/** No path is as long as that on any system. */
const LONGEST_LINE = 1 << 18;

/** What follows the name of a regular file. */
const FILE_COLUMNS = /\t(\d+)\t(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?:\t([0-9a-f]{40}))?$/;
/** A size has 16 digits at most. */
const LONGEST_COLUMNS = 17 + 21 + 41;

/** `2026-11-23T17:00:05Z` */
export function formatLsTime(epochMilliseconds: number): string {
  return `${new Date(epochMilliseconds).toISOString().slice(0, 19)}Z`;
}

/** Type bits of `st_mode`, and Go's letters. */
const TYPES: ReadonlyMap<number, string> = new Map([
  [0o040000, "d"],
  [0o120000, "L"],
  [0o060000, "D"],
  [0o020000, "Dc"],
  [0o010000, "p"],
  [0o140000, "S"],
  [0o100000, ""],
]);

/** Go's text for the `st_mode` of a Unix system: type letters or `-`, then rwx three times. */
export function goFileMode(mode: number): string {
  let letters = TYPES.get(mode & 0o170000) ?? "?";
  if (mode & 0o4000) letters += "u";
  if (mode & 0o2000) letters += "g";
  if (mode & 0o1000) letters += "t";
  return `${letters || "-"}${RWX[(mode >> 6) & 7]}${RWX[(mode >> 3) & 7]}${RWX[mode & 7]}`;
}

const RWX = ["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"] as const;

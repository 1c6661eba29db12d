/**
 * Lines of GET /ls: TAB between columns, LF at the end.
 *
 *   drwxr-xr-x  d/
 *   -rwxr-xr-x  d/x.sh  46  2026-11-23T17:00:05Z  4e896ca0cc07a8126d096abf70aea336b650b1e3
 *   Lrwxrwxrwx  link
 *
 * The mode is Go's text. Size, time (UTC, whole seconds) and, when asked for, the SHA-1 are there for regular files only.
 */
export interface LsEntry {
  /** Go's text, `-rw-r--r--`. */
  readonly mode: string;
  /** Relative to the listed directory; a directory's ends in `/`. Empty when a file itself was listed. */
  readonly name: string;
  readonly file?: { readonly size: number; readonly modified: string; readonly sha1?: string };
}

export function formatLsLine(entry: LsEntry): string {
  const columns = [entry.mode, entry.name];
  if (entry.file) {
    columns.push(String(entry.file.size), entry.file.modified);
    if (entry.file.sha1 !== undefined) columns.push(entry.file.sha1);
  }
  return `${columns.join("\t")}\n`;
}

/** Reads one line, without its LF; undefined when it is none. A name may hold TABs, so columns count from the end. */
export function parseLsLine(line: string): LsEntry | undefined {
  const file = /^([^\t]+)\t(.*)\t(\d+)\t(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)(?:\t([0-9a-f]{40}))?$/s.exec(line);
  if (file) {
    const [, mode = "", name = "", size, modified = "", sha1] = file;
    return { mode, name, file: { size: Number(size), modified, ...(sha1 === undefined ? {} : { sha1 }) } };
  }
  const [, mode, name] = /^([^\t]+)\t(.*)$/s.exec(line) ?? [];
  return mode === undefined || name === undefined ? undefined : { mode, name };
}

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
  const bits = [..."rwxrwxrwx"].map((letter, at) => (mode & (0o400 >> at) ? letter : "-"));
  return (letters || "-") + bits.join("");
}

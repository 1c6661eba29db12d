/** Writes the headers and padding of an archive (the format: tar.ts); who writes puts the content in between. */
import { RECORD } from "./tar.ts";

export interface TarWriteEntry {
  readonly type: "file" | "directory" | "symlink";
  /** One character per byte (latin1); a directory's ends in `/`. */
  readonly name: string;
  readonly linkName?: string;
  readonly mode: number;
  readonly size: number;
  /** Seconds since 1970. */
  readonly mtime: number;
  readonly uid?: number;
  readonly gid?: number;
}

const FLAGS = { file: "0", directory: "5", symlink: "2" } as const;
const MAX_OCTAL_11 = 0o77777777777;

/** What goes before the content of `entry`: a ustar header, with a pax header before it where ustar is too small. */
export function tarHeader(entry: TarWriteEntry): Buffer {
  const pax: [string, string][] = [];
  const linkName = entry.linkName ?? "";
  const split = splitName(entry.name);
  if (!split) pax.push(["path", entry.name]);
  if (linkName.length > 100) pax.push(["linkpath", linkName]);
  if (entry.size > MAX_OCTAL_11) pax.push(["size", String(entry.size)]);
  const seconds = Math.floor(entry.mtime);
  if (seconds < 0 || seconds > MAX_OCTAL_11) pax.push(["mtime", String(seconds)]);
  const [prefix, name] = split ?? ["", entry.name.slice(0, 100)];
  const header = ustar({ ...entry, name, prefix, linkName: linkName.slice(0, 100), flag: FLAGS[entry.type] });
  if (pax.length === 0) return header;
  const records = Buffer.from(pax.map(([key, value]) => paxRecord(key, value)).join(""), "latin1");
  const paxHeader = ustar({
    ...entry,
    name: "PaxHeaders/x",
    prefix: "",
    linkName: "",
    flag: "x",
    mode: 0o644,
    size: records.length,
  });
  return Buffer.concat([paxHeader, records, tarPadding(records.length), header]);
}

/** Zeros that fill content of `size` bytes up to whole records. */
export function tarPadding(size: number): Buffer {
  return Buffer.alloc((RECORD - (size % RECORD)) % RECORD);
}

/** What ends an archive. */
export function tarEnd(): Buffer {
  return Buffer.alloc(2 * RECORD);
}

/** Prefix and name as ustar wants them, undefined when the name fits no way. */
function splitName(name: string): [string, string] | undefined {
  if (name.length <= 100) return ["", name];
  for (let slash = name.lastIndexOf("/", 155); slash > 0; slash = name.lastIndexOf("/", slash - 1)) {
    const rest = name.length - slash - 1;
    if (rest > 100) return undefined;
    if (rest > 0) return [name.slice(0, slash), name.slice(slash + 1)];
  }
  return undefined;
}

function ustar(entry: Omit<TarWriteEntry, "type"> & { prefix: string; linkName: string; flag: string }): Buffer {
  const header = Buffer.alloc(RECORD);
  const octal = (value: number, offset: number, digits: number) =>
    header.write(value.toString(8).padStart(digits, "0"), offset, digits, "latin1");
  // Ids and sizes that do not fit are kept out: pax tells the size, and nobody restores owners.
  const fitting = (value: number, digits: number) => (value >= 0 && value < 8 ** digits ? Math.floor(value) : 0);
  header.write(entry.name, 0, 100, "latin1");
  octal(entry.mode & 0o7777, 100, 7);
  octal(fitting(entry.uid ?? 0, 7), 108, 7);
  octal(fitting(entry.gid ?? 0, 7), 116, 7);
  octal(fitting(entry.size, 11), 124, 11);
  octal(fitting(entry.mtime, 11), 136, 11);
  header.write(`        ${entry.flag}`, 148, 9, "latin1");
  header.write(entry.linkName, 157, 100, "latin1");
  header.write("ustar\x0000", 257, 8, "latin1");
  header.write(entry.prefix, 345, 155, "latin1");
  let sum = 0;
  for (const byte of header) sum += byte;
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, 8, "latin1");
  return header;
}

function paxRecord(key: string, value: string): string {
  const body = ` ${key}=${value}\n`;
  let length = body.length + 1;
  while (`${length}`.length + body.length !== length) length = `${length}`.length + body.length;
  return `${length}${body}`;
}

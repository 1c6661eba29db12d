/**
 * Reads an archive that is pushed in pieces cut anywhere (the format and the limits: tar.ts).
 *
 * For each entry: `entry(header)`, then `data(piece)` as often as it takes, then `end()`. The handler may throw; the reader
 * is then of no use, like after a TarError. Pieces are views of the pushed chunk: use them before returning.
 */
import { NAME_LIMIT, PAX_LIMIT, RECORD, TarError, type TarHeader, type TarType, tarText } from "./tar.ts";

export interface TarHandler {
  entry(header: TarHeader): void;
  data(piece: Uint8Array): void;
  end(): void;
}

export interface TarLimits {
  /** Content of all entries together. */
  readonly bytes: number;
  readonly entries: number;
}

export const TAR_LIMITS: TarLimits = { bytes: 64 * 1024 ** 3, entries: 2_000_000 };

type Phase = "header" | "content" | "extension" | "padding" | "over";

export class TarReader {
  readonly #handler: TarHandler;
  readonly #limits: TarLimits;
  readonly #record: Buffer = Buffer.alloc(RECORD);
  #filled = 0; // bytes of #record that are there
  #phase: Phase = "header";
  #left = 0; // bytes of content, extension or padding still to come
  #padding = 0;
  #zeros = 0; // records of zeros in a row
  #extension: Buffer[] = [];
  #extensionFlag = "";
  #pax = new Map<string, string>(); // for the next entry
  #bytes = 0;
  #entries = 0;

  constructor(handler: TarHandler, limits: TarLimits = TAR_LIMITS) {
    this.#handler = handler;
    this.#limits = limits;
  }

  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#phase === "over") return; // padding behind the end is nobody's business
      if (this.#phase === "header") {
        const take = Math.min(RECORD - this.#filled, chunk.length - at);
        this.#record.set(chunk.subarray(at, at + take), this.#filled);
        this.#filled += take;
        at += take;
        if (this.#filled === RECORD) {
          this.#filled = 0;
          this.#header();
        }
        continue;
      }
      const take = Math.min(this.#left, chunk.length - at);
      if (this.#phase === "content") this.#handler.data(chunk.subarray(at, at + take));
      else if (this.#phase === "extension") this.#extension.push(Buffer.from(chunk.subarray(at, at + take)));
      this.#left -= take;
      at += take;
      if (this.#left === 0) this.#endOfPart();
    }
  }

  /** The archive has no more bytes: throws unless it stood between two entries. */
  close(): void {
    if (this.#phase === "over") return;
    if (this.#phase === "header" && this.#filled === 0 && this.#pax.size === 0) return;
    throw new TarError("Cannot read archive: it ends in the middle of an entry");
  }

  #endOfPart(): void {
    const part = this.#phase;
    this.#left = this.#padding;
    this.#padding = 0;
    this.#phase = this.#left > 0 ? "padding" : "header";
    if (part === "content") this.#handler.end();
    else if (part === "extension") this.#readExtension();
  }

  #header(): void {
    const record = this.#record;
    if (record[0] === 0 && record.every((byte) => byte === 0)) {
      if (++this.#zeros === 2) this.#phase = "over";
      return;
    }
    this.#zeros = 0;
    if (!checksumHolds(record)) throw new TarError("Cannot read archive: a header has a wrong checksum");
    const flag = String.fromCharCode(record[156] || 0x30);
    let size = this.#number(124, 12);
    if (flag === "x" || flag === "L" || flag === "K") {
      if (size > (flag === "x" ? PAX_LIMIT : NAME_LIMIT)) {
        throw new TarError(`Cannot read archive: an extended header of ${size} bytes is too large`);
      }
      this.#extension = [];
      this.#extensionFlag = flag;
      this.#begin("extension", size);
      return;
    }
    const pax = this.#pax;
    this.#pax = new Map();
    const paxSize = pax.get("size");
    if (paxSize !== undefined) size = wholeNumber("size", paxSize);
    for (const key of pax.keys()) {
      if (key.startsWith("GNU.sparse.")) throw new TarError("Cannot read archive: sparse files are not supported");
    }
    const name = pax.get("path") ?? this.#name();
    if (name.length > NAME_LIMIT) {
      throw new TarError(`Cannot read archive: a name has ${name.length} bytes, want at most ${NAME_LIMIT}`);
    }
    const type = typeOf(flag, name);
    // Whatever a header claims, only these two have content.
    if (type === "link" || type === "symlink" || type === "directory") size = 0;
    if (++this.#entries > this.#limits.entries) {
      throw new TarError(`Cannot read archive: it has more than ${this.#limits.entries} entries`);
    }
    this.#bytes += size;
    if (this.#bytes > this.#limits.bytes) {
      throw new TarError(
        `Cannot read archive: unpacked it is larger than ${this.#limits.bytes} bytes (at ${JSON.stringify(tarText(name))})`,
      );
    }
    const paxTime = pax.get("mtime");
    this.#handler.entry({
      type,
      flag,
      name,
      linkName: pax.get("linkpath") ?? this.#text(157, 100),
      mode: this.#number(100, 8) & 0o7777,
      size,
      mtime: paxTime === undefined ? this.#number(136, 12, true) : decimal("mtime", paxTime),
    });
    if (size === 0) this.#handler.end();
    else this.#begin("content", size);
  }

  #begin(phase: "content" | "extension", size: number): void {
    this.#phase = phase;
    this.#left = size;
    this.#padding = (RECORD - (size % RECORD)) % RECORD;
    if (size === 0) this.#endOfPart();
  }

  #readExtension(): void {
    const bytes = Buffer.concat(this.#extension).toString("latin1");
    this.#extension = [];
    if (this.#extensionFlag === "L") this.#pax.set("path", untilNul(bytes));
    else if (this.#extensionFlag === "K") this.#pax.set("linkpath", untilNul(bytes));
    else readPax(bytes, this.#pax);
  }

  #text(offset: number, length: number): string {
    return untilNul(this.#record.toString("latin1", offset, offset + length));
  }

  #name(): string {
    const name = this.#text(0, 100);
    // GNU keeps other things where ustar has the prefix.
    if (this.#record.toString("latin1", 257, 263) !== "ustar\0") return name;
    const prefix = this.#text(345, 155);
    return prefix === "" ? name : `${prefix}/${name}`;
  }

  /** An octal number, or GNU's base 256 where the first bit is set. */
  #number(offset: number, length: number, mayBeNegative = false): number {
    const record = this.#record;
    const first = record[offset] ?? 0;
    if (first & 0x80) {
      const negative = (first & 0x40) !== 0;
      let value = negative ? -1n : 0n;
      for (let i = 0; i < length; i++) {
        const byte = BigInt(i === 0 ? (negative ? first | 0x80 : first & 0x7f) : (record[offset + i] ?? 0));
        value = (value << 8n) | byte;
      }
      const number = Number(value);
      if ((number < 0 && !mayBeNegative) || Math.abs(number) > Number.MAX_SAFE_INTEGER) {
        throw new TarError("Cannot read archive: a header holds a number out of range");
      }
      return number;
    }
    const text = this.#text(offset, length).trim();
    if (text === "") return 0;
    if (!/^[0-7]+$/.test(text)) throw new TarError("Cannot read archive: a header holds a malformed number");
    return Number.parseInt(text, 8);
  }
}

function typeOf(flag: string, name: string): TarType {
  switch (flag) {
    case "0":
    case "7":
      return name.endsWith("/") ? "directory" : "file"; // v7 has no other way to say directory
    case "1":
      return "link";
    case "2":
      return "symlink";
    case "5":
      return "directory";
    case "g":
      return "global";
    default:
      return "other";
  }
}

function checksumHolds(record: Uint8Array): boolean {
  const stored = Number.parseInt(
    Buffer.from(record.subarray(148, 156))
      .toString("latin1")
      .replace(/[\0 ]+$/, "")
      .trim(),
    8,
  );
  let unsigned = 0;
  let signed = 0; // some old programs summed signed bytes
  for (let i = 0; i < RECORD; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (record[i] ?? 0);
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256;
  }
  return stored === unsigned || stored === signed;
}

function untilNul(text: string): string {
  const end = text.indexOf("\0");
  return end === -1 ? text : text.slice(0, end);
}

/** Records `LENGTH KEY=VALUE\n`, the length counting itself; an empty value takes the key back. */
function readPax(bytes: string, into: Map<string, string>): void {
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(" ", at);
    const length = wholeNumber("pax record", bytes.slice(at, space));
    const record = bytes.slice(space + 1, at + length);
    const equals = record.indexOf("=");
    if (space === -1 || equals < 1 || !record.endsWith("\n") || at + length > bytes.length) {
      throw new TarError("Cannot read archive: a pax record is malformed");
    }
    const key = record.slice(0, equals);
    const value = record.slice(equals + 1, -1);
    if (value.includes("\0") && (key === "path" || key === "linkpath")) {
      throw new TarError("Cannot read archive: a name holds a zero byte");
    }
    if (value === "") into.delete(key);
    else into.set(key, value);
    at += length;
  }
}

function wholeNumber(what: string, text: string): number {
  if (!/^\d{1,15}$/.test(text))
    throw new TarError(`Cannot read archive: ${what} ${JSON.stringify(text.slice(0, 40))} is no number`);
  return Number(text);
}

function decimal(what: string, text: string): number {
  if (!/^-?\d{1,15}(\.\d*)?$/.test(text)) {
    throw new TarError(`Cannot read archive: ${what} ${JSON.stringify(text.slice(0, 40))} is no number`);
  }
  return Number(text);
}

/**
 * Reading HTTP/1.1 responses from a socket that a machine opened to us.
 *
 * The reader pulls, so that a slow reader holds the machine back. All that has arrived is taken at once: a command that
 * prints short lines makes a chunk of each, and a callback for each chunk would cost more than the TLS around it.
 *
 * A body ends by its length, by its last chunk (then trailers follow), or with the connection. One that ends before it
 * should, and anything that is not HTTP, throws BrokenResponse; the connection is of no further use.
 */
import { messageOf } from "../../farm/errors.ts";
import { fieldValues, type HeaderField, type ResponseHead, responseHeadReader } from "../../wire/revdial/http-head.ts";
import type { MachineSocket } from "../door.ts";

const MAX_CHUNK_LINE = 4096;
const MAX_TRAILERS = 64 * 1024;

export class BrokenResponse extends Error {
  override readonly name = "BrokenResponse";
  /** `cut`: the connection ended too soon. `malformed`: the bytes are not HTTP. */
  readonly kind: "cut" | "malformed";

  constructor(kind: "cut" | "malformed", message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Pulls bytes out of a socket, one read at a time. */
export class SocketReader {
  readonly #socket: MachineSocket;
  #unread: Buffer | undefined;
  #ended: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(socket: MachineSocket) {
    this.#socket = socket;
    const end = (why: string) => () => {
      this.#ended ??= new BrokenResponse("cut", why);
      this.#wake?.();
    };
    socket.on("readable", () => this.#wake?.());
    socket.on("end", end("the machine ended the connection"));
    socket.on("close", end("the connection was closed"));
    socket.on("error", (error) => end(`the connection broke (${messageOf(error)})`)());
  }

  get ended(): Error | undefined {
    return this.#ended;
  }

  /** All bytes that have arrived, once there are some; undefined at the end. */
  async read(): Promise<Buffer | undefined> {
    for (;;) {
      const unread = this.#unread;
      if (unread) {
        this.#unread = undefined;
        return unread;
      }
      const bytes: Buffer | null = this.#socket.read();
      if (bytes !== null) return bytes;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }

  /** Does the same as `read`, but throws at the end. */
  async need(): Promise<Buffer> {
    const bytes = await this.read();
    if (bytes === undefined) throw this.#ended ?? new BrokenResponse("cut", "the connection ended");
    return bytes;
  }

  unread(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#unread = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Calls `onAny` when bytes or the end come while nobody reads: an idle connection is then useless. */
  watch(onAny: () => void): () => void {
    this.#wake = onAny;
    return () => {
      this.#wake = undefined;
    };
  }
}

/** Reads the head, and skips 1xx answers. */
export async function readHead(reader: SocketReader): Promise<ResponseHead> {
  for (;;) {
    const parser = responseHeadReader();
    for (;;) {
      const read = parser.push(await reader.need());
      if (!read) continue;
      reader.unread(read.rest);
      if (read.head.status >= 200) return read.head;
      break;
    }
  }
}

export interface Body {
  /** The next bytes; undefined once the body has ended as it should. */
  next(): Promise<Buffer | undefined>;
  /** The trailers. They are there after the end. */
  readonly trailers: readonly HeaderField[];
  /** Whether the connection can carry another exchange, after the end. */
  readonly reusable: boolean;
}

/** The body that follows `head`. */
export function readBody(reader: SocketReader, head: ResponseHead): Body {
  const keep = head.version === "HTTP/1.1" && !/\bclose\b/i.test(fieldValues(head, "Connection").join());
  if (/\bchunked\b/i.test(fieldValues(head, "Transfer-Encoding").join())) return new ChunkedBody(reader, keep);
  const [length, ...doubles] = fieldValues(head, "Content-Length");
  if (head.status === 204 || head.status === 304) return new LengthBody(reader, 0, keep);
  if (length === undefined) return new LengthBody(reader, Number.POSITIVE_INFINITY, false);
  if (!/^\d{1,15}$/.test(length) || doubles.length > 0)
    throw new BrokenResponse("malformed", `bad Content-Length ${length}`);
  return new LengthBody(reader, Number(length), keep);
}

class LengthBody implements Body {
  readonly trailers: readonly HeaderField[] = [];
  readonly reusable: boolean;
  readonly #reader: SocketReader;
  #left: number;

  constructor(reader: SocketReader, length: number, keep: boolean) {
    this.#reader = reader;
    this.#left = length;
    this.reusable = keep;
  }

  async next(): Promise<Buffer | undefined> {
    if (this.#left === 0) return undefined;
    if (this.#left === Number.POSITIVE_INFINITY) return await this.#reader.read();
    const bytes = await this.#reader.need();
    const mine = bytes.subarray(0, this.#left);
    this.#reader.unread(bytes.subarray(mine.length));
    this.#left -= mine.length;
    return mine;
  }
}

class ChunkedBody implements Body {
  trailers: readonly HeaderField[] = [];
  readonly reusable: boolean;
  readonly #reader: SocketReader;
  /** The part to which the next byte belongs. */
  #state: "size" | "data" | "after-data" | "trailers" | "ended" = "size";
  /** The number of bytes still to come in this chunk. */
  #left = 0;
  /** The beginning of a size line or of the trailers. */
  #partial: Buffer = Buffer.alloc(0);

  constructor(reader: SocketReader, keep: boolean) {
    this.#reader = reader;
    this.reusable = keep;
  }

  async next(): Promise<Buffer | undefined> {
    while (this.#state !== "ended") {
      const data = this.#decode(await this.#reader.need());
      if (data.length > 0) return data;
    }
    return undefined;
  }

  /** The data of all chunks in `given`, moved to its front: the buffer is ours. Keeps an unfinished rest. */
  #decode(given: Buffer): Buffer {
    const bytes = this.#partial.length === 0 ? given : Buffer.concat([this.#partial, given]);
    this.#partial = EMPTY;
    let at = 0;
    let filled = 0;
    let first = 0;
    while (at < bytes.length && this.#state !== "ended") {
      if (this.#state === "data") {
        const end = Math.min(bytes.length, at + this.#left);
        if (filled === 0) first = at;
        else bytes.copyWithin(first + filled, at, end);
        filled += end - at;
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#state = "after-data";
      } else if (this.#state === "trailers") {
        at = this.#readTrailers(bytes, at);
      } else {
        const lf = bytes.indexOf(10, at);
        if (lf === -1) {
          if (bytes.length - at > MAX_CHUNK_LINE)
            throw new BrokenResponse("malformed", "a chunk's size line is too long");
          this.#partial = Buffer.from(bytes.subarray(at));
          break;
        }
        if (this.#state === "after-data") {
          if (lf - at > 1 || (lf - at === 1 && bytes[at] !== 13))
            throw new BrokenResponse("malformed", "a chunk is longer than it said");
          this.#state = "size";
        } else {
          this.#left = chunkSize(bytes, at, lf);
          this.#state = this.#left === 0 ? "trailers" : "data";
        }
        at = lf + 1;
      }
    }
    return bytes.subarray(first, first + filled);
  }

  /** Reads the trailers and the empty line behind them, if all of that has come. */
  #readTrailers(bytes: Buffer, start: number): number {
    const fields: HeaderField[] = [];
    let at = start;
    for (let lf = bytes.indexOf(10, at); lf !== -1; lf = bytes.indexOf(10, at)) {
      const line = bytes.toString("utf8", at, lf).replace(/\r$/, "");
      at = lf + 1;
      if (line === "") {
        this.trailers = fields;
        this.#state = "ended";
        this.#reader.unread(bytes.subarray(at));
        return at;
      }
      const colon = line.indexOf(":");
      if (colon < 1) throw new BrokenResponse("malformed", "a trailer is no header line");
      fields.push([line.slice(0, colon), line.slice(colon + 1).trim()]);
    }
    if (bytes.length - start > MAX_TRAILERS) throw new BrokenResponse("malformed", "the trailers are too long");
    this.#partial = Buffer.from(bytes.subarray(start));
    return bytes.length;
  }
}

const EMPTY: Buffer = Buffer.alloc(0);

/** The hexadecimal number that the line from `at` to `lf` begins with; an extension behind it is skipped. */
function chunkSize(bytes: Buffer, at: number, lf: number): number {
  let size = 0;
  let digits = 0;
  for (let i = at; i < lf; i++, digits++) {
    const byte = bytes[i] ?? 0;
    const lower = byte | 0x20;
    if (byte >= 0x30 && byte <= 0x39) size = size * 16 + byte - 0x30;
    else if (lower >= 0x61 && lower <= 0x66) size = size * 16 + lower - 0x61 + 10;
    else if (digits > 0 && (byte === 13 || byte === 59 || byte === 32 || byte === 9)) break;
    else throw new BrokenResponse("malformed", "a chunk's size is no hexadecimal number");
  }
  if (digits === 0 || digits > 12) throw new BrokenResponse("malformed", "a chunk's size is no hexadecimal number");
  return size;
}

/**
 * Heads of HTTP requests and responses, read and written by hand.
 *
 * Machines speak one GET, get a 101 without Upgrade, and go on with something else on the same socket. HTTP libraries
 * do not give such a socket back, and refuse the version `HTTP/0.0` of the answer that the original coordinator
 * sends. So both ends read heads themselves, and here is the only reader.
 *
 * A reader takes bytes cut anywhere and gives the head once its empty line has come, with the bytes behind it. Lines end in
 * CR LF or LF. Header fields keep their order and their doubles; names are compared without regard to case. Bytes are
 * UTF-8, since machine names come from people. A head over the limit or not of this form throws HeadError.
 */
const MAX_HEAD: number = 16 * 1024;

/** Name and value as sent, white space around the value removed. */
export type HeaderField = readonly [name: string, value: string];

export interface RequestHead {
  readonly method: string;
  /** The request target as sent, with its query. */
  readonly target: string;
  readonly version: string;
  readonly fields: readonly HeaderField[];
}

export interface ResponseHead {
  readonly version: string;
  readonly status: number;
  readonly reason: string;
  readonly fields: readonly HeaderField[];
}

export class HeadError extends Error {
  override readonly name = "HeadError";
  readonly kind: "too-large" | "malformed";

  constructor(kind: "too-large" | "malformed", message: string) {
    super(message);
    this.kind = kind;
  }
}

export interface ReadHead<Head> {
  readonly head: Head;
  /** What came behind the head; empty mostly. */
  readonly rest: Uint8Array;
}

/** Reads one head. Of no use after it gave the head or threw. */
export class HeadReader<Head> {
  readonly #parse: (lines: readonly string[]) => Head;
  readonly #limit: number;
  #bytes: Uint8Array = new Uint8Array(0);

  constructor(parse: (lines: readonly string[]) => Head, limitBytes: number = MAX_HEAD) {
    this.#parse = parse;
    this.#limit = limitBytes;
  }

  /** All bytes pushed so far, so that another reader can take over. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  push(chunk: Uint8Array): ReadHead<Head> | undefined {
    const from = Math.max(0, this.#bytes.length - 2); // the empty line may be cut in two
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    const end = endOfHead(this.#bytes, from);
    if ((end === -1 ? this.#bytes.length : end) > this.#limit) {
      throw new HeadError("too-large", `Cannot read an HTTP head of more than ${this.#limit} bytes`);
    }
    if (end === -1) return undefined;
    const lines = new TextDecoder()
      .decode(this.#bytes.subarray(0, end))
      .split("\n")
      .map((l) => l.replace(/\r$/, ""));
    return { head: this.#parse(lines.slice(0, -2)), rest: this.#bytes.subarray(end) };
  }
}

export function requestHeadReader(limitBytes?: number): HeadReader<RequestHead> {
  return new HeadReader(parseRequest, limitBytes);
}

export function responseHeadReader(limitBytes?: number): HeadReader<ResponseHead> {
  return new HeadReader(parseResponse, limitBytes);
}

/** All values of the field called `name`, in order. */
export function fieldValues(head: { readonly fields: readonly HeaderField[] }, name: string): string[] {
  const wanted = name.toLowerCase();
  return head.fields.filter(([field]) => field.toLowerCase() === wanted).map(([, value]) => value);
}

export function encodeRequestHead(method: string, target: string, fields: readonly HeaderField[]): Uint8Array {
  return encodeHead(`${method} ${target} HTTP/1.1`, fields);
}

export function encodeResponseHead(status: number, reason: string, fields: readonly HeaderField[] = []): Uint8Array {
  return encodeHead(`HTTP/1.1 ${status} ${reason}`, fields);
}

function encodeHead(first: string, fields: readonly HeaderField[]): Uint8Array {
  const lines = [first, ...fields.map(([name, value]) => `${name}: ${value}`)];
  for (const line of lines) {
    if (/[\r\n\0]/.test(line)) {
      throw new HeadError(
        "malformed",
        `Cannot send HTTP header line ${JSON.stringify(line)}: want no line break in it`,
      );
    }
  }
  return Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "utf8");
}

/** The offset just behind the empty line that ends a head, or -1. */
function endOfHead(bytes: Uint8Array, from: number): number {
  for (let lf = bytes.indexOf(10, from); lf !== -1; lf = bytes.indexOf(10, lf + 1)) {
    if (bytes[lf + 1] === 10) return lf + 2;
    if (bytes[lf + 1] === 13 && bytes[lf + 2] === 10) return lf + 3;
  }
  return -1;
}

function parseRequest(lines: readonly string[]): RequestHead {
  const [first = "", ...rest] = lines;
  const match = /^([!#$%&'*+.^_`|~\w-]+) ([^ ]+) (HTTP\/\d\.\d)$/.exec(first);
  if (!match) throw new HeadError("malformed", `Cannot read HTTP request line ${quote(first)}`);
  const [, method = "", target = "", version = ""] = match;
  return { method, target, version, fields: rest.map(parseField) };
}

function parseResponse(lines: readonly string[]): ResponseHead {
  const [first = "", ...rest] = lines;
  const match = /^(HTTP\/\d\.\d) (\d{3})(?: (.*))?$/.exec(first);
  if (!match) throw new HeadError("malformed", `Cannot read HTTP status line ${quote(first)}`);
  const [, version = "", status = "", reason = ""] = match;
  return { version, status: Number(status), reason, fields: rest.map(parseField) };
}

function parseField(line: string): HeaderField {
  const match = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*(.*?)[ \t]*$/.exec(line);
  if (!match) throw new HeadError("malformed", `Cannot read HTTP header line ${quote(line)}`);
  const [, name = "", value = ""] = match;
  return [name, value];
}

function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}

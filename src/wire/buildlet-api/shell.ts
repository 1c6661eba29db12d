/**
 * Shells on a machine: POST /shell, ours. One connection is one shell, one file service, or one connection to a port of the machine.
 *
 *   POST /shell   Connection: Upgrade, Upgrade: barnraiser-shell, no body
 *   101           frames both ways from then on, until either side hangs up
 *   4xx           plain text, as everywhere; an agent that is older than this answers 404
 *
 *   offset  size  field
 *   0       1     kind    see KINDS; `>` coordinator to machine, `<` machine to coordinator
 *   1       4     length  u32 big-endian, at most MAX_BODY
 *   5       n     body
 *
 *   > open     JSON Opening, first and once          < started  JSON Started: it runs; before any data
 *   > data     bytes of its input                    < data     bytes that it printed; with a terminal, all of them
 *   > resize   columns, rows: u16 big-endian each     < errors   bytes of its standard error, without a terminal
 *   > signal   name without SIG: `INT`               < eof      the port's other side will send no more
 *   > eof      no more input                         < exit     JSON Exit, last: then the machine hangs up
 *
 * What was opened dies with its connection, with everything that it started. Neither side sends faster than the other reads:
 * there is nothing but the connection's own flow control. Errors: ShellFrameError, after which the connection is of no use.
 */

export const SHELL_PATH = "/shell";
export const SHELL_UPGRADE = "barnraiser-shell";
export const HEADER = 5;
export const MAX_BODY: number = 256 * 1024;
/** Larger pieces are sent as several frames, so that a key stroke never waits behind much. */
const PIECE = 32 * 1024;

const KINDS = ["open", "data", "errors", "resize", "signal", "eof", "started", "exit"] as const;

export interface Terminal {
  /** TERM. */
  readonly name: string;
  readonly columns: number;
  readonly rows: number;
}

export type Opening =
  | {
      readonly what: "shell";
      /** Run by the machine's shell; null: the shell itself. */
      readonly command: string | null;
      /** Null: pipes. */
      readonly terminal: Terminal | null;
      /** `K=V`, as for /exec. */
      readonly env: readonly string[];
    }
  /** SFTP version 3 over data frames, relative paths from the work dir. */
  | { readonly what: "files" }
  /** A TCP connection to one of LOOPBACK on the machine itself. */
  | { readonly what: "dial"; readonly host: string; readonly port: number };

export interface Started {
  /** What stands behind the terminal that was asked for; null: none was. */
  readonly terminal: "pty" | "script" | "pipe" | null;
  /** For the person: what they have to do without; "": nothing. */
  readonly note: string;
}

export interface Exit {
  readonly code: number | null;
  /** Name without SIG. */
  readonly signal: string | null;
  /** Why it could not be started; "": it was. */
  readonly problem: string;
}

export type ShellFrame =
  | { readonly kind: "open"; readonly opening: Opening }
  | { readonly kind: "data" | "errors"; readonly bytes: Uint8Array }
  | { readonly kind: "resize"; readonly columns: number; readonly rows: number }
  | { readonly kind: "signal"; readonly signal: string }
  | { readonly kind: "eof" }
  | { readonly kind: "started"; readonly started: Started }
  | { readonly kind: "exit"; readonly exit: Exit };

export class ShellFrameError extends Error {
  override readonly name = "ShellFrameError";
}

/** Where forwards may lead: the machine itself. The names are taken literally, whatever a file of hosts says. */
const LOOPBACK: ReadonlyMap<string, readonly string[]> = new Map([
  ["127.0.0.1", ["127.0.0.1"]],
  ["::1", ["::1"]],
  ["localhost", ["127.0.0.1", "::1"]],
]);

/** The addresses that `host` stands for; undefined when it is not the machine itself. */
export function loopbackAddresses(host: string): readonly string[] | undefined {
  return LOOPBACK.get(host.toLowerCase());
}

/** The frames for a frame; data is cut in pieces. */
export function encodeShellFrame(frame: ShellFrame): Buffer {
  if (!("bytes" in frame)) return framed(frame.kind, bodyOf(frame));
  const { kind, bytes } = frame;
  if (bytes.length <= PIECE) return framed(kind, bytes);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += PIECE) pieces.push(framed(kind, bytes.subarray(at, at + PIECE)));
  return Buffer.concat(pieces);
}

function framed(kind: ShellFrame["kind"], body: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(HEADER + body.length);
  frame.writeUInt8(KINDS.indexOf(kind), 0);
  frame.writeUInt32BE(body.length, 1);
  frame.set(body, HEADER);
  return frame;
}

function bodyOf(frame: Exclude<ShellFrame, { readonly bytes: Uint8Array }>): Uint8Array {
  switch (frame.kind) {
    case "open":
      return Buffer.from(JSON.stringify(frame.opening));
    case "started":
      return Buffer.from(JSON.stringify(frame.started));
    case "exit":
      return Buffer.from(JSON.stringify(frame.exit));
    case "signal":
      return Buffer.from(frame.signal);
    case "resize": {
      const body = Buffer.alloc(4);
      body.writeUInt16BE(Math.min(frame.columns, 0xffff), 0);
      body.writeUInt16BE(Math.min(frame.rows, 0xffff), 2);
      return body;
    }
    case "eof":
      return new Uint8Array(0);
  }
}

/** Takes bytes in any cut and gives the frames that are whole. */
export class ShellFrameReader {
  #kept: Buffer = Buffer.alloc(0);

  push(chunk: Uint8Array): ShellFrame[] {
    const bytes = this.#kept.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#kept, chunk]);
    const frames: ShellFrame[] = [];
    let at = 0;
    while (bytes.length - at >= HEADER) {
      const length = bytes.readUInt32BE(at + 1);
      if (length > MAX_BODY) throw new ShellFrameError(`Cannot read a frame of ${length} bytes: at most ${MAX_BODY}`);
      if (bytes.length - at - HEADER < length) break;
      frames.push(decoded(bytes.readUInt8(at), bytes.subarray(at + HEADER, at + HEADER + length)));
      at += HEADER + length;
    }
    this.#kept = bytes.subarray(at);
    return frames;
  }
}

function decoded(number: number, body: Buffer): ShellFrame {
  const kind = KINDS[number];
  switch (kind) {
    case "data":
    case "errors":
      return { kind, bytes: body };
    case "eof":
      return { kind };
    case "signal":
      return { kind, signal: body.toString("latin1") };
    case "resize":
      if (body.length !== 4) throw new ShellFrameError(`Cannot read a resize of ${body.length} bytes: want 4`);
      return { kind, columns: body.readUInt16BE(0), rows: body.readUInt16BE(2) };
    case "open":
      return { kind, opening: openingOf(fieldsOf(kind, body)) };
    case "started": {
      const { terminal, note } = fieldsOf(kind, body);
      const known = terminal === "pty" || terminal === "script" || terminal === "pipe" ? terminal : null;
      return { kind, started: { terminal: known, note: textOf(note) } };
    }
    case "exit": {
      const { code, signal, problem } = fieldsOf(kind, body);
      const exit = { code: typeof code === "number" ? code : null, signal: typeof signal === "string" ? signal : null };
      return { kind, exit: { ...exit, problem: textOf(problem) } };
    }
    default:
      throw new ShellFrameError(`Cannot read a frame of kind ${number}: there is none`);
  }
}

function fieldsOf(kind: string, body: Buffer): { readonly [name: string]: unknown } {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    if (typeof value === "object" && value !== null) return { ...value };
  } catch {
    // Told below, together with everything else that is no object.
  }
  throw new ShellFrameError(`Cannot read a frame of kind ${kind}: want a JSON object`);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function openingOf(fields: { readonly [name: string]: unknown }): Opening {
  const { what, command, env, host, port } = fields;
  if (what === "files") return { what };
  if (what === "dial" && typeof host === "string" && isCount(port, 0xffff)) return { what, host, port };
  if (what === "shell" && (command === null || (typeof command === "string" && !command.includes("\0")))) {
    const pairs = Array.isArray(env) ? env.filter((pair): pair is string => typeof pair === "string") : [];
    return { what, command, env: pairs, terminal: terminalOf(fields.terminal) };
  }
  throw new ShellFrameError(`Cannot open ${JSON.stringify(fields).slice(0, 200)}: want a shell, files or a dial`);
}

function terminalOf(value: unknown): Terminal | null {
  if (typeof value !== "object" || value === null) return null;
  const { name, columns, rows } = { name: "", columns: 0, rows: 0, ...value };
  if (typeof name === "string" && /^[\w.+-]{1,64}$/.test(name) && isCount(columns, 0xffff) && isCount(rows, 0xffff))
    return { name, columns, rows };
  throw new ShellFrameError(`Cannot open the terminal ${JSON.stringify(value).slice(0, 200)}`);
}

function isCount(value: unknown, most: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= most;
}

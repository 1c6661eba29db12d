/**
 * Lines of the revdial control channel, the connection that a machine keeps open to the coordinator.
 *
 * One JSON object per line, UTF-8, ended by one LF. Keys, all strings, left out when empty: `command`, `connPath`, `err`.
 *
 *   coordinator to machine   {"command":"keep-alive"}                      nothing to do
 *                            {"command":"conn-ready","connPath":"/..."}    dial once more and fetch this path
 *   machine to coordinator   {"command":"pickup-failed","err":"..."}       that dial failed; connPath may be missing
 *                            {"command":"pong"}                            ours only, answers keep-alive when both agreed on it
 *
 * Limit: a line is at most MAX_CONTROL_LINE bytes with its LF; a longer one ends the session at the other side, so encode
 * cuts `err` to fit and refuses the rest. Unknown commands are skipped by the reader's user; anything that is not such
 * an object makes the reader throw, and the session must end.
 * Source: the buildlet's revdial protocol as observed; golden lines in the test.
 */
export const MAX_CONTROL_LINE = 4096;

export interface ControlLine {
  readonly command: string;
  readonly connPath?: string;
  readonly err?: string;
}

export class ControlLineError extends Error {
  override readonly name = "ControlLineError";
}

const LF = 10;

export function encodeControlLine(line: ControlLine): Uint8Array {
  let err = line.err ?? "";
  for (;;) {
    const text = JSON.stringify({
      command: line.command,
      ...(line.connPath ? { connPath: line.connPath } : {}),
      ...(err ? { err } : {}),
    });
    const bytes = Buffer.from(`${text}\n`, "utf8");
    if (bytes.length <= MAX_CONTROL_LINE) return bytes;
    if (err === "") {
      throw new ControlLineError(
        `Cannot encode a control line of ${bytes.length} bytes: want at most ${MAX_CONTROL_LINE}`,
      );
    }
    // A character takes 1 to 6 bytes once escaped, so this ends after a few rounds.
    const over = bytes.length - MAX_CONTROL_LINE;
    err = err.slice(0, Math.max(0, err.length - Math.ceil(over / 6))).toWellFormed();
  }
}

/** Reads lines out of a byte stream that may be cut anywhere. Throws ControlLineError; after that it is of no use. */
export class ControlLineReader {
  #partial: Uint8Array = new Uint8Array(0);

  /** The lines that `chunk` completes, in order. */
  push(chunk: Uint8Array): ControlLine[] {
    const lines: ControlLine[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(LF, start);
      const piece = chunk.subarray(start, end === -1 ? undefined : end);
      const length = this.#partial.length + piece.length;
      // The LF still has to fit.
      if (length >= MAX_CONTROL_LINE) {
        throw new ControlLineError(
          `Cannot read a control line of ${length} bytes or more: want at most ${MAX_CONTROL_LINE}`,
        );
      }
      if (end === -1) {
        if (piece.length > 0) this.#partial = Buffer.concat([this.#partial, piece]);
        return lines;
      }
      const whole = this.#partial.length === 0 ? piece : Buffer.concat([this.#partial, piece]);
      this.#partial = new Uint8Array(0);
      lines.push(parseLine(whole));
      start = end + 1;
    }
  }
}

function parseLine(bytes: Uint8Array): ControlLine {
  const text = new TextDecoder().decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new ControlLineError(`Cannot read control line ${JSON.stringify(text.slice(0, 80))}: want a JSON object`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ControlLineError(`Cannot read control line ${JSON.stringify(text.slice(0, 80))}: want a JSON object`);
  }
  const { command = "", connPath, err } = value as { command?: unknown; connPath?: unknown; err?: unknown };
  for (const field of [command, connPath, err]) {
    if (field !== undefined && typeof field !== "string") {
      throw new ControlLineError(`Cannot read control line ${JSON.stringify(text.slice(0, 80))}: want strings`);
    }
  }
  return {
    command: String(command),
    ...(typeof connPath === "string" ? { connPath } : {}),
    ...(typeof err === "string" ? { err } : {}),
  };
}

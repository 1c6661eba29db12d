/** The output of one of several commands, line by line, each with its name before it: no two of them share a line. */

/** A line is shown, even without a line feed, once it is this long. */
const LONGEST_LINE = 64 * 1024;
const LF = 0x0a;

export class PrefixedLines {
  readonly #prefix: Buffer;
  #begun: Buffer[] = [];
  #length = 0;

  constructor(name: string) {
    this.#prefix = Buffer.from(`${name}: `);
  }

  /** The lines that end in `piece`. The rest of it waits for its own end. */
  push(piece: Uint8Array): Buffer {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    const lines: Buffer[] = [];
    let from = 0;
    for (let end = bytes.indexOf(LF); end >= 0; end = bytes.indexOf(LF, from)) {
      lines.push(this.#prefix, ...this.#begun, bytes.subarray(from, end + 1));
      this.#begun = [];
      this.#length = 0;
      from = end + 1;
    }
    if (from < bytes.length) {
      this.#begun.push(Buffer.from(bytes.subarray(from)));
      this.#length += bytes.length - from;
    }
    if (this.#length > LONGEST_LINE) lines.push(this.end());
    return Buffer.concat(lines);
  }

  /** The rest, as a line. */
  end(): Buffer {
    if (this.#length === 0) return Buffer.alloc(0);
    const line = Buffer.concat([this.#prefix, ...this.#begun, Buffer.from("\n")]);
    this.#begun = [];
    this.#length = 0;
    return line;
  }
}

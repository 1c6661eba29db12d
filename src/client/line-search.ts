/**
 * Finds out whether a line of some output matches an expression. It looks at each line when it ends, and keeps none.
 */

/** A longer line is looked at in pieces of this length. */
export const LONGEST_LINE: number = 64 * 1024;
const LF = 0x0a;

/** Whether the text of an expression shows that it wants a line feed, or any character: no single line can match it. */
export function meansSeveralLines({ source, dotAll }: RegExp): boolean {
  // A line feed in a negated class is harmless, and `\\\\n` has none.
  const positive = source.replaceAll(/\[\^(?:\\.|[^\]\\])+\]|\\[^n]/g, "");
  const anything = /\[\^\]|\[\\(?:s\\S|S\\s|d\\D|D\\d|w\\W|W\\w)\]/;
  return dotAll || anything.test(source) || /\\n|\(\?[im]*s/.test(positive);
}

export class LineSearch {
  readonly #expression: RegExp;
  #begun: Buffer[] = [];
  #length = 0;
  #found = false;

  constructor(expression: RegExp) {
    this.#expression = expression;
  }

  push(piece: Uint8Array): void {
    const bytes = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    for (let from = 0; from < bytes.length && !this.#found; ) {
      const room = Math.min(bytes.length, from + LONGEST_LINE - this.#length);
      const end = bytes.subarray(0, room).indexOf(LF, from);
      const part = bytes.subarray(from, end < 0 ? room : end);
      this.#begun.push(Buffer.from(part));
      this.#length += part.length;
      from += part.length + (end < 0 ? 0 : 1);
      if (end >= 0 || this.#length === LONGEST_LINE) this.#look();
    }
  }

  /** Ends the output. Returns whether a line of it matched. */
  end(): boolean {
    if (this.#length > 0) this.#look();
    return this.#found;
  }

  #look(): void {
    const line = Buffer.concat(this.#begun).toString().replace(/\r$/, "");
    this.#begun = [];
    this.#length = 0;
    this.#found ||= this.#expression.test(line);
  }
}

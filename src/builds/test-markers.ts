/**
 * Markers: lines by which a program that runs several tests says which one is which, between the output of the tests themselves.
 *
 *   $BARNRAISER_MARK begin NAME
 *   $BARNRAISER_MARK pass NAME          or fail, or skip
 *
 * The mark is in the environment of the program, and new for each run. A line counts when it begins with the mark; whatever else a test
 * prints is output, also when it looks just like a marker. So nobody imitates one by accident, nor by what an earlier run printed. It is no
 * secret from the tests: they inherit the environment, unless the program takes it out for them. A test's output is what stands between the line
 * that begins it and the one that ends it. An end without a begin is an end; of several ends of one test a failure is the one that counts.
 *
 * What a test took is the time between the two lines as they come, so only of what comes as it is printed: of output that was waiting to be
 * fetched nobody knows when it was written.
 */
import { LONGEST_TEST_NAME } from "../config/names.ts";
import type { TestReport } from "./test-results.ts";

export const MARK_VARIABLE = "BARNRAISER_MARK";

export function markOf(nonce: string): string {
  return `##barnraiser:${nonce}`;
}

const LF = 10;
const WORDS = { pass: "success", fail: "failure", skip: "skipped" } as const;

export class MarkerReader {
  readonly #mark: Buffer;
  readonly #monotonic: () => number;
  readonly #limit: number;
  readonly #begun = new Map<string, { readonly from: number; readonly at: number | null }>();
  readonly #reports = new Map<string, TestReport>();
  /** Offset of `#rest` in the output. */
  #at = 0;
  /** The unfinished line, while it may still be a marker; undefined: it is none. */
  #rest: Buffer | undefined = Buffer.alloc(0);
  /** Up to here the output was printed before it came. */
  #behind = 0;

  constructor(nonce: string, monotonic: () => number) {
    this.#mark = Buffer.from(`${markOf(nonce)} `);
    this.#monotonic = monotonic;
    this.#limit = this.#mark.length + LONGEST_TEST_NAME * 4 + 16;
  }

  /** The output up to byte `length` was printed before: it tells nothing about how long a test takes. */
  behind(length: number): void {
    this.#behind = length;
  }

  push(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; ) {
      const end = chunk.indexOf(LF, from);
      const piece = chunk.subarray(from, end < 0 ? chunk.length : end + 1);
      from += piece.length;
      this.#at += piece.length;
      if (this.#rest !== undefined) {
        const line: Buffer = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
        if (end >= 0) this.#take(line);
        this.#rest = this.#mayBeMarker(line) ? line : undefined;
      }
      if (end >= 0) this.#rest = Buffer.alloc(0);
    }
  }

  /** Name -> what became of it, as far as it was said. */
  get reports(): ReadonlyMap<string, TestReport> {
    return this.#reports;
  }

  /** Tests that have begun and not ended -> where their output begins. */
  get unended(): ReadonlyMap<string, number> {
    return new Map([...this.#begun].map(([name, { from }]) => [name, from]));
  }

  #mayBeMarker(line: Buffer): boolean {
    const length = Math.min(line.length, this.#mark.length);
    return line.length <= this.#limit && line.compare(this.#mark, 0, length, 0, length) === 0;
  }

  #take(line: Buffer): void {
    if (line.length <= this.#mark.length || !this.#mayBeMarker(line)) return;
    const text = line.toString("utf8", this.#mark.length).trim();
    const space = text.indexOf(" ");
    if (space < 0) return;
    const [word, name] = [text.slice(0, space), text.slice(space + 1).trim()];
    const now = this.#at <= this.#behind ? null : this.#monotonic();
    if (word === "begin") {
      this.#begun.set(name, { from: this.#at, at: now });
      return;
    }
    const outcome = word === "pass" || word === "fail" || word === "skip" ? WORDS[word] : undefined;
    if (outcome === undefined || this.#reports.get(name)?.outcome === "failure") return;
    const to = this.#at - line.length;
    const began = this.#begun.get(name);
    this.#begun.delete(name);
    const durationMs = now === null || began?.at == null ? null : now - began.at;
    this.#reports.set(name, { outcome, durationMs, from: began?.from ?? to, to });
  }
}

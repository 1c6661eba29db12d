/**
 * Markers: lines by which a program that runs several tests says which one it runs, between the output of the tests
 * themselves.
 *
 *   $BARNRAISER_MARK begin NAME
 *   $BARNRAISER_MARK pass NAME          or fail, or skip
 *
 * The mark is in the environment of the program, and new for each run. So nobody imitates it by accident, and output of
 * an earlier run does not either. It is no secret from the tests: they inherit the environment, unless the program
 * removes it for them.
 *
 * A marker goes from the mark to the end of its line. What stands before it in the line is the output of a test that
 * did not end its last line. Of several marks in a line the last one counts. A test's output is what stands between the
 * marker that begins it and the one that ends it.
 *
 * An end without a begin is an end. Of several ends of one test a failure counts, else the last one that says something
 * new. So a shell that shows what it runs changes nothing.
 *
 * The duration of a test is the time between its two lines as they come. It is known only for output that comes as it
 * is printed: of output that waited to be fetched nobody knows when it was written.
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
  /** How many bytes have come. */
  #at = 0;
  /** The end of the unfinished line, as far as it may still be a marker. */
  #rest: Buffer = Buffer.alloc(0);
  /** The output up to this byte was printed before it could be read. */
  #behind = 0;

  constructor(nonce: string, monotonic: () => number) {
    this.#mark = Buffer.from(`${markOf(nonce)} `);
    this.#monotonic = monotonic;
    this.#limit = this.#mark.length + LONGEST_TEST_NAME * 4 + 16;
  }

  /**
   * To be called when the output up to byte `length` was printed earlier: it tells nothing about how long a test takes.
   */
  behind(length: number): void {
    this.#behind = length;
  }

  push(chunk: Buffer): void {
    for (let from = 0; from < chunk.length; ) {
      const end = chunk.indexOf(LF, from);
      const piece = chunk.subarray(from, end < 0 ? chunk.length : end + 1);
      from += piece.length;
      this.#at += piece.length;
      const line: Buffer = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
      if (end >= 0) this.#take(line);
      this.#rest = end >= 0 ? Buffer.alloc(0) : line.subarray(this.#markerIn(line) ?? 1 - this.#mark.length);
    }
  }

  /** Name -> the result of that test, if a marker told it. */
  get reports(): ReadonlyMap<string, TestReport> {
    return this.#reports;
  }

  /** Tests that have begun and not ended -> where their output begins. */
  get unended(): ReadonlyMap<string, number> {
    return new Map([...this.#begun].map(([name, { from }]) => [name, from]));
  }

  /** Where the last marker of `line` begins; undefined: there is none, or it is too long. */
  #markerIn(line: Buffer): number | undefined {
    const from = line.lastIndexOf(this.#mark);
    return from < 0 || line.length - from > this.#limit ? undefined : from;
  }

  #take(line: Buffer): void {
    const from = this.#markerIn(line);
    if (from === undefined) return;
    const text = line.toString("utf8", from + this.#mark.length).trim();
    const space = text.indexOf(" ");
    if (space < 0) return;
    const [word, name] = [text.slice(0, space), text.slice(space + 1).trim()];
    const now = this.#at <= this.#behind ? null : this.#monotonic();
    if (word === "begin") {
      this.#begun.set(name, { from: this.#at, at: now });
      return;
    }
    const outcome = word === "pass" || word === "fail" || word === "skip" ? WORDS[word] : undefined;
    const told = this.#reports.get(name)?.outcome;
    const began = this.#begun.get(name);
    if (outcome === undefined || told === "failure" || (told === outcome && began === undefined)) return;
    const to = this.#at - line.length + from;
    this.#begun.delete(name);
    const durationMs = now === null || began?.at == null ? null : now - began.at;
    this.#reports.set(name, { outcome, durationMs, from: began?.from ?? to, to });
  }
}

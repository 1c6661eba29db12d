/**
 * Markers: lines by which a program that runs several tests says which one is which, between the output of the tests themselves.
 *
 *   $BARNRAISER_MARK begin NAME
 *   $BARNRAISER_MARK pass NAME          or fail, or skip
 *
 * The mark is in the environment of the program, and new for each run: nobody imitates it by accident, nor by what an earlier run printed. It is
 * no secret from the tests: they inherit the environment, unless the program takes it out for them. A marker goes from the mark to the end
 * of its line. What stands before it there is the output of a test that did not end its last line; of several in a line the last one counts. A
 * test's output is what stands between the marker that begins it and the one that ends it. An end without a begin is an end; of several ends
 * of one test a failure is the one that counts, else the last one that says something new, so that a shell which shows what it runs changes nothing.
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
  /** How much has come. */
  #at = 0;
  /** The end of the unfinished line: as much as may still be a marker. */
  #rest: Buffer = Buffer.alloc(0);
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
      const line: Buffer = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
      if (end >= 0) this.#take(line);
      this.#rest = end >= 0 ? Buffer.alloc(0) : line.subarray(this.#markerIn(line) ?? 1 - this.#mark.length);
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

  /** Where the last one begins, if it is not too long for any. */
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

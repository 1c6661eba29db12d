/**
 * Reports of test programs: what ran, how it ended, how long it took, what it printed. The formats: go-test-json.ts, junit.ts.
 *
 * A report is written by the code under test, so it may be anything: cut off, malformed, imitated, or of any size. Readers take pieces
 * cut anywhere, give each test as soon as it has ended, never throw, and keep a bounded amount whatever comes:
 *
 *   name               NAME_LIMIT characters, the rest is cut off
 *   output of a test   OUTPUT_KEPT characters: the beginning and the end, with a line between that says how much is missing
 *   unfinished tests   KEPT_AT_ONCE characters together, names and what memory each costs counted in; output beyond is left out
 *   tests              TESTS_LIMIT are given
 *
 * What was readable counts although the rest is not; `ReportEnd.trouble` then says why the report is no whole one, and a caller must not
 * take the absence of a failure in it for success.
 */
export const NAME_LIMIT = 4000;
export const OUTPUT_KEPT: number = 240 * 1024;
export const KEPT_AT_ONCE: number = 32 * 1024 * 1024;
export const TESTS_LIMIT = 1_000_000;

export type TestOutcome = "passed" | "failed" | "skipped";

export interface ReportedTest {
  /** The package of a Go test, the class of a JUnit test case; "" when the report names none. */
  readonly suite: string;
  /** "" for the suite itself: a Go package, or a JUnit suite that failed outside of its tests. */
  readonly test: string;
  readonly outcome: TestOutcome;
  /** Undefined when the report does not say. */
  readonly durationMs: number | undefined;
  /** What it printed, and why it failed. */
  readonly output: string;
}

export interface ReportEnd {
  /** How many were given. */
  readonly tests: number;
  /** Tests that began and have no result, by their full names; at most UNENDED_NAMED. */
  readonly unended: readonly string[];
  /** Why the report is not whole, for people; undefined when it is. */
  readonly trouble: string | undefined;
}

const UNENDED_NAMED = 20;

export interface ReportReader {
  push(chunk: Uint8Array): void;
  /** There is no more. */
  end(): ReportEnd;
}

/** `suite.test`, or the one of the two that is there. */
export function fullName({ suite, test }: { readonly suite: string; readonly test: string }): string {
  return suite !== "" && test !== "" ? `${suite}.${test}` : `${suite}${test}`;
}

/** A name as it can be kept: no zero character, which the database refuses, and not endless. */
export function keptName(name: string): string {
  return name.slice(0, NAME_LIMIT).replaceAll("\0", "\ufffd");
}

/** A report's seconds as whole milliseconds; undefined for what cannot be a duration. */
export function milliseconds(seconds: number): number | undefined {
  return Number.isFinite(seconds) && seconds >= 0 && seconds < 1e9 ? Math.round(seconds * 1000) : undefined;
}

/** How much all that is unfinished in one report may still take. */
export interface Budget {
  left: number;
}

/** What a text costs beside its characters: a string that grows keeps each piece it was made of. */
const PIECE_COST = 32;
const OUTPUT_COST = 512;
const PART: number = OUTPUT_KEPT / 3;

interface Part {
  text: string;
  cost: number;
}

/**
 * What one test has printed so far: its beginning, and of the rest the newest one or two thirds. When the budget is used up, the rest
 * goes first.
 */
export class KeptOutput {
  readonly #budget: Budget;
  #cost: number;
  readonly #head: Part = { text: "", cost: 0 };
  #older: Part = { text: "", cost: 0 };
  #newer: Part = { text: "", cost: 0 };
  #dropped = 0;

  private constructor(budget: Budget, cost: number) {
    this.#budget = budget;
    this.#cost = cost;
    budget.left -= cost;
  }

  /** Undefined when there is no room to follow one more. `name` is kept by the caller as long as this is. */
  static open(budget: Budget, name: string): KeptOutput | undefined {
    const cost = OUTPUT_COST + name.length;
    return cost <= budget.left ? new KeptOutput(budget, cost) : undefined;
  }

  add(text: string): void {
    if (text === "") return;
    const isHead = this.#newer.text === "" && this.#dropped === 0;
    const room = isHead
      ? Math.max(0, Math.min(text.length, PART - this.#head.text.length, this.#budget.left - PIECE_COST))
      : 0;
    if (room > 0) this.#append(this.#head, part(text, 0, room));
    if (room === text.length) return;
    const kept = part(text, Math.max(room, text.length - PART), text.length);
    this.#dropped += text.length - room - kept.length;
    if (this.#newer.text.length + kept.length > PART) {
      this.#drop(this.#older);
      this.#older = this.#newer;
      this.#newer = { text: "", cost: 0 };
    }
    this.#append(this.#newer, kept);
    if (this.#budget.left >= 0) return;
    this.#drop(this.#older);
    this.#drop(this.#newer);
  }

  get text(): string {
    const dropped = this.#dropped === 0 ? "" : `\n... ${this.#dropped} characters left out ...\n`;
    return `${this.#head.text}${dropped}${this.#older.text}${this.#newer.text}`;
  }

  /** Gives back what this took of the budget; the text is gone. */
  close(): void {
    for (const each of [this.#head, this.#older, this.#newer]) this.#drop(each);
    this.#budget.left += this.#cost;
    this.#cost = 0;
  }

  #append(to: Part, text: string): void {
    const cost = text.length + PIECE_COST;
    to.text += text;
    to.cost += cost;
    this.#budget.left -= cost;
  }

  #drop(from: Part): void {
    this.#dropped += from.text.length;
    this.#budget.left += from.cost;
    from.text = "";
    from.cost = 0;
  }
}

/** A part of a text that does not keep all of it in memory, as a slice would. */
function part(text: string, from: number, to: number): string {
  if (from === 0 && to === text.length) return text;
  return Buffer.from(text.slice(from, to), "utf16le").toString("utf16le");
}

/** Gives tests to whoever reads a report, as long as there are not too many, and keeps the first thing that went wrong. */
export class ReportTally {
  readonly #onTest: (test: ReportedTest) => void;
  #tests = 0;
  #trouble: string | undefined;

  constructor(onTest: (test: ReportedTest) => void) {
    this.#onTest = onTest;
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  give(test: ReportedTest): void {
    if (this.#tests === TESTS_LIMIT) {
      this.note(`The report has more than ${TESTS_LIMIT} tests; the others are left out`);
      return;
    }
    this.#tests++;
    this.#onTest({ ...test, suite: keptName(test.suite), test: keptName(test.test) });
  }

  note(trouble: string): void {
    this.#trouble ??= trouble;
  }

  end(unended: Iterable<string>): ReportEnd {
    return { tests: this.#tests, unended: [...Iterator.from(unended).take(UNENDED_NAMED)], trouble: this.#trouble };
  }
}

/**
 * What a report says about the tests of a group. `go test -json` and JUnit name tests in their own way, and a list
 * command in another.
 *
 * A reported test is about a listed one when the listed name is its full name (`suite.test`), its own name, or its
 * suite. If several are about the same listed test, a failure among them decides. A failure is written into the log
 * under its full name, since a person would find it nowhere else. The listed test's place in the log is there.
 *
 *   collecting -begin: the command has ended, so the log takes more than its output-> writing -end-> done
 *
 * While it is collecting, failures wait here, with up to OUTPUT_KEPT_HERE of their output. While it is writing, the
 * reader of the reports calls `flush` between pieces. So little of it is ever here, and as much passes through as a log
 * takes.
 */
import type { GroupTest } from "../store/test-groups.ts";
import { fullName, type ReportedTest } from "../wire/test-report/test-report.ts";
import { STRANGERS_NAMED, type Strangers, type TestReport } from "./test-results.ts";

/** How many failures of one group the log shows. The others are only counted. */
const FAILURES_SHOWN = 200;
/** How many characters of output the failures that wait for the log may have together. */
const OUTPUT_KEPT_HERE = 8 * 1024 * 1024;
const NOT_KEPT = "(its output is left out: what failed in this group printed too much to be repeated here)";

interface Told {
  outcome: TestReport["outcome"];
  durationMs: number | null;
}

interface Failure {
  readonly name: string;
  readonly about: readonly string[];
  readonly output: string;
}

const OUTCOMES = { passed: "success", failed: "failure", skipped: "skipped" } as const;

export class NamedReports {
  readonly #listed: ReadonlySet<string>;
  readonly #told = new Map<string, Told>();
  /** The failures that are not in the log yet. */
  #failures: Failure[] = [];
  /** How many characters of output they have. */
  #kept = 0;
  #failed = 0;
  readonly #strangers: string[] = [];
  #strange = 0;
  readonly #places = new Map<string, { from: number; to: number }>();
  /** The length of the log: before the failures were added, and now (`#at`). */
  #length = 0;
  #at = 0;
  #add: (output: Buffer) => Promise<void> = () => Promise.resolve();

  constructor(tests: readonly GroupTest[]) {
    this.#listed = new Set(tests.map(({ name }) => name));
  }

  take(test: ReportedTest): void {
    const full = fullName(test);
    const about = [...new Set([full, test.test, test.suite])].filter((name) => this.#listed.has(name));
    for (const name of about) {
      const whole = name === full || name === test.test;
      this.#tell(name, test, whole);
    }
    if (about.length === 0 && ++this.#strange <= STRANGERS_NAMED) this.#strangers.push(full);
    if (test.outcome !== "failed" || about.length === 0) return;
    if (++this.#failed > FAILURES_SHOWN) return;
    const fits = this.#kept + test.output.length <= OUTPUT_KEPT_HERE;
    const output = fits ? test.output : NOT_KEPT;
    this.#kept += output.length;
    this.#failures.push({ name: full, about, output });
  }

  /** Reported tests that are about no listed one. */
  get strangers(): Strangers {
    return { names: this.#strangers, count: this.#strange };
  }

  /** From now on `add` writes failures to the log, which has `length` bytes so far. */
  begin(length: number, add: (output: Buffer) => Promise<void>): void {
    this.#length = length;
    this.#at = length;
    this.#add = add;
  }

  /** Writes the failures so far to the log. Resolves when there may be more. */
  flush(): Promise<void> {
    const failures = this.#failures;
    this.#failures = [];
    this.#kept = 0;
    const parts = failures.map(({ name, about, output }) => {
      const bytes = Buffer.from(`\n##### ${name} failed\n${output}${output.endsWith("\n") ? "" : "\n"}`);
      const from = this.#at;
      this.#at += bytes.length;
      for (const listed of about) {
        this.#places.set(listed, { from: this.#places.get(listed)?.from ?? from, to: this.#at });
      }
      return bytes;
    });
    return this.#write(parts);
  }

  /** Writes the rest to the log. Returns what was reported, by listed name. */
  async end(troubles: readonly (string | undefined)[]): Promise<ReadonlyMap<string, TestReport>> {
    await this.flush();
    const more = this.#failed - FAILURES_SHOWN;
    const lines = more > 0 ? [`\nbarnraiser: ${more} more failures were reported\n`] : [];
    for (const trouble of troubles) {
      if (trouble !== undefined) lines.push(`\nbarnraiser: the report is not whole: ${trouble}\n`);
    }
    await this.#write(lines.map((line) => Buffer.from(line)));
    const reports = new Map<string, TestReport>();
    for (const [name, { outcome, durationMs }] of this.#told) {
      reports.set(name, { outcome, durationMs, ...(this.#places.get(name) ?? { from: 0, to: this.#length }) });
    }
    return reports;
  }

  #write(parts: readonly Buffer[]): Promise<void> {
    return parts.length === 0 ? Promise.resolve() : this.#add(Buffer.concat(parts));
  }

  /** Notes a report about the listed test `name`. `whole`: it is about the test itself, not about a part of it. */
  #tell(name: string, test: ReportedTest, whole: boolean): void {
    const told = this.#told.get(name);
    const outcome = OUTCOMES[test.outcome];
    const durationMs = whole ? (test.durationMs ?? null) : null;
    if (told === undefined) {
      this.#told.set(name, { outcome, durationMs });
      return;
    }
    if (outcome === "failure" || (outcome === "success" && told.outcome === "skipped")) told.outcome = outcome;
    if (durationMs !== null) told.durationMs = (told.durationMs ?? 0) + durationMs;
  }
}

/**
 * What a report says about the tests of a group: `go test -json` and JUnit name tests in their own way, a list command in its own.
 *
 * A reported test is about a listed one when the listed name is its full name (`suite.test`), its own name, or its suite; then a failure
 * among several decides. What failed is written into the log under its full name, since the report is the only place where a person
 * would find it, and the listed test's place in the log is there.
 */
import type { GroupTest } from "../store/test-groups.ts";
import { fullName, type ReportedTest } from "../wire/test-report/test-report.ts";
import type { Reported, TestReport } from "./test-results.ts";

/** Of all failures of one group; what is beyond is counted. */
const FAILURES_SHOWN = 200;

interface Told {
  outcome: TestReport["outcome"];
  durationMs: number | null;
}

const OUTCOMES = { passed: "success", failed: "failure", skipped: "skipped" } as const;

export class NamedReports {
  readonly #listed: ReadonlySet<string>;
  readonly #told = new Map<string, Told>();
  readonly #failures: { readonly name: string; readonly about: readonly string[]; readonly output: string }[] = [];
  #leftOut = 0;

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
    if (test.outcome !== "failed" || about.length === 0) return;
    if (this.#failures.length < FAILURES_SHOWN) this.#failures.push({ name: full, about, output: test.output });
    else this.#leftOut++;
  }

  /** Adds what failed to the log, of which there are `length` bytes. */
  async end(
    troubles: readonly (string | undefined)[],
    length: number,
    add: (output: Buffer) => Promise<void>,
  ): Promise<Reported> {
    let at = length;
    const places = new Map<string, { from: number; to: number }>();
    const write = async (text: string): Promise<void> => {
      const bytes = Buffer.from(text);
      at += bytes.length;
      await add(bytes);
    };
    for (const { name, about, output } of this.#failures) {
      const from = at;
      await write(`\n##### ${name} failed\n${output}${output.endsWith("\n") ? "" : "\n"}`);
      for (const listed of about) places.set(listed, { from: places.get(listed)?.from ?? from, to: at });
    }
    if (this.#leftOut > 0) await write(`\nbarnraiser: ${this.#leftOut} more failures were reported\n`);
    for (const trouble of troubles)
      if (trouble !== undefined) await write(`\nbarnraiser: the report is not whole: ${trouble}\n`);
    const reports = new Map<string, TestReport>();
    for (const [name, { outcome, durationMs }] of this.#told) {
      reports.set(name, { outcome, durationMs, ...(places.get(name) ?? { from: 0, to: length }) });
    }
    return { reports, unended: new Map() };
  }

  /** `whole`: the report is of this test itself, not of a part of it. */
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

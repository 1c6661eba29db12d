/**
 * From how the command of a group ended and what it reported to a result for each test of the group. Pure.
 *
 * Nobody passes who was not said to have passed, and nobody fails for what another test did:
 *
 *   the command says by its exit alone   well: all passed. What each of several took is not known: a guess for the
 *                                        next builds is its part of their time, by what was expected. Not well: a
 *                                        single test failed; of several each runs alone
 *   it reports test by test              as reported. A test that began and has no end failed when the command did. A
 *                                        test that was not reported runs alone, and fails when it is not reported then
 *                                        either. A command that did not end well, and reported no failure, is believed
 *                                        by its exit. Where it ended well, and its report came too slowly to be read
 *                                        whole, what is not reported is lost with its machine
 *
 * A limit that ended the command is final for the test that ran into it: it is not run for so long a second time.
 *
 * The duration of a test is measured on the machine, whose clock may be set meanwhile. If it is much longer than the
 * farm saw the group run, it does not count.
 */
import type { GroupTest } from "../store/test-groups.ts";
import { shown } from "../store/test-lines.ts";
import type { TestRan } from "../store/test-turn.ts";

/**
 * How much longer a reported test may take than the farm saw its group run: times are rounded, and results may come
 * from a cache.
 */
const BEYOND_SEEN_MS = 60_000;

export interface TestReport {
  readonly outcome: "success" | "failure" | "skipped";
  /** How long the test took; null: the report does not say. */
  readonly durationMs: number | null;
  /** Where its output begins in the log of the group; `to`: where it ends. */
  readonly from: number;
  readonly to: number;
}

export interface GroupRan {
  readonly ok: boolean;
  /** A limit ended the command. */
  readonly stopped: boolean;
  /** How long the farm saw the command run; null: it did not see all of it. */
  readonly durationMs: number | null;
  /** How many bytes the log of the group has. */
  readonly length: number;
  /** What the command reported; undefined: it says only by its exit how it went. */
  readonly reported: Reported | undefined;
}

export interface Reported {
  readonly reports: ReadonlyMap<string, TestReport>;
  /** Reported names that are no test of the group: the first few, and how many there are. */
  readonly strangers: Strangers;
  /** Tests that began and did not end -> where their output begins. */
  readonly unended: ReadonlyMap<string, number>;
  /** Not the whole report could be read, since that took too long. */
  readonly late: boolean;
}

export interface Strangers {
  readonly names: readonly string[];
  readonly count: number;
}

/** How many of the names that are no test of the group are told. */
export const STRANGERS_NAMED = 3;

/**
 * Why a single test fails although its command ended well: the report does not say how it went. Undefined: that is not
 * so.
 */
export function unnamedText(tests: readonly GroupTest[], ran: Pick<GroupRan, "ok" | "reported">): string | undefined {
  const [test, ...others] = tests;
  if (test === undefined || others.length > 0 || !ran.ok || ran.reported === undefined) return undefined;
  const { reports, unended, late, strangers } = ran.reported;
  if (late || reports.has(test.name)) return undefined;
  if (unended.has(test.name)) return "but its results say that it began, and not how it ended";
  const more = strangers.count - strangers.names.length;
  const names = strangers.names.map((name) => `"${shown(name)}"`).join(", ");
  return `but its results do not name it: they name ${names || "no test"}${more > 0 ? ` and ${more} more` : ""}`;
}

export function resultsOf(tests: readonly GroupTest[], ran: GroupRan, unknownMs: number): TestRan[] {
  return ran.reported === undefined ? byExit(tests, ran, unknownMs) : byReport(tests, ran, ran.reported);
}

function byExit(tests: readonly GroupTest[], ran: GroupRan, unknownMs: number): TestRan[] {
  const expected = (test: GroupTest): number => Math.max(1, test.expectedMs ?? unknownMs);
  const all = tests.reduce((sum, test) => sum + expected(test), 0);
  return tests.map((test) => ({
    number: test.number,
    result: ran.ok ? "success" : tests.length === 1 ? "failure" : "again",
    final: ran.stopped,
    durationMs: tests.length === 1 ? ran.durationMs : null,
    shareMs: tests.length === 1 || ran.durationMs === null ? null : (ran.durationMs * expected(test)) / all,
    from: 0,
    to: ran.length,
  }));
}

function byReport(tests: readonly GroupTest[], ran: GroupRan, { reports, unended, late }: Reported): TestRan[] {
  const single = tests.length === 1;
  const blamed =
    ran.ok || tests.some(({ name }) => reports.get(name)?.outcome === "failure" || (unended.has(name) && !ran.ok));
  return tests.map(({ number, name }): TestRan => {
    const report = reports.get(name);
    if (report?.outcome === "failure") return { number, result: "failure", final: false, ...place(report, ran) };
    if (report !== undefined && (blamed || ran.stopped)) {
      return { number, result: report.outcome, final: false, ...place(report, ran) };
    }
    const began = unended.get(name);
    const from = report?.from ?? began ?? 0;
    const failed = single || (began !== undefined && !ran.ok);
    return {
      number,
      result: late && ran.ok ? "lost" : failed ? "failure" : "again",
      final: failed && ran.stopped,
      durationMs: single ? ran.durationMs : null,
      shareMs: null,
      from: single ? 0 : from,
      to: ran.length,
    };
  });
}

function place(
  { durationMs, from, to }: TestReport,
  seen: GroupRan,
): Pick<TestRan, "durationMs" | "shareMs" | "from" | "to"> {
  const tooLong = durationMs !== null && seen.durationMs !== null && durationMs > seen.durationMs + BEYOND_SEEN_MS;
  return { durationMs: tooLong ? null : durationMs, shareMs: null, from, to };
}

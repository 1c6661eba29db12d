/**
 * What a group of tests came to: from how its command ended and what it reported, to a result for each of its tests. Pure.
 *
 * Nobody passes who was not said to have passed, and nobody fails for what another one did:
 *
 *   the command says by its exit alone   well: all passed; what each of several took nobody knows, and its part of their time, by what was
 *                                        expected, is a guess for the next builds. Not well: of one test that is its failure; of several
 *                                        each runs alone
 *   it reports test by test              as reported. A test that began and has no end failed when the command did; one that was not
 *                                        reported at all runs alone, and fails when it is not reported then either. A command that
 *                                        did not end well, and reported no failure, is believed by its exit. Where it ended well, and
 *                                        its report came too slowly to be read whole, what is not reported is lost with its machine
 *
 * A limit that ended the command is final for the test that ran into it: it is not run for so long once more.
 *
 * What a test took is measured on the machine, whose clock may be set while it runs: what the farm did not see pass is no duration.
 */
import type { GroupTest } from "../store/test-groups.ts";
import { shown } from "../store/test-lines.ts";
import type { TestRan } from "../store/test-turn.ts";

/** A report may say so much more than the farm saw of the whole group: times are rounded, and results may come from a cache. */
const BEYOND_SEEN_MS = 60_000;

export interface TestReport {
  readonly outcome: "success" | "failure" | "skipped";
  /** null: not said. */
  readonly durationMs: number | null;
  /** Its output in the log of the group. */
  readonly from: number;
  readonly to: number;
}

export interface GroupRan {
  readonly ok: boolean;
  /** A limit ended it. */
  readonly stopped: boolean;
  /** null: it was begun by somebody else. */
  readonly durationMs: number | null;
  /** Bytes of its log. */
  readonly length: number;
  /** undefined: it says nothing but its exit. */
  readonly reported: Reported | undefined;
}

export interface Reported {
  readonly reports: ReadonlyMap<string, TestReport>;
  /** Names of it that are nobody's here: the first few, and of how many. */
  readonly strangers: Strangers;
  /** Test -> where its output begins: it began and did not end. */
  readonly unended: ReadonlyMap<string, number>;
  /** Not all that it said could be read, since that took too long. */
  readonly late: boolean;
}

export interface Strangers {
  readonly names: readonly string[];
  readonly count: number;
}

/** Of the names of strangers. */
export const STRANGERS_NAMED = 3;

/** Why a test fails whose command ended well, when that is only because nothing is said about it; undefined: it is not so. */
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

/** Data of the tests on `/b/ID`, and of `/b/ID/test/NUMBER`, which leads to a test's place in the log. */
import type { Status } from "../../farm/build.ts";
import {
  onlyKeptTests,
  TEST_FILTERS,
  type TestFilter,
  type TestPlace,
  type TestPosition,
  type TestRow,
  testMachines,
  testPlaces,
  testRows,
  testSums,
} from "../../store/pages-tests.ts";
import type { Sql } from "../../store/sql.ts";
import { lossesText } from "../../store/test-lines.ts";
import { testLogHref } from "../../ui/group-name.ts";
import type { WhyLine } from "../../ui/pages/build-data.ts";
import type { Since } from "../../ui/since.tsx";
import type { FailedTest, TestLine, TestsData } from "../../ui/tests.tsx";
import type { LogReader } from "../deps.ts";
import { machineRef } from "../lines.ts";
import { linesFrom } from "../log-lines.ts";
import { whyLines } from "../why.ts";

/** On one page. */
const ROWS = 100;
/** Failures, and flaky tests, that are shown with what they printed. */
const SHOWN = 10;
/** Of a failed test's output, from its end. */
const LOOKED_AT = 200;

/** What the address asks for. */
export interface TestsAsked {
  readonly filter: string | undefined;
  readonly q: string | undefined;
  readonly after: string | undefined;
  /** The one that is looked for in the log of its group. */
  readonly test: number | undefined;
}

const START: TestPosition = { part: 0, number: 0 };

/** null: the build has no list of tests (yet). */
export async function testsData(
  { sql, logs }: { readonly sql: Sql; readonly logs: LogReader },
  build: number,
  asked: TestsAsked,
): Promise<TestsData | null> {
  const sums = await testSums(sql, build);
  if (!sums) return null;
  const filter = TEST_FILTERS.find((each) => each === asked.filter) ?? "all";
  const q = (asked.q ?? "").slice(0, 200);
  const after = positionOf(asked.after);
  const rows = (which: TestFilter): Promise<TestRow[]> => testRows(sql, build, which, "", START, SHOWN);
  const idle = sums.running === 0 && sums.ended < sums.total;
  const [page, failed, flakes, machines, kept] = await Promise.all([
    testRows(sql, build, filter, q, after, ROWS + 1),
    sums.failed > 0 ? rows("failed") : [],
    sums.flaky > 0 ? rows("flaky") : [],
    testMachines(sql, build),
    idle ? onlyKeptTests(sql, build) : null,
  ]);
  const shown = page.slice(0, ROWS);
  const last = shown.at(-1);
  const { total, ended, running } = sums;
  return {
    total,
    ended,
    running,
    kept,
    failed: sums.failed,
    flaky: sums.flaky,
    skipped: sums.skipped,
    failures: await withLines(sql, logs, build, failed),
    flakes: await withLines(sql, logs, build, flakes),
    machines,
    filter,
    filters: TEST_FILTERS,
    q,
    after: after === START ? "" : textOf(after),
    rows: shown.map(lineOf),
    next: page.length > ROWS && last ? textOf(last) : null,
  };
}

/** `3.150`; anything else is the start. */
function positionOf(text: string | undefined): TestPosition {
  const [, part, number] = /^(\d)\.(\d{1,9})$/.exec(text ?? "") ?? [];
  return part === undefined || number === undefined ? START : { part: Number(part), number: Number(number) };
}

function textOf({ part, number }: TestPosition): string {
  return `${part}.${number}`;
}

/** Names of the failed tests that the page shows, in the order of the list. */
export function failedNames({ failures, rows }: TestsData): string[] {
  const failed = [...failures, ...rows.filter(({ status }) => status === "failure")];
  return [...new Set(failed.toSorted((a, b) => a.number - b.number).map(({ name }) => name))];
}

/** With what is known about when each of them broke. */
export function withSince(tests: TestsData, since: ReadonlyMap<string, Since>): TestsData {
  const told = <T extends TestLine>(test: T): T => ({
    ...test,
    since: test.status === "failure" ? (since.get(test.name) ?? null) : null,
  });
  return { ...tests, failures: tests.failures.map(told), rows: tests.rows.map(told) };
}

/** Where `/b/BUILD/test/NUMBER` leads; undefined: no such test, or it has not run. */
export async function testHref(
  { sql, logs }: { readonly sql: Sql; readonly logs: LogReader },
  build: number,
  number: number,
): Promise<string | undefined> {
  const [place] = await testPlaces(sql, build, [number]);
  if (!place) return undefined;
  return `${testLogHref(build, place.group, number)}#L${await logs.lineOf(place.log, place.from)}`;
}

async function withLines(sql: Sql, logs: LogReader, build: number, rows: readonly TestRow[]): Promise<FailedTest[]> {
  const places = await testPlaces(
    sql,
    build,
    rows.map(({ number }) => number),
  );
  return Promise.all(
    rows.map(async (row): Promise<FailedTest> => {
      const place = places.find(({ number }) => number === row.number);
      const group = place?.group ?? row.group;
      return { ...lineOf(row), group, lines: place ? await lastOf(logs, place) : [] };
    }),
  );
}

async function lastOf(logs: LogReader, { log, from, to }: TestPlace): Promise<WhyLine[]> {
  if (to <= from) return [];
  const [first, last] = await Promise.all([logs.lineOf(log, from), logs.lineOf(log, Math.max(from, to - 1))]);
  const begin = Math.max(first, last - LOOKED_AT + 1);
  const { lines } = await linesFrom(logs, log, begin, last - begin + 1);
  return whyLines(lines, begin);
}

function lineOf(row: TestRow): TestLine {
  return {
    number: row.number,
    name: row.name,
    status: statusOfTest(row),
    note: noteOf(row),
    machine: machineRef(row.machine, row.machineType),
    durationMs: row.durationMs,
    groupOf: row.state === "ended" && row.durationMs === null ? row.groupOf : null,
    expectedMs: row.expectedMs,
    group: row.failedGroup ?? row.group,
    since: null,
  };
}

function statusOfTest({ state, outcome }: TestRow): Status {
  if (outcome === "unschedulable") return "failure";
  return outcome ?? (state === "running" ? "running" : "waiting");
}

function noteOf({ outcome, failures, losses, group }: TestRow): string {
  if (outcome === "unschedulable") return `unschedulable: ${lossesText(losses)}`;
  if (outcome === "flaky") return "failed once, then passed";
  if (outcome === null && failures > 0) return "failed, runs once more";
  if (outcome === "skipped" && failures > 0) return "failed, was not run again";
  if (outcome === "skipped" && group === null) return "not run";
  if (outcome === "failure") return failures > 1 ? "failed twice" : "failed for good";
  return losses > 0 ? `lost ${losses === 1 ? "a machine" : `${losses} machines`}` : "";
}

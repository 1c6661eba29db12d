/**
 * The tests of a build on its page: how many have settled; the failed ones first, with their last lines; the flaky
 * ones; the machines that share the tests; and the whole list, a page at a time. Filter and page are in the address, so
 * everything works without script.
 */
import type { JSX } from "preact";
import type { Status } from "../farm/build.ts";
import { durationText } from "../farm/duration-text.ts";
import type { MachineRef } from "./data.ts";
import { testLogHref } from "./group-name.ts";
import type { WhyLine } from "./pages/build-data.ts";
import { Machine, Mark, Name, Section, Table } from "./parts.tsx";
import { type Since, TestSince } from "./since.tsx";
import { plural, visible } from "./text.ts";

export interface TestLine {
  readonly number: number;
  readonly name: string;
  readonly status: Status;
  /** What the status does not say: `unschedulable`, `failed twice`. */
  readonly note: string;
  readonly machine: MachineRef | null;
  readonly durationMs: number | null;
  /**
   * For a test that has run: for how many tests together the time is known. Null: its own time is known, or it has not
   * run.
   */
  readonly groupOf: number | null;
  readonly expectedMs: number | null;
  readonly group: number | null;
  /** Since when a failed test is red. */
  readonly since: Since | null;
}

/** A test that failed, with the end of what it printed. */
export interface FailedTest extends TestLine {
  readonly lines: readonly WhyLine[];
}

/** One run of some tests by one command on one machine. */
export interface GroupData {
  readonly machine: MachineRef;
  readonly count: number;
  /** The names of its tests: the one that the address names, else the first ones. */
  readonly names: readonly string[];
}

export interface TestsData {
  readonly total: number;
  readonly ended: number;
  readonly skipped: number;
  readonly running: number;
  /**
   * Set when no test runs and all waiting tests want another machine than the one that failed them. `until` is when the
   * first of them stops wanting that.
   */
  readonly kept: { readonly name: string; readonly until: number; readonly count: number } | null;
  readonly failed: number;
  readonly flaky: number;
  readonly failures: readonly FailedTest[];
  readonly flakes: readonly FailedTest[];
  readonly machines: readonly (MachineRef & {
    readonly helper: boolean;
    readonly running: number;
    readonly groups: number;
  })[];
  readonly filter: string;
  readonly filters: readonly string[];
  readonly q: string;
  /** The test after which this page begins; "" is the beginning. */
  readonly after: string;
  readonly rows: readonly TestLine[];
  /** The `after` of the next page; null: there is none. */
  readonly next: string | null;
}

/** The failed and flaky tests, above the steps. */
export function TroubledTests(props: { build: number; tests: TestsData }): JSX.Element | null {
  const { build, tests } = props;
  if (tests.failures.length === 0 && tests.flakes.length === 0) return null;
  const more = (filter: "failed" | "flaky", hidden: number): JSX.Element | null =>
    hidden <= 0 ? null : (
      <p>
        <a href={`/b/${build}?tests=${filter}#tests`}>{plural(hidden, `more ${filter} test`)}</a>
      </p>
    );
  return (
    <section class="troubled" aria-label="Failed and flaky tests">
      {tests.failures.map((test) => (
        <Troubled key={test.number} build={build} test={test} />
      ))}
      {more("failed", tests.failed - tests.failures.length)}
      {tests.flakes.map((test) => (
        <Troubled key={test.number} build={build} test={test} />
      ))}
      {more("flaky", tests.flaky - tests.flakes.length)}
    </section>
  );
}

/** A failed or flaky test, with the last lines of its output when it first failed. */
function Troubled(props: { build: number; test: FailedTest }): JSX.Element {
  const { build, test } = props;
  return (
    <article class={test.status === "flaky" ? "failed-test flake" : "failed-test"}>
      <h2>
        <Mark status={test.status} /> <TestName build={build} test={test} />
        <span class="muted took">
          {` ${tookText(test)}`}
          {test.note === "" ? "" : ` · ${test.note}`}
          {test.machine === null ? null : (
            <>
              {" · on "}
              <Machine machine={test.machine} />
            </>
          )}
        </span>
      </h2>
      <TestSince since={test.since} />
      {test.lines.length === 0 ? null : (
        <div class="why">
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
          <section class="lines" tabIndex={0} aria-label={`Last lines of test ${test.number}`}>
            {test.lines.map((line) => (
              <div key={line.line} class={line.marked ? "row hit" : "row"}>
                <a
                  class="ln"
                  href={`${testLogHref(build, test.group ?? 0, test.number)}#L${line.line}`}
                  aria-label={`line ${line.line}`}
                >
                  {line.line}
                </a>
                <span class="tx">{line.text === "" ? " " : line.text}</span>
              </div>
            ))}
          </section>
        </div>
      )}
    </article>
  );
}

/**
 * The title of a group's log: "parser_case_8 on pinecone, in a group of 4"; "parser_case_8, parser_case_9 and 2 more on
 * pinecone".
 */
export function GroupTitle(props: { group: GroupData }): JSX.Element {
  const { machine, count, names } = props.group;
  const one = names.length === 1;
  return (
    <h2 class="group-title">
      {names.map((name, i) => (
        <>
          {i > 0 ? ", " : ""}
          <Name text={name} />
        </>
      ))}
      {!one && count > names.length ? ` and ${count - names.length} more` : ""} on <Machine machine={machine} />
      {one && count > 1 ? `, in a group of ${count}` : ""}
    </h2>
  );
}

/** The list of all tests, below the log. */
export function Tests(props: { build: number; tests: TestsData }): JSX.Element {
  const { build, tests } = props;
  const address = (more: Record<string, string>): string => {
    const query = new URLSearchParams();
    const all = { tests: tests.filter, q: tests.q, ...more };
    for (const [key, value] of Object.entries(all)) if (value !== "" && value !== "all") query.set(key, value);
    const text = query.toString();
    return `/b/${build}${text === "" ? "" : `?${text}`}#tests`;
  };
  const { total, ended, failed, flaky } = tests;
  return (
    <Section id="tests" title={`Tests ${ended}/${total}`}>
      <p class="muted">
        {plural(failed, "failed test")}, {flaky} flaky
        {tests.skipped > 0 ? `, ${tests.skipped} skipped` : ""}
        {tests.running > 0 ? `, ${tests.running} running` : ""}.{tests.machines.length > 0 ? " On " : ""}
        {tests.machines.map((machine, i) => (
          <>
            {i > 0 ? ", " : ""}
            <Machine machine={machine} /> ({machine.helper ? "helper, " : ""}
            {machine.running > 0 ? `${machine.running} now` : plural(machine.groups, "group")})
          </>
        ))}
      </p>
      <form class="filter" method="get" action={`/b/${build}#tests`}>
        <label>
          Name <input type="search" name="q" value={tests.q} />
        </label>
        <label>
          Show{" "}
          <select name="tests">
            {tests.filters.map((filter) => (
              <option key={filter} value={filter} selected={filter === tests.filter}>
                {filter}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">Filter</button>
      </form>
      {tests.rows.length === 0 ? (
        <p class="muted">No test is like that.</p>
      ) : (
        <Table label="Tests" class="tests" head={["Test", "#Took", "#Expected", "Machine"]}>
          {tests.rows.map((test) => (
            <tr key={test.number}>
              <td class="wide">
                <Mark status={test.status} /> <TestName build={build} test={test} />
                {test.note === "" ? null : <span class="muted"> {test.note}</span>}
                <TestSince since={test.since} />
              </td>
              <td class="right">{tookText(test)}</td>
              <td class="right muted">{test.expectedMs === null ? "" : durationText(test.expectedMs)}</td>
              <td class="tight">{test.machine === null ? null : <Machine machine={test.machine} />}</td>
            </tr>
          ))}
        </Table>
      )}
      <p>
        {tests.after !== "" ? <a href={address({})}>First tests</a> : null}
        {tests.after !== "" && tests.next !== null ? " · " : null}
        {tests.next === null ? null : <a href={address({ after: tests.next })}>More tests</a>}
      </p>
    </Section>
  );
}

function tookText({ durationMs, groupOf }: TestLine): string {
  if (durationMs !== null) return durationText(durationMs);
  return groupOf !== null && groupOf > 1 ? `in a group of ${groupOf}` : "";
}

function TestName(props: { build: number; test: TestLine }): JSX.Element {
  const { build, test } = props;
  if (test.group === null) return <Name text={test.name} />;
  return (
    <a href={`/b/${build}/test/${test.number}`} title={visible(test.name)}>
      <Name text={test.name} />
    </a>
  );
}

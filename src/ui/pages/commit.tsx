/**
 * `/p/REPO/HASH`: one commit on every builder. It is the grid's row for a narrow screen, and for a link in a message.
 */
import type { JSX } from "preact";
import type { Status } from "../../farm/build.ts";
import { Why } from "../build-rows.tsx";
import { type BuildLine, type OtherCommit, repoHref } from "../data.ts";
import type { Broke } from "../grid.ts";
import { Builder, Empty, Left, Machine, Mark, Name, Section, Span, Table, When, With } from "../parts.tsx";
import { subject, visible, visibleLines } from "../text.ts";

export interface CommitCell {
  readonly builder: string;
  /** The other commit of a pair, which this one is tested with. */
  readonly other: OtherCommit | null;
  readonly status: Status;
  /** The build. Null: the builder never builds the branch. */
  readonly build: BuildLine | null;
}

export interface CommitData {
  readonly repo: string;
  readonly hash: string;
  readonly author: string;
  readonly email: string;
  readonly committedAt: number;
  readonly message: string;
  readonly parents: readonly string[];
  readonly branches: readonly string[];
  readonly cells: readonly CommitCell[];
  /**
   * Builders that were green at its first parent and are red here, with the tests that are red since. `mended` are
   * those that it turned green.
   */
  readonly broke: readonly Broke[];
  readonly mended: readonly Broke[];
  /** The commits that it brought, when it is a merge, newest first. */
  readonly merged: readonly { readonly hash: string; readonly subject: string; readonly author: string }[];
}

const FIRST: readonly Status[] = [
  "failure",
  "infra_failure",
  "running",
  "flaky",
  "known_issue",
  "waiting",
  "canceled",
  "success",
  "skipped",
];

export function CommitPage(props: { data: CommitData }): JSX.Element {
  const { data } = props;
  const cells = data.cells.toSorted(
    (a, b) => FIRST.indexOf(a.status) - FIRST.indexOf(b.status) || (a.builder < b.builder ? -1 : 1),
  );
  const body = data.message.split("\n").slice(1).join("\n").trim();
  return (
    <>
      <h1>
        <bdi>{subject(data.message)}</bdi>
      </h1>
      <p class="lead">
        <a href={repoHref(data.repo)}>
          <Name text={data.repo} />
        </a>{" "}
        @ <code title={data.hash}>{data.hash.slice(0, 8)}</code> — <Name text={data.author} />{" "}
        <span class="muted">{visible(data.email)}</span>, <When at={data.committedAt} />
        {data.branches.length > 0 ? (
          <> on {visible(data.branches.join(", "))}</>
        ) : (
          <span class="muted">, on no watched branch any more</span>
        )}
      </p>
      <Turned repo={data.repo} status="failure" word="broke" builders={data.broke} />
      <Turned repo={data.repo} status="success" word="mended" builders={data.mended} />
      <Section id="builders" title="Builders" aside={sums(cells)}>
        {cells.length === 0 ? <Empty>No builder builds this commit.</Empty> : <Cells cells={cells} repo={data.repo} />}
      </Section>
      {body === "" ? null : (
        <pre class="message">
          <bdi>{visibleLines(body)}</bdi>
        </pre>
      )}
      {data.merged.length === 0 ? null : (
        <Section id="merged" title="What it merged">
          <ul class="merged">
            {data.merged.map((commit) => (
              <li key={commit.hash}>
                <code>{commit.hash.slice(0, 8)}</code> <bdi>{visible(commit.subject)}</bdi>{" "}
                <span class="muted">
                  — <Name text={commit.author} />
                </span>
              </li>
            ))}
          </ul>
        </Section>
      )}
      <p class="muted">
        {data.parents.length > 0 ? "parent " : null}
        {data.parents.map((hash) => (
          <a key={hash} href={`${repoHref(data.repo)}/${hash}`} class="hash">
            {hash.slice(0, 8)}{" "}
          </a>
        ))}
      </p>
    </>
  );
}

const COUNTED: Readonly<Record<Status, string>> = {
  failure: "failed",
  infra_failure: "failed by the farm's fault",
  known_issue: "known to fail",
  success: "passed",
  flaky: "flaky",
  running: "running",
  waiting: "waiting",
  canceled: "canceled",
  skipped: "skipped",
};

/** The sums of the cells, "1 failed, 2 running, 5 passed". */
function sums(cells: readonly CommitCell[]): string {
  const counts = Map.groupBy(cells, (cell) => cell.status);
  return [...counts].map(([status, all]) => `${all.length} ${COUNTED[status]}`).join(", ");
}

/** The commit's row of the grid, as a list of builds. */
function Cells(props: { cells: readonly CommitCell[]; repo: string }): JSX.Element {
  const pairs = props.cells.some((cell) => cell.other !== null);
  return (
    <Table
      label="This commit on every builder"
      class="builds"
      cols={["build", "builder", ...(pairs ? ["next"] : []), "free", "machine", "took", "when"]}
      head={["Build", "Builder", ...(pairs ? ["With"] : []), "Why", "Machine", "#Took", "#Ended"]}
    >
      {props.cells.map(({ builder, other, status, build }) => (
        <tr key={`${builder} ${other?.repo} ${other?.branch}`} data-row>
          <td class="tight">
            {build === null ? (
              <Mark status={status} />
            ) : (
              <a href={`/b/${build.id}`} class="open">
                <Mark status={status} /> <span class="num">#{build.id}</span>
              </a>
            )}
          </td>
          <td>
            <Builder name={builder} repo={props.repo} />
          </td>
          {pairs ? <td>{other === null ? null : <With other={other} />}</td> : null}
          <td>{build === null ? <span class="muted">does not build this branch</span> : <Why build={build} />}</td>
          <td>{build?.machine ? <Machine machine={build.machine} /> : null}</td>
          <td class="right took">
            {build === null || build.startedAt === null ? null : <Span from={build.startedAt} to={build.endedAt} />}
          </td>
          <td class="right when">
            {build === null ? null : build.endedAt === null ? <Left build={build} /> : <When at={build.endedAt} />}
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Turned(props: { repo: string; status: Status; word: string; builders: readonly Broke[] }): JSX.Element | null {
  if (props.builders.length === 0) return null;
  return (
    <p class="turned">
      <Mark status={props.status} /> {props.word}{" "}
      {props.builders.map(({ builder, tests }, i) => (
        <span key={builder}>
          {i > 0 ? ", " : ""}
          <Builder name={builder} repo={props.repo} />
          {tests.length === 0 ? null : <span class="muted"> ({tests.map(visible).join(", ")})</span>}
        </span>
      ))}
    </p>
  );
}

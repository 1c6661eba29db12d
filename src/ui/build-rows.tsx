/** Builds as lines of a table: running, ended, waiting. */
import type { JSX } from "preact";
import type { BuildLine, Wait } from "./data.ts";
import { Builder, Commit, Left, Machine, Mark, Name, Span, Table, When, With, waitSentence } from "./parts.tsx";
import { useRepository } from "./several.ts";
import { plural, visible } from "./text.ts";

export function BuildRows(props: {
  label: string;
  builds: readonly BuildLine[];
  kind: "running" | "ended";
  /** Leaves out the machine, on the machine's own page. */
  machine?: false;
}): JSX.Element {
  const ended = props.kind === "ended";
  const repository = useRepository(props.builds);
  return (
    <Table
      label={props.label}
      class="builds"
      cols={[
        "build",
        ...(repository ? ["repo"] : []),
        "builder",
        "commit",
        "why",
        ...(props.machine === false ? [] : ["machine"]),
        "took",
        ended ? "when" : "left",
      ]}
      head={[
        "Build",
        ...(repository ? ["Repository"] : []),
        "Builder",
        "Commit",
        ended ? "Why" : "Step",
        ...(props.machine === false ? [] : ["Machine"]),
        "#Took",
        ended ? "#Ended" : "#Left",
      ]}
    >
      {props.builds.map((build) => (
        <tr key={build.id} data-row>
          <td class="tight">
            <a href={`/b/${build.id}`} class="open">
              <Mark status={build.status} /> <span class="num">#{build.id}</span>
            </a>
          </td>
          {repository ? (
            <td>
              <Name text={build.repo} />
            </td>
          ) : null}
          <td>
            <Builder name={build.builder} repo={build.repo} />
          </td>
          <td class="wide">
            <Commit repo={build.repo} hash={build.hash} subject={build.subject} />
            {build.other === null ? null : <With other={build.other} />}
          </td>
          <td>
            <Why build={build} />
          </td>
          {props.machine === false ? null : (
            <td>{build.machine ? <Machine machine={build.machine} /> : <span class="muted">none</span>}</td>
          )}
          <td class="right took">
            {build.startedAt === null ? null : <Span from={build.startedAt} to={build.endedAt} />}
          </td>
          <td class="right when">
            {ended && build.endedAt !== null ? <When at={build.endedAt} /> : <Left build={build} />}
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** The step that runs or failed, the results of its tests, or why the build ended as it did. */
export function Why(props: { build: BuildLine }): JSX.Element | null {
  const { status, step, reason, attempts, tests } = props.build;
  const again = attempts > 1 ? <span class="muted"> attempt {attempts}</span> : null;
  if (status === "running" || status === "failure" || status === "known_issue") {
    return (
      <>
        {step === null ? null : <Name text={step} />}
        {tests === null ? null : (
          <span class="num">
            {status === "running" ? ` ${tests.ended}/${tests.total}` : `: ${tests.failed} failed`}
          </span>
        )}
        {again}
      </>
    );
  }
  if (status === "flaky") return <span class="num">{plural(tests?.flaky ?? 0, "flaky test")}</span>;
  if (reason !== null)
    return (
      <span class="reason" title={visible(reason)}>
        {visible(reason)}
      </span>
    );
  return again;
}

/** Builds that wait for the same machines. They have the same reason. */
export interface WaitingGroup {
  readonly hostType: string;
  readonly waiting: number;
  /** When the build that waits longest was wanted. */
  readonly oldest: number | null;
  /** The build that begins first, with the reason for which it waits. */
  readonly next: BuildLine | null;
  readonly wait: Wait;
}

export function WaitingRows(props: { groups: readonly WaitingGroup[] }): JSX.Element {
  return (
    <Table
      label="Waiting builds"
      class="builds"
      cols={["waiting", "builder", "free", "next", "took"]}
      head={["Waiting", "For", "Why", "Next", "#Oldest"]}
    >
      {props.groups.map((group) => (
        <tr key={group.hostType} data-row>
          <td class="tight">
            <a href={`/queues#${encodeURIComponent(group.hostType)}`} class="open">
              <Mark status="waiting" /> {plural(group.waiting, "build")}
            </a>
          </td>
          <td>
            <Name text={group.hostType} />
          </td>
          <td>{waitSentence(group.wait, group.hostType)}</td>
          <td>
            {group.next === null ? null : (
              <>
                <a href={`/b/${group.next.id}`} class="num">
                  #{group.next.id}
                </a>{" "}
                <Builder name={group.next.builder} repo={group.next.repo} />
              </>
            )}
          </td>
          <td class="right took">{group.oldest === null ? null : <Span from={group.oldest} />}</td>
        </tr>
      ))}
    </Table>
  );
}

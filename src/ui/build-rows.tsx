/** Builds as lines of a table: running, ended, waiting. */
import type { JSX } from "preact";
import type { BuildLine, Wait } from "./data.ts";
import { Builder, Commit, Left, Machine, Mark, Name, Span, Table, When, waitSentence } from "./parts.tsx";
import { visible } from "./text.ts";

export function BuildRows(props: {
  label: string;
  builds: readonly BuildLine[];
  kind: "running" | "ended";
  /** On a machine's own page the machine goes without saying. */
  machine?: false;
}): JSX.Element {
  const ended = props.kind === "ended";
  return (
    <Table
      label={props.label}
      class="builds"
      head={[
        "Build",
        "Repository",
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
          <td class="tight">
            <Name text={build.repo} />
          </td>
          <td class="tight">
            <Builder name={build.builder} repo={build.repo} />
          </td>
          <td class="wide">
            <Commit repo={build.repo} hash={build.hash} subject={build.subject} />
          </td>
          <td class="tight">
            <Why build={build} />
          </td>
          {props.machine === false ? null : (
            <td class="tight">
              {build.machine ? <Machine machine={build.machine} /> : <span class="muted">none</span>}
            </td>
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

function Why(props: { build: BuildLine }): JSX.Element | null {
  const { status, step, reason, attempts } = props.build;
  const again = attempts > 1 ? <span class="muted"> attempt {attempts}</span> : null;
  if (status === "running" || status === "failure") {
    return (
      <>
        {step === null ? null : <Name text={step} />}
        {again}
      </>
    );
  }
  if (reason !== null)
    return (
      <span class="reason" title={visible(reason)}>
        {visible(reason)}
      </span>
    );
  return again;
}

export function WaitingRows(props: {
  waiting: readonly { readonly build: BuildLine; readonly wait: Wait }[];
}): JSX.Element {
  return (
    <Table
      label="Waiting builds"
      class="builds"
      head={["Build", "Repository", "Builder", "Commit", "Why it waits", "#Since"]}
    >
      {props.waiting.map(({ build, wait }) => (
        <tr key={build.id} data-row>
          <td class="tight">
            <a href={`/b/${build.id}`} class="open">
              <Mark status="waiting" /> <span class="num">#{build.id}</span>
            </a>
          </td>
          <td class="tight">
            <Name text={build.repo} />
          </td>
          <td class="tight">
            <Builder name={build.builder} repo={build.repo} />
          </td>
          <td class="wide">
            <Commit repo={build.repo} hash={build.hash} subject={build.subject} />
          </td>
          <td>{waitSentence(wait, build.hostType)}</td>
          <td class="right took">
            <Span from={build.createdAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

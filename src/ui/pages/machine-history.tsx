/** The history of a machine: the builds that it ran, its connections, and what it reported of itself. */
import type { JSX } from "preact";
import type { Status } from "../../farm/build.ts";
import { Builder, Commit, Mark, Name, Span, Table, When } from "../parts.tsx";
import { useRepository } from "../several.ts";
import { visible } from "../text.ts";

export interface SessionRow {
  readonly id: string;
  readonly address: string;
  readonly openedAt: number;
  readonly closedAt: number | null;
  readonly reason: string | null;
  readonly builds: number;
}

/**
 * An attempt on this machine and its result. The build itself may have gone on: one that failed here may wait again.
 */
export interface AttemptLine {
  readonly id: number;
  readonly build: number;
  readonly number: number;
  readonly repo: string;
  readonly builder: string;
  readonly hash: string;
  readonly subject: string;
  readonly status: Status;
  readonly reason: string | null;
  readonly step: string | null;
  readonly machineFault: boolean;
  readonly startedAt: number | null;
  readonly endedAt: number;
}

/** Something that it reported differently than before. */
export interface MachineChange {
  readonly at: number;
  readonly field: string;
  readonly was: string | null;
  readonly became: string | null;
}

export function Attempts(props: { attempts: readonly AttemptLine[] }): JSX.Element {
  const repository = useRepository(props.attempts);
  return (
    <Table
      label="Builds it ran"
      class="builds"
      cols={["build", ...(repository ? ["repo"] : []), "builder", "commit", "reason", "took", "when"]}
      head={["Build", ...(repository ? ["Repository"] : []), "Builder", "Commit", "Why it ended so", "#Took", "#Ended"]}
    >
      {props.attempts.map((attempt) => (
        <tr key={attempt.id} data-row>
          <td class="tight">
            <a href={`/b/${attempt.build}?attempt=${attempt.number}`} class="open">
              <Mark status={attempt.status} /> <span class="num">#{attempt.build}</span>
            </a>
          </td>
          {repository ? (
            <td>
              <Name text={attempt.repo} />
            </td>
          ) : null}
          <td>
            <Builder name={attempt.builder} repo={attempt.repo} />
          </td>
          <td class="wide">
            <Commit repo={attempt.repo} hash={attempt.hash} subject={attempt.subject} />
          </td>
          <td>
            {attempt.step === null ? null : <Name text={attempt.step} />}
            {attempt.reason === null || attempt.step !== null ? null : visible(attempt.reason)}
            {attempt.machineFault ? <span class="fl"> its own failure</span> : null}
          </td>
          <td class="right took">
            {attempt.startedAt === null ? null : <Span from={attempt.startedAt} to={attempt.endedAt} />}
          </td>
          <td class="right when">
            <When at={attempt.endedAt} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

export function Sessions(props: { sessions: readonly SessionRow[] }): JSX.Element {
  return (
    <Table label="Connections" class="config" head={["Opened", "#Lasted", "#Builds", "Address", "Why it ended"]}>
      {props.sessions.map((session) => (
        <tr key={session.id}>
          <td data-label="Opened">
            <When at={session.openedAt} />
          </td>
          <td class="right" data-label="Lasted">
            <Span from={session.openedAt} to={session.closedAt} />
          </td>
          <td class="right num" data-label="Builds">
            {session.builds}
          </td>
          <td data-label="Address">{visible(session.address)}</td>
          <td data-label="Ended">
            {session.closedAt === null ? <span class="ok">open</span> : visible(session.reason ?? "not known")}
          </td>
        </tr>
      ))}
    </Table>
  );
}

export function Changes(props: { changes: readonly MachineChange[] }): JSX.Element {
  return (
    <Table label="Changes" class="config" head={["When", "What", "Was", "Became"]}>
      {props.changes.map((change) => (
        <tr key={`${change.at} ${change.field}`}>
          <td>
            <When at={change.at} />
          </td>
          <td data-label="What">{visible(change.field)}</td>
          <td data-label="Was">{visible(change.was ?? "")}</td>
          <td data-label="Became">{visible(change.became ?? "")}</td>
        </tr>
      ))}
    </Table>
  );
}

/** `/builders`: the configuration in force, builders above and host types below, linked both ways. */
import type { JSX } from "preact";
import type { Status } from "../../farm/build.ts";
import { Act, Builder, Empty, Mark, Name, nameClass, Section, Table } from "../parts.tsx";
import { STATUS } from "../status.ts";
import { visible } from "../text.ts";

export interface LatestResult {
  readonly repo: string;
  readonly build: number;
  readonly status: Status;
}

export interface BuilderRow {
  readonly name: string;
  /** For each repository, the newest build that ended with success or failure. */
  readonly latest: readonly LatestResult[];
  readonly hostType: string;
  readonly owners: readonly string[];
  readonly repos: string;
  readonly steps: readonly string[];
  readonly knownIssues: readonly string[];
  readonly notes: string;
}

export interface HostRow {
  readonly name: string;
  readonly arch: string;
  readonly pool: string;
  readonly trust: string;
  readonly expect: number;
  readonly connected: number;
  readonly owners: readonly { readonly name: string; readonly contact: string }[];
  readonly notes: string;
  readonly builders: readonly string[];
  readonly drained: string | null;
}

export interface BuildersData {
  readonly builders: readonly BuilderRow[];
  readonly hosts: readonly HostRow[];
}

export function BuildersPage(props: { data: BuildersData; operator: boolean }): JSX.Element {
  const { builders, hosts } = props.data;
  return (
    <>
      <h1>Builders</h1>
      {builders.length === 0 ? (
        <Empty>
          No builder is configured. Add one to `builders` in the farm's configuration; it is taken up at once.
        </Empty>
      ) : (
        <BuilderTable builders={builders} />
      )}
      <Section id="hosts" title="Host types">
        {hosts.length === 0 ? (
          <Empty>No host type is configured.</Empty>
        ) : (
          <HostTable hosts={hosts} operator={props.operator} />
        )}
      </Section>
    </>
  );
}

function BuilderTable(props: { builders: readonly BuilderRow[] }): JSX.Element {
  const { builders } = props;
  const issues = builders.some((builder) => builder.knownIssues.length > 0);
  const notes = builders.some((builder) => builder.notes !== "");
  return (
    <Table
      label="Builders"
      class="config"
      cols={[
        "builder",
        "latest",
        "host",
        "author",
        "repos",
        "steps",
        ...(issues ? ["issues"] : []),
        ...(notes ? ["notes"] : []),
      ]}
      head={[
        "Builder",
        "Latest",
        "Host type",
        "Owners",
        "Builds",
        "Steps",
        ...(issues ? ["Known issues"] : []),
        ...(notes ? ["Notes"] : []),
      ]}
    >
      {builders.map((builder) => (
        <BuilderEntry key={builder.name} builder={builder} issues={issues} notes={notes} />
      ))}
    </Table>
  );
}

/** A row of the table. `issues` and `notes` say whether the table has these columns. */
function BuilderEntry(props: { builder: BuilderRow; issues: boolean; notes: boolean }): JSX.Element {
  const { builder, issues, notes } = props;
  return (
    <tr id={builder.name} data-row>
      <th scope="row">
        <a href={`#${encodeURIComponent(builder.name)}`} class={`open ${nameClass(builder.name)}`}>
          <Name text={builder.name} />
        </a>
      </th>
      <td data-label="Latest">
        <Latest results={builder.latest} />
      </td>
      <td data-label="Host type">
        <a href={`#${encodeURIComponent(builder.hostType)}`} class={nameClass(builder.hostType)}>
          <Name text={builder.hostType} />
        </a>
      </td>
      <td data-label="Owners">
        <span>
          {builder.owners.map((owner, i) => (
            <span key={owner} class="whole">
              {visible(owner)}
              {i < builder.owners.length - 1 ? ", " : ""}
            </span>
          ))}
        </span>
      </td>
      <td data-label="Builds">{visible(builder.repos)}</td>
      <td data-label="Steps">{visible(builder.steps.join(", "))}</td>
      {issues ? (
        <td {...labelled("Known issues", builder.knownIssues.length > 0)}>
          {builder.knownIssues.length === 0 ? null : (
            <div>
              {builder.knownIssues.map((issue) => (
                <Issue key={issue} issue={issue} />
              ))}
            </div>
          )}
        </td>
      ) : null}
      {notes ? <td {...labelled("Notes", builder.notes !== "")}>{visible(builder.notes)}</td> : null}
    </tr>
  );
}

function HostTable(props: { hosts: readonly HostRow[]; operator: boolean }): JSX.Element {
  const { hosts, operator } = props;
  return (
    <Table
      label="Host types"
      class="config"
      cols={[
        "host",
        "platform",
        "pool",
        "trust",
        "connected",
        "owners",
        "builder",
        "notes",
        ...(operator ? ["drain"] : []),
      ]}
      head={[
        "Host type",
        "Platform",
        "Pool",
        "Trust",
        "#Connected",
        "Owners",
        "Builders",
        "Notes",
        ...(operator ? ["Drain"] : []),
      ]}
    >
      {hosts.map((host) => (
        <HostEntry key={host.name} host={host} operator={operator} />
      ))}
    </Table>
  );
}

function HostEntry(props: { host: HostRow; operator: boolean }): JSX.Element {
  const { host, operator } = props;
  return (
    <tr id={host.name} data-row>
      <th scope="row">
        <a href={`#${encodeURIComponent(host.name)}`} class={`open ${nameClass(host.name)}`}>
          <Name text={host.name} />
        </a>
      </th>
      <td class="whole" data-label="Platform">
        {visible(host.arch)}
      </td>
      <td data-label="Pool">{host.pool}</td>
      <td data-label="Trust">{host.trust}</td>
      <td class="right num" data-label="Connected">
        <span>
          {host.connected}
          {host.expect > 0 ? <span class="muted"> of {host.expect}</span> : null}
        </span>
      </td>
      <td {...labelled("Owners", host.owners.length > 0)}>
        <div>
          {host.owners.map((owner) => (
            <div key={owner.name}>
              <bdi class="whole">{visible(owner.name)}</bdi> <span class="muted">{visible(owner.contact)}</span>
            </div>
          ))}
        </div>
      </td>
      <td {...labelled("Builders", host.builders.length > 0)}>
        <div>
          {host.builders.map((name) => (
            <div key={name}>
              <Builder name={name} />
            </div>
          ))}
        </div>
      </td>
      <td {...labelled("Notes", host.notes !== "" || host.drained !== null)}>
        <div>
          {visible(host.notes)}
          {host.drained === null ? null : (
            <div class="fl">drained{host.drained === "" ? "" : `: ${visible(host.drained)}`}</div>
          )}
        </div>
      </td>
      {operator ? (
        <td data-label="Drain">
          {host.drained === null ? (
            <Act action={`/hosts/${encodeURIComponent(host.name)}/drain`} label="Drain" note="why" />
          ) : (
            <Act action={`/hosts/${encodeURIComponent(host.name)}/resume`} label="Resume" />
          )}
        </td>
      ) : null}
    </tr>
  );
}

/** The label of a cell for a narrow screen, which hides empty cells. */
function labelled(label: string, filled: boolean): { "data-label"?: string } {
  return filled ? { "data-label": label } : {};
}

/** The builder's newest result in each repository, each a link to the build. */
function Latest(props: { results: readonly LatestResult[] }): JSX.Element {
  if (props.results.length === 0) return <span class="muted">no result yet</span>;
  return (
    <span>
      {props.results.map((one) => (
        <a
          key={one.repo}
          href={`/b/${one.build}`}
          class="result"
          title={`${visible(one.repo)}: ${STATUS[one.status].word}`}
        >
          <Mark status={one.status} word={props.results.length === 1} />
          {props.results.length > 1 ? <Name text={one.repo} /> : null}
        </a>
      ))}
    </span>
  );
}

/** A known issue. Only http(s) becomes a link: a text of the configuration must not become a `javascript:` address. */
function Issue(props: { issue: string }): JSX.Element {
  const isLink = /^https?:\/\//.test(props.issue);
  return isLink ? (
    <a href={props.issue}>{visible(props.issue.replace(/^https?:\/\//, ""))}</a>
  ) : (
    <span>#{visible(props.issue)} </span>
  );
}

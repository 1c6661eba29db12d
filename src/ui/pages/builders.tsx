/** `/builders`: the configuration in force, builders on top and host types below, linked both ways. */
import type { JSX } from "preact";
import { Act, Builder, Empty, Name, nameClass, Section, Table } from "../parts.tsx";
import { visible } from "../text.ts";

export interface BuilderRow {
  readonly name: string;
  readonly hostType: string;
  readonly owners: string;
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
        <Table
          label="Builders"
          class="config"
          head={["Builder", "Host type", "Owners", "Builds", "Steps", "Known issues", "Notes"]}
        >
          {builders.map((builder) => (
            <tr key={builder.name} id={builder.name} data-row>
              <th scope="row">
                <a href={`#${encodeURIComponent(builder.name)}`} class={`open ${nameClass(builder.name)}`}>
                  <Name text={builder.name} />
                </a>
              </th>
              <td>
                <a href={`#${encodeURIComponent(builder.hostType)}`} class={nameClass(builder.hostType)}>
                  <Name text={builder.hostType} />
                </a>
              </td>
              <td>{visible(builder.owners)}</td>
              <td>{visible(builder.repos)}</td>
              <td>{visible(builder.steps.join(", "))}</td>
              <td>
                {builder.knownIssues.map((issue) => (
                  <Issue key={issue} issue={issue} />
                ))}
              </td>
              <td>{visible(builder.notes)}</td>
            </tr>
          ))}
        </Table>
      )}
      <Section id="hosts" title="Host types">
        {hosts.length === 0 ? (
          <Empty>No host type is configured.</Empty>
        ) : (
          <Table
            label="Host types"
            class="config"
            head={[
              "Host type",
              "Platform",
              "Pool",
              "Trust",
              "#Connected",
              "Owners",
              "Builders",
              "Notes",
              ...(props.operator ? ["Drain"] : []),
            ]}
          >
            {hosts.map((host) => (
              <tr key={host.name} id={host.name} data-row>
                <th scope="row">
                  <a href={`#${encodeURIComponent(host.name)}`} class={`open ${nameClass(host.name)}`}>
                    <Name text={host.name} />
                  </a>
                </th>
                <td>{visible(host.arch)}</td>
                <td>{host.pool}</td>
                <td>{host.trust}</td>
                <td class="right num">
                  {host.connected}
                  {host.expect > 0 ? <span class="muted"> of {host.expect}</span> : null}
                </td>
                <td>
                  {host.owners.map((owner) => (
                    <div key={owner.name}>
                      <bdi>{visible(owner.name)}</bdi> <span class="muted">{visible(owner.contact)}</span>
                    </div>
                  ))}
                </td>
                <td>
                  {host.builders.map((name) => (
                    <div key={name}>
                      <Builder name={name} />
                    </div>
                  ))}
                </td>
                <td>
                  {visible(host.notes)}
                  {host.drained === null ? null : (
                    <div class="fl">drained{host.drained === "" ? "" : `: ${visible(host.drained)}`}</div>
                  )}
                </td>
                {props.operator ? (
                  <td>
                    {host.drained === null ? (
                      <Act action={`/hosts/${encodeURIComponent(host.name)}/drain`} label="Drain" note="why" />
                    ) : (
                      <Act action={`/hosts/${encodeURIComponent(host.name)}/resume`} label="Resume" />
                    )}
                  </td>
                ) : null}
              </tr>
            ))}
          </Table>
        )}
      </Section>
    </>
  );
}

/** Only http(s) becomes a link: what stands in a configuration must not become a `javascript:` address. */
function Issue(props: { issue: string }): JSX.Element {
  const isLink = /^https?:\/\//.test(props.issue);
  return isLink ? (
    <a href={props.issue}>{visible(props.issue.replace(/^https?:\/\//, ""))}</a>
  ) : (
    <span>#{visible(props.issue)} </span>
  );
}

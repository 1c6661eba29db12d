/** `/status`: the findings of each health checker, worst first, and the coordinators of the farm. */
import type { JSX } from "preact";
import type { Check } from "../data.ts";
import { healthMark } from "../frame.tsx";
import { Act, Empty, Section, Span, Table, When } from "../parts.tsx";
import { plural, visible } from "../text.ts";

const WORST = ["error", "warn", "info", "ok"];

export function CheckList(props: { checks: readonly Check[] }): JSX.Element {
  if (props.checks.length === 0) return <Empty>No health checker is set up.</Empty>;
  const sorted = props.checks.toSorted((a, b) => WORST.indexOf(a.level) - WORST.indexOf(b.level));
  return (
    <ul class="checks">
      {sorted.map((check) => (
        <li key={check.id}>
          {healthMark(check.level)} <a href={`/status/${encodeURIComponent(check.id)}`}>{visible(check.title)}</a>
          {check.lines.length === 0 ? <span class="muted"> ok</span> : null}
          {check.notes ? (
            <a href={check.notes} class="notes">
              what to do
            </a>
          ) : null}
          {check.lines.length > 0 ? (
            <ul>
              {check.lines.map((line) => (
                <li key={line.text} class={line.level}>
                  {healthMark(line.level)} {visible(line.text)}
                </li>
              ))}
            </ul>
          ) : null}
        </li>
      ))}
    </ul>
  );
}

/** A coordinator that lives. */
export interface CoordinatorLine {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** The address at which the others reach it. Null: it cannot be reached, or is still starting. */
  readonly peer: string | null;
  readonly startedAt: number;
  readonly seenAt: number;
  readonly machines: number;
  readonly builds: number;
  /** Whether it made this page. */
  readonly here: boolean;
}

export interface HealthData {
  readonly checks: readonly Check[];
  readonly coordinators: readonly CoordinatorLine[];
  /** When the farm was drained, and why. Null: it is not drained. */
  readonly drained: { readonly drainedAt: number; readonly note: string } | null;
}

export function HealthPage(props: { data: HealthData; operator: boolean }): JSX.Element {
  const { checks, coordinators, drained } = props.data;
  return (
    <>
      <h1>Health</h1>
      {drained === null ? null : (
        <p class="lead">
          The farm was drained <When at={drained.drainedAt} />
          {drained.note === "" ? "" : `: ${visible(drained.note)}`}. It ends what runs and begins nothing new.
        </p>
      )}
      <CheckList checks={checks} />
      {props.operator ? (
        <div class="operate">
          {drained === null ? (
            <Act action="/farm/drain" label="Drain the farm" note="why (shown to everybody)" />
          ) : (
            <Act action="/farm/resume" label="Resume the farm" />
          )}
        </div>
      ) : null}
      <Section id="coordinators" title="Coordinators" aside={plural(coordinators.length, "process", "processes")}>
        <Table
          label="Coordinators"
          class="config"
          head={["Coordinator", "Host", "Reached at", "Version", "#Up", "#Machines", "#Builds", "#Last seen"]}
        >
          {coordinators.map((one) => (
            <tr key={one.id} data-row>
              <td class="num">
                {one.id}
                {one.here ? <span class="muted"> this page</span> : null}
              </td>
              <td data-label="Host">
                <span>
                  {visible(one.host)} <span class="muted num">{one.pid}</span>
                </span>
              </td>
              <td data-label="Reached at">
                {one.peer === null ? <span class="muted">not yet</span> : visible(one.peer)}
              </td>
              <td data-label="Version">{visible(one.version)}</td>
              <td class="right took" data-label="Up">
                <Span from={one.startedAt} />
              </td>
              <td class="right num" data-label="Machines">
                {one.machines}
              </td>
              <td class="right num" data-label="Builds">
                {one.builds}
              </td>
              <td class="right" data-label="Last seen">
                <When at={one.seenAt} />
              </td>
            </tr>
          ))}
        </Table>
      </Section>
    </>
  );
}

/** `/status`: what each health checker found, worst first. */
import type { JSX } from "preact";
import type { Check } from "../data.ts";
import { healthMark } from "../frame.tsx";
import { Empty } from "../parts.tsx";
import { visible } from "../text.ts";

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

export function HealthPage(props: { data: { readonly checks: readonly Check[] } }): JSX.Element {
  return (
    <>
      <h1>Health</h1>
      <CheckList checks={props.data.checks} />
    </>
  );
}

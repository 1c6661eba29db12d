/**
 * Why a build failed: the lines that say so, the room that a live page keeps for them, and the commands that repeat the
 * failure by hand.
 */
import type { ComponentChildren, JSX } from "preact";
import { stepHref } from "../data.ts";
import { visible } from "../text.ts";
import type { BuildData, Reproduce } from "./build-data.ts";

/** Room for tests that fail while somebody looks on. Its height is the same before and after. */
export function Troubles(props: { none: boolean; children: ComponentChildren }): JSX.Element {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
    <section class="troubles" tabIndex={0} aria-label="What failed">
      {props.none ? <p class="muted">No test has failed for good yet.</p> : props.children}
    </section>
  );
}

export function Why(props: {
  why: NonNullable<BuildData["why"]>;
  build: number;
  attempt: number;
  last: number;
}): JSX.Element {
  const base =
    stepHref(props.build, props.why.step) + (props.attempt === props.last ? "" : `?attempt=${props.attempt}`);
  let before = 0;
  return (
    <section class="why" aria-label="Why it failed">
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
      <section class="lines" tabIndex={0} aria-label={`Last lines of ${visible(props.why.step)}`}>
        {props.why.lines.map((line) => {
          const gap = before > 0 && line.line > before + 1;
          before = line.line;
          return (
            <div key={line.line} class={`${line.marked ? "row hit" : "row"}${gap ? " gap" : ""}`}>
              <a class="ln" href={`${base}#L${line.line}`} aria-label={`line ${line.line}`}>
                {line.line}
              </a>
              <span class="tx">{line.text === "" ? " " : line.text}</span>
            </div>
          );
        })}
      </section>
    </section>
  );
}

/** The commands that repeat a failure. The shown text is exactly the text that is copied. */
export function ByHand({ reproduce }: { reproduce: Reproduce }): JSX.Element {
  return (
    <details class="by-hand">
      <summary>Reproduce “{visible(reproduce.step)}” by hand</summary>
      {"cannot" in reproduce ? (
        <p class="muted">{visible(reproduce.cannot)}</p>
      ) : (
        <>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard. */}
          <section class="commands" tabIndex={0} aria-label="Commands for a POSIX shell">
            <pre>
              <code dir="ltr">{reproduce.commands}</code>
            </pre>
          </section>
          {reproduce.hidden.length === 0 ? null : (
            <p class="muted">Not shown, since it may be secret: {visible(reproduce.hidden.join(", "))}</p>
          )}
        </>
      )}
    </details>
  );
}

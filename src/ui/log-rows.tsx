/**
 * Lines of a log as rows. With script, only the rows in sight exist, over a space of the log's height. Without script,
 * the last lines are shown, with links to the others.
 */
import type { JSX } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { ansiState, type Span, spans } from "./ansi.ts";
import type { LogSource } from "./log-source.ts";
import { ROW, type ScrollMap } from "./scroll-map.ts";
import { plural } from "./text.ts";

export interface LogData {
  /** The address of the step, `/b/12/test`. `/log`, `/lines` and `/find` are below it. */
  readonly base: string;
  /** The number of the attempt: a later attempt has another log. It is "" for the log of a group of tests. */
  readonly attempt: string;
  readonly total: number;
  readonly length: number;
  readonly ended: boolean;
  readonly truncated: boolean;
  /** The number (from 1) of the first line that is here. The lines are the last ones, or those that were asked for. */
  readonly from: number;
  readonly tail: readonly string[];
}

/** The rows in sight, in a layer that stays while the space below it scrolls. */
export function Rows(props: {
  source: LogSource;
  map: ScrollMap;
  view: number;
  chosen: number;
  why: readonly number[];
  query: string;
  choose: (line: number) => void;
}): JSX.Element {
  const { source, map, view, chosen, why, query, choose } = props;
  const layer = useRef<HTMLDivElement>(null);
  const first = Math.floor(map.top);
  const count = Math.min(source.total - first, Math.ceil(view / ROW) + 1);
  const atEnd = map.atEnd && map.last > 0;
  useLayoutEffect(() => {
    const rows = layer.current;
    if (!rows) return;
    // A wrapped row is taller than ROW. So a fraction of `top` is a fraction of the first row, and at the end of the
    // log the last row stands at the bottom.
    const height = rows.firstElementChild?.getBoundingClientRect().height ?? ROW;
    const shift = atEnd ? Math.min(0, view - rows.scrollHeight) : -(map.top - first) * height;
    rows.style.transform = `translateY(${shift}px)`;
  });
  const rows: JSX.Element[] = [];
  for (let line = first + 1; line <= first + count; line++) {
    const content = source.row(line);
    rows.push(
      <div key={line} class={`row${line === chosen ? " sel" : ""}${why.includes(line) ? " hit" : ""}`} data-line={line}>
        <a
          class="ln"
          href={`#L${line}`}
          aria-label={`line ${line}`}
          onClick={(event) => {
            event.preventDefault();
            history.replaceState(null, "", `#L${line}`);
            choose(line);
          }}
        >
          {line}
        </a>
        <span class="tx">{content === undefined ? "" : <Line spans={content} query={query} />}</span>
      </div>,
    );
  }
  return (
    <div class="log-layer">
      <div ref={layer}>{rows}</div>
    </div>
  );
}

function Line(props: { spans: readonly Span[]; query: string }): JSX.Element {
  if (props.spans.length === 0) return <> </>;
  return (
    <>
      {props.spans.map((span, i) => (
        <span key={i} class={span.css === "" ? undefined : span.css}>
          {marked(span.text, props.query)}
        </span>
      ))}
    </>
  );
}

/** `text` with every occurrence of `query` marked, in any case. */
function marked(text: string, query: string): (string | JSX.Element)[] | string {
  if (query === "") return text;
  const parts: (string | JSX.Element)[] = [];
  const low = text.toLowerCase();
  const sought = query.toLowerCase();
  let from = 0;
  for (let at = low.indexOf(sought); at >= 0; at = low.indexOf(sought, from)) {
    parts.push(text.slice(from, at), <mark key={at}>{text.slice(at, at + sought.length)}</mark>);
    from = at + sought.length;
  }
  return [...parts, text.slice(from)];
}

/** How many lines a link goes back on a page without script. */
const BACK = 1000;

/**
 * The rows without script: the last lines, or those from the line that the address names, with links to the lines
 * before and after.
 */
export function StaticRows(props: { log: LogData; why: readonly number[] }): JSX.Element {
  const { log } = props;
  const state = ansiState();
  const after = log.from + log.tail.length;
  const around = (from: number): string =>
    `${log.base}?${log.attempt === "" ? "" : `attempt=${log.attempt}&`}from=${from}#log`;
  return (
    <>
      {log.from > 1 ? (
        <p class="muted earlier">
          <a href={around(Math.max(1, log.from - BACK))}>{plural(log.from - 1, "earlier line")}</a>
        </p>
      ) : null}
      {log.tail.map((line, i) => (
        <div key={log.from + i} class={props.why.includes(log.from + i) ? "row hit" : "row"} id={`L${log.from + i}`}>
          <a class="ln" href={`#L${log.from + i}`} aria-label={`line ${log.from + i}`}>
            {log.from + i}
          </a>
          <span class="tx">
            <Line spans={spans(line, state)} query="" />
          </span>
        </div>
      ))}
      {after <= log.total && log.tail.length > 0 ? (
        <p class="muted earlier">
          <a href={around(after)}>{plural(log.total - after + 1, "later line")}</a>
        </p>
      ) : null}
      {log.total === 0 ? <p class="muted earlier">{log.ended ? "It wrote nothing." : "Nothing written yet."}</p> : null}
    </>
  );
}

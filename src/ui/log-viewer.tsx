/**
 * One step's log: line numbers with addresses, colours, search with a count, wrapping, following.
 *
 * On the server it is the last lines, as plain rows, with a link to the whole text. In the browser only the rows in
 * sight exist (log-rows.tsx, log-source.ts, scroll-map.ts), so a log of 1 GB costs no more than a short one. The box
 * keeps its height while somebody looks at it, so nothing below it moves.
 *
 * Following is on while the log grows and the reader is at its end. Scrolling up ends it, scrolling to the end begins
 * it again. A log that has ended is not followed: the button then only goes to its end.
 */
import type { ComponentChildren, JSX } from "preact";
import { useContext, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { LiveContext } from "./live.ts";
import { type LogData, Rows, StaticRows } from "./log-rows.tsx";
import { type LinesAnswer, LogSource } from "./log-source.ts";
import { ScrollMap } from "./scroll-map.ts";
import { bytes, grouped, plural } from "./text.ts";

/** A log of at most this many lines is shown whole. */
const SHORT = 30;

interface Found {
  readonly count: number;
  readonly lines: readonly number[];
  readonly complete: boolean;
}

/**
 * `why` are the lines (from 1, in order) that are likely to say why the step failed. They are marked, and the first is
 * in sight at first. `over` are the same lines when they are found while somebody reads: they stand over the end of the
 * box until they are closed, so that no line moves. `room` says how high the box is: with `fit`, a log that has ended
 * is only as high as it needs to be; on a page that is open while the build runs, the box has its full height.
 */
export function LogViewer(props: {
  log: LogData;
  why?: readonly number[];
  room?: "fit" | "tall";
  over?: ComponentChildren;
}): JSX.Element {
  const { log, why = [], room = "fit", over = null } = props;
  const live = useContext(LiveContext);
  const box = useRef<HTMLDivElement>(null);
  const [awake, setAwake] = useState(false);
  const [, redraw] = useState(0);
  // Decided once: a log that ends while somebody reads must not shrink.
  const [short] = useState(room === "fit" && log.ended && log.total <= SHORT);
  const [wrap, setWrap] = useState(false);
  const [follow, setFollow] = useState(false);
  const [query, setQuery] = useState("");
  const [found, setFound] = useState<Found | null>(null);
  const [hit, setHit] = useState(0);
  const [chosen, setChosen] = useState(0);
  const [closed, setClosed] = useState(false);
  const state = useMemo(() => {
    const draw = (): void => redraw((n) => n + 1);
    const url = (path: string, query: Readonly<Record<string, string | number>>): string => {
      const all = new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]));
      if (log.attempt !== "") all.set("attempt", log.attempt);
      return `${log.base}/${path}?${all}`;
    };
    return { source: new LogSource(log, url, draw), map: new ScrollMap(log.total), draw };
  }, [log.base, log.attempt]);
  const { source, map } = state;
  map.resize(source.total, box.current?.clientHeight ?? 0);

  const show = (line: number): void => {
    const element = box.current;
    if (element) element.scrollTop = map.goTo(line);
    state.draw();
  };
  const choose = (line: number): void => {
    setFollow(false);
    setChosen(line);
    map.resize(source.total, box.current?.clientHeight ?? 0);
    show(line - 4);
  };

  useEffect(() => {
    setAwake(true);
    const fromHash = (): boolean => {
      const line = Number(/^#L(\d+)$/.exec(location.hash)?.[1] ?? 0);
      if (line > 0) choose(line);
      return line > 0;
    };
    const observer = new ResizeObserver(state.draw);
    if (box.current) observer.observe(box.current);
    if (!fromHash()) {
      setFollow(!source.ended);
      // The why box shows the end already, so the log shows the first marked line with the lines around it.
      const [first] = why;
      show(source.ended && first !== undefined ? first - 8 : source.total);
    }
    const onHash = (): void => void fromHash();
    addEventListener("hashchange", onHash);
    const leave = source.ended
      ? () => {}
      : live.follow(
          () => source.url("follow", { from: source.lastBlock }),
          "lines",
          (data) => source.take(JSON.parse(data) as LinesAnswer),
        );
    return () => {
      removeEventListener("hashchange", onHash);
      observer.disconnect();
      leave();
    };
  }, [state]);

  // The box is as tall as its content only after the first live drawing. So the place is set again then, and whenever
  // the log grows while it is followed.
  useLayoutEffect(() => {
    const element = box.current;
    if (!element || !awake) return;
    const before = map.top;
    element.scrollTop = follow ? map.goTo(source.total) : map.bar();
    if (map.top !== before) state.draw();
  }, [awake, source.total, follow]);

  useEffect(() => {
    if (query === "") {
      setFound(null);
      return;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      const response = await fetch(source.url("find", { q: query }), { signal: stop.signal }).catch(() => undefined);
      if (!response?.ok) return;
      const answer = (await response.json()) as Found;
      setFound(answer);
      setHit(0);
      const first = answer.lines[0];
      if (first !== undefined) choose(first);
    }, 150);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [query]);

  const step = (by: number): void => {
    if (!found || found.lines.length === 0) return;
    const next = (hit + by + found.lines.length) % found.lines.length;
    setHit(next);
    choose(found.lines[next] ?? 1);
  };

  const onScroll = (): void => {
    const element = box.current;
    if (!element || !awake || Math.abs(element.scrollTop - map.seen) < 1) return;
    map.moved(element.scrollTop);
    setFollow(!source.ended && map.atEnd);
    state.draw();
  };
  const onRest = (): void => {
    if (box.current && awake) box.current.scrollTop = map.bar();
  };
  const following = follow && !source.ended;
  const toggleFollow = (): void => {
    setFollow(!following && !source.ended);
    if (!following) show(source.total);
  };
  const onKey = (event: KeyboardEvent): void => {
    if (event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Home") show(0);
    else if (event.key === "End") show(source.total);
    else return;
    event.preventDefault();
  };
  // These keys work wherever the focus is, since a page has one log. They come before the keys of every page, which
  // ignore a key that was taken.
  useEffect(() => {
    const onPageKey = (event: KeyboardEvent): void => {
      const at = event.target instanceof Element ? event.target : undefined;
      if (event.ctrlKey || event.metaKey || event.altKey || at?.closest("input, textarea, select, dialog")) return;
      if (event.key === "f") toggleFollow();
      else if (event.key === "w") setWrap(!wrap);
      else if (event.key === "n" && why.length > 0) choose(why.find((line) => line > chosen) ?? why[0] ?? 1);
      else return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onPageKey, { capture: true });
    return () => document.removeEventListener("keydown", onPageKey, { capture: true });
  });

  return (
    <section class="log" id="log" aria-label="Log" onKeyDown={onKey}>
      <div class="log-bar">
        <span class="muted num">
          {`${plural(source.total, "line")}, ${bytes(source.length)}${source.ended ? "" : ", growing"}`}
        </span>
        <span class="log-find" hidden={!awake}>
          <input
            type="search"
            value={query}
            placeholder="Find in log"
            aria-label="Find in log"
            onInput={(event) => setQuery(event.currentTarget.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter") step(event.shiftKey ? -1 : 1);
            }}
          />
          <span class="found num" role="status">
            {found === null
              ? ""
              : found.count === 0
                ? "not found"
                : `${hit + 1} of ${grouped(found.count)}${found.complete ? "" : "+"}`}
          </span>
          <button type="button" onClick={() => step(-1)} aria-label="Previous match">
            ↑
          </button>
          <button type="button" onClick={() => step(1)} aria-label="Next match">
            ↓
          </button>
        </span>
        <button type="button" hidden={!awake} aria-pressed={wrap} onClick={() => setWrap(!wrap)}>
          Wrap
        </button>
        <button type="button" hidden={!awake} aria-pressed={following} onClick={toggleFollow}>
          Follow
        </button>
        <CopyLink line={chosen} hidden={!awake} />
        <a href={`${log.base}/log${log.attempt === "" ? "" : `?attempt=${log.attempt}`}`}>Raw text</a>
      </div>
      <div class="log-frame">
        <section
          class={`log-box${wrap ? " wrap" : ""}${short ? " short" : ""}`}
          ref={box}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard.
          tabIndex={0}
          aria-label="Lines"
          onScroll={onScroll}
          onScrollEnd={onRest}
        >
          {awake ? (
            <div class="log-space" style={{ height: `${map.height}px` }}>
              <Rows
                source={source}
                map={map}
                view={box.current?.clientHeight ?? 600}
                chosen={chosen}
                why={why}
                query={found === null ? "" : query}
                choose={setChosen}
              />
            </div>
          ) : (
            <StaticRows log={log} why={why} />
          )}
        </section>
        {over === null || closed ? null : (
          <div class="log-over">
            <p>
              <span class="no">✕ Why it failed</span>
              <button type="button" onClick={() => setClosed(true)}>
                Close
              </button>
            </p>
            {over}
          </div>
        )}
      </div>
      {log.truncated ? <p class="fl">The command wrote more than is kept; the rest was dropped.</p> : null}
    </section>
  );
}

function CopyLink(props: { line: number; hidden: boolean }): JSX.Element {
  const [copied, setCopied] = useState(0);
  const { line } = props;
  const copy = async (): Promise<void> => {
    await navigator.clipboard.writeText(location.href.replace(/#.*$/, `#L${line}`)).catch(() => undefined);
    setCopied(line);
  };
  return (
    <button type="button" class="copy" hidden={props.hidden} disabled={line === 0} onClick={() => void copy()}>
      {line > 0 && copied === line ? "Link copied" : line > 0 ? `Copy link to ${line}` : "Copy link"}
    </button>
  );
}

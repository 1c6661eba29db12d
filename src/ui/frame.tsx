/** The frame around every page: the bar with search, banners, the footer, and the list of keys behind `?`. */
import type { JSX } from "preact";
import { type Frame, type Level, repoHref } from "./data.ts";
import { Span } from "./parts.tsx";
import { visible, visibleLines } from "./text.ts";

const HEALTH: Readonly<Record<Level, { glyph: string; word: string; css: string }>> = {
  ok: { glyph: "✓", word: "all well", css: "ok" },
  info: { glyph: "▲", word: "notes", css: "fl" },
  warn: { glyph: "▲", word: "warnings", css: "fl" },
  error: { glyph: "✕", word: "errors", css: "no" },
};

export function healthMark(level: Level): JSX.Element {
  const look = HEALTH[level];
  return (
    <span class={`mark ${look.css}`} title={look.word}>
      <span class="glyph" aria-hidden="true">
        {look.glyph}
      </span>
      <span class="sr">{look.word}</span>
    </span>
  );
}

export function Top(props: { frame: Frame }): JSX.Element {
  const { frame } = props;
  const here = (path: string): { "aria-current"?: "page" } =>
    frame.path === path || frame.path.startsWith(`${path}/`) || frame.path.startsWith(`${path}?`)
      ? { "aria-current": "page" }
      : {};
  return (
    <>
      <header class="bar">
        <a href="/" class="farm" {...(frame.path === "/" ? { "aria-current": "page" } : {})}>
          {visible(frame.farm)}
        </a>
        <nav aria-label="Pages">
          {frame.repos.slice(0, 6).map((repo) => (
            <a key={repo} href={repoHref(repo)} {...here(repoHref(repo))}>
              <bdi>{visible(repo)}</bdi>
            </a>
          ))}
          <a href="/builders" {...here("/builders")}>
            Builders
          </a>
          <a href="/machines" {...here("/machines")}>
            Machines
          </a>
          <a href="/queues" {...here("/queues")}>
            Queues
          </a>
          {frame.gomotes ? (
            <a href="/gomotes" {...here("/gomotes")}>
              Gomotes
            </a>
          ) : null}
          {frame.operator ? (
            <a href="/people" {...here("/people")}>
              People
            </a>
          ) : null}
          <a href="/status" {...here("/status")}>
            Health {healthMark(frame.health)}
          </a>
        </nav>
        <search>
          <form action="/search">
            <input
              type="search"
              name="q"
              id="search"
              placeholder="Search  /"
              aria-label="Search commits, branches, builders, machines, builds"
            />
          </form>
        </search>
        <form method="post" action="/theme" class="theme">
          <input type="hidden" name="back" value={frame.path} />
          <button
            type="submit"
            name="theme"
            value={frame.theme === "dark" ? "light" : "dark"}
            title="Light or dark"
            aria-label="Switch between light and dark"
          >
            <span aria-hidden="true">◑</span>
          </button>
        </form>
        {frame.who === null ? (
          <a href={`/login?back=${encodeURIComponent(frame.path)}`}>Log in</a>
        ) : (
          <>
            <a href="/me" class="who" title={visible(frame.who)} {...here("/me")}>
              <bdi>{visible(frame.who)}</bdi>
            </a>
            <form method="post" action="/logout">
              <button type="submit">Log out</button>
            </form>
          </>
        )}
      </header>
      {frame.banners.map(({ summary, detail }) => (
        <div key={summary} class="banner" role="status">
          {detail === "" ? (
            visible(summary)
          ) : (
            <details open={!detail.includes("\n")}>
              <summary>{visible(summary)}</summary>
              <p class="detail">{visibleLines(detail)}</p>
            </details>
          )}
        </div>
      ))}
    </>
  );
}

export function Footer(props: { frame: Frame }): JSX.Element {
  const { frame } = props;
  const json = `${frame.path}${frame.path.includes("?") ? "&" : "?"}format=json`;
  return (
    <footer>
      <span>Barnraiser {frame.version}</span>
      <span>
        up for <Span from={frame.startedAt} to={frame.now} />
      </span>
      <a href={json}>this page as JSON</a>
      <a href="/metrics">metrics</a>
      <span class="keys-hint">
        <kbd>?</kbd> for keys
      </span>
    </footer>
  );
}

/** The note over the end of a page while the connection that updates it is broken (`data-live`, islands/events.ts). */
export function Lost(): JSX.Element {
  return (
    <p class="lost" role="status">
      The farm does not answer: what is shown may be old. The page goes on by itself.
    </p>
  );
}

const KEYS: readonly (readonly [string, string])[] = [
  ["/", "search"],
  ["g h", "the farm now"],
  ["g g", "grid"],
  ["g b", "builders"],
  ["g m", "machines"],
  ["g q", "queues"],
  ["g o", "gomotes"],
  ["j  k", "next, previous row"],
  ["← ↑ ↓ →", "move in the grid"],
  ["Enter", "open"],
  ["n", "next failure; in a log: next marked line"],
  ["f  w", "in a log: follow, wrap"],
  ["?", "this list"],
];

export function Keys(): JSX.Element {
  return (
    <dialog id="keys" aria-label="Keys">
      <h2>Keys</h2>
      <dl>
        {KEYS.map(([key, what]) => (
          <div key={key}>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <form method="dialog">
        <button type="submit">Close</button>
      </form>
    </dialog>
  );
}

/** Pages that say one thing: found, not found, not now, log in. */
import type { JSX } from "preact";
import { BuildRows } from "../build-rows.tsx";
import type { BuildLine } from "../data.ts";
import { Empty } from "../parts.tsx";
import { visible } from "../text.ts";

export interface Hit {
  readonly kind: string;
  readonly href: string;
  readonly text: string;
  readonly more: string;
}

export function SearchPage(props: {
  data: { readonly q: string; readonly hits: readonly Hit[]; readonly builds: readonly BuildLine[] };
}): JSX.Element {
  const { q, hits, builds } = props.data;
  return (
    <>
      <h1>Search</h1>
      <form class="filter" action="/search">
        <input
          type="search"
          name="q"
          value={q}
          aria-label="Search"
          placeholder="commit, branch, builder, machine, build number"
        />
        <button type="submit">Search</button>
      </form>
      {q !== "" && hits.length === 0 && builds.length === 0 ? <Empty>Nothing matches “{visible(q)}”.</Empty> : null}
      <Hits hits={hits} />
      {builds.length > 0 ? <BuildRows label="Builds" builds={builds} kind="ended" /> : null}
    </>
  );
}

function Hits(props: { hits: readonly Hit[] }): JSX.Element {
  return (
    <ul class="hits">
      {props.hits.map((hit) => (
        <li key={hit.href} data-row>
          <span class="muted kind">{hit.kind}</span>{" "}
          <a href={hit.href} class="open">
            <bdi>{visible(hit.text)}</bdi>
          </a>{" "}
          <span class="muted">
            <bdi>{visible(hit.more)}</bdi>
          </span>
        </li>
      ))}
    </ul>
  );
}

export interface MessageData {
  readonly title: string;
  readonly lines: readonly string[];
  readonly hits: readonly Hit[];
}

/** The page of a 404, with what may have been meant; of 403 and 500; and the one while the database is away. */
export function MessagePage(props: { data: MessageData }): JSX.Element {
  return (
    <>
      <h1>{visible(props.data.title)}</h1>
      {props.data.lines.map((line) => (
        <p key={line} class="lead">
          {visible(line)}
        </p>
      ))}
      <Hits hits={props.data.hits} />
    </>
  );
}

export interface LoginData {
  readonly back: string;
  readonly problem: string | null;
  /** The name of the farm's login provider. Null: there is none. */
  readonly provider: string | null;
  /**
   * Whether the person has just logged out here and may still be logged in at the provider, which has a page for
   * logging out.
   */
  readonly stillIn: boolean;
}

export function LoginPage(props: { data: LoginData }): JSX.Element {
  const { back, problem, provider, stillIn } = props.data;
  return (
    <>
      <h1>Log in</h1>
      {problem === null ? (
        <p class="lead">Reading needs no login.</p>
      ) : (
        <p role="alert" class="lead no">
          {problem}
        </p>
      )}
      {provider === null || !stillIn ? null : (
        <p role="status">
          You are logged out here. This browser may still be logged in at {visible(provider)}:{" "}
          <a href="/logout/openid">log out there, too</a>.
        </p>
      )}
      {provider === null ? null : (
        <p class="lead">
          <a href={`/login/openid?back=${encodeURIComponent(back)}`} class="button">
            Log in at {visible(provider)}
          </a>
        </p>
      )}
      <form method="post" action="/login" class="login">
        <input type="hidden" name="back" value={back} />
        <input
          type="text"
          name="username"
          value="operator"
          autocomplete="username"
          hidden
          readOnly
          aria-hidden="true"
          tabIndex={-1}
        />
        <label>
          Token
          <input type="password" name="token" autocomplete="current-password" required aria-describedby="token-help" />
        </label>
        <p id="token-help" class="muted">
          One of yours (<code>brt_…</code>; an operator gives you the first), or the operator token: the file{" "}
          <code>operator-token</code> of the farm's data folder.
        </p>
        <button type="submit">Log in</button>
      </form>
    </>
  );
}

/** `/me`: who the visitor is, the tokens of their programs, and how a command line is set up with a token. */
import type { JSX } from "preact";
import { Copy } from "../copy.tsx";
import { Empty, Name, Section } from "../parts.tsx";
import { visible } from "../text.ts";
import { utc } from "../time.ts";
import { MadeToken, type MadeTokenLine, NewToken, type TokenLine, Tokens } from "../tokens.tsx";
import { ROLE_MEANING } from "./people.tsx";

export type MeData =
  | { readonly kind: "operator" }
  | {
      readonly kind: "person";
      readonly email: string;
      readonly roles: readonly string[];
      /** When the token ends with which the person signed in. Null: they signed in another way, or it does not end. */
      readonly until: number | null;
      /** The HOST:PORT that programs dial. */
      readonly server: string;
      readonly tokens: readonly TokenLine[];
      /** The token that this very request made. */
      readonly made: MadeTokenLine | null;
    };

export function MePage(props: { data: MeData }): JSX.Element {
  const { data } = props;
  if (data.kind === "operator")
    return (
      <>
        <h1>The operator</h1>
        <p class="lead">
          You are logged in with the operator token of the farm, which is nobody's own. Users have names, roles and
          tokens of their own: <a href="/people">add one</a>, or on the coordinator's computer with
        </p>
        <pre class="command">npm run -s coordinator -- -add-user alice@example.org -roles member</pre>
      </>
    );
  const good = data.tokens.filter((token) => token.good);
  const ended = data.tokens.filter((token) => !token.good);
  return (
    <>
      <h1>
        <Name text={data.email} />
      </h1>
      {data.roles.length === 0 ? (
        <p class="lead">You have no role here, so you may read. An operator gives roles.</p>
      ) : (
        <ul class="roles">
          {data.roles.map((role) => (
            <li key={role}>
              {role} <span class="muted">{ROLE_MEANING[role] ?? ""}</span>
            </li>
          ))}
        </ul>
      )}
      {data.made ? <MadeToken made={data.made} /> : null}
      <Section id="tokens" title="Tokens">
        {good.length === 0 ? (
          <Empty>No program of yours has a token that is good.</Empty>
        ) : (
          <Tokens label="Tokens that are good" tokens={good} revoke={revoke} />
        )}
        <NewToken action="/me/tokens" placeholder="gomote on my laptop" />
        {data.until === null ? null : (
          <p class="muted">
            You are logged in with a token yourself: what you make here ends with it at the latest, on {utc(data.until)}
            .
          </p>
        )}
        {ended.length === 0 ? null : (
          <details>
            <summary>Tokens that are good no more</summary>
            <Tokens label="Tokens that are good no more" tokens={ended} revoke={revoke} />
          </details>
        )}
      </Section>
      <Section id="command-line" title="Command line">
        <p>
          <code>gomote login</code> asks for a token by itself: it shows a code, and you allow it on{" "}
          <a href="/device">the page for codes</a>. It needs to know the farm:
        </p>
        <Copy label="the farm's address, for gomote" text={`export GOMOTE_SERVER=${visible(data.server)}`} />
        <p>
          For the original gomote command make a token above: with it you are shown what the command has to be told.
        </p>
      </Section>
    </>
  );
}

function revoke({ id }: TokenLine): string {
  return `/me/tokens/${id}/revoke`;
}

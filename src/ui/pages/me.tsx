/** Who I am here, the tokens of my programs, and how a command line is set up with them. */
import type { JSX } from "preact";
import { Copy } from "../copy.tsx";
import { Act, Empty, Name, Section, Table, When } from "../parts.tsx";
import { visible } from "../text.ts";
import { utc } from "../time.ts";

export interface TokenLine {
  readonly id: string;
  readonly name: string;
  readonly begins: string;
  readonly madeAt: number;
  readonly expiresAt: number;
  readonly revokedAt: number | null;
  readonly lastUsedAt: number | null;
  readonly good: boolean;
}

export type MeData =
  | { readonly kind: "operator" }
  | {
      readonly kind: "person";
      readonly email: string;
      readonly roles: readonly string[];
      /** Signed in with a token that ends then; null: otherwise. */
      readonly until: number | null;
      /** HOST:PORT that programs dial. */
      readonly server: string;
      readonly tokens: readonly TokenLine[];
      /** Made by the request that this answers; `original`: lines for the shell of the original command. */
      readonly made: {
        readonly id: string;
        readonly name: string;
        readonly token: string;
        readonly original: string;
      } | null;
    };

const MAY: Readonly<Record<string, string>> = {
  operator: "runs the farm: every button of every page",
  team: "borrows machines that are lent to the team",
  member: "borrows machines that are lent to members",
};

export function MePage(props: { data: MeData }): JSX.Element {
  const { data } = props;
  if (data.kind === "operator")
    return (
      <>
        <h1>The operator</h1>
        <p class="lead">
          You are logged in with the operator token of the farm, which is nobody's own. Users have tokens of their own;
          on the coordinator's computer one is added with
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
              {role} <span class="muted">{MAY[role] ?? ""}</span>
            </li>
          ))}
        </ul>
      )}
      {data.made ? <Made made={data.made} server={data.server} /> : null}
      <Section id="tokens" title="Tokens">
        {good.length === 0 ? (
          <Empty>No program of yours has a token that is good.</Empty>
        ) : (
          <Tokens label="Tokens that are good" tokens={good} />
        )}
        <form method="post" action="/me/tokens" class="act new-token">
          <label>
            Name <input name="name" required maxLength={100} placeholder="gomote on my laptop" />
          </label>
          <label>
            Good for <input name="days" type="number" min={1} max={400} value={90} required /> days
          </label>
          <button type="submit">Make a token</button>
        </form>
        {data.until === null ? null : (
          <p class="muted">
            You are logged in with a token yourself: what you make here ends with it at the latest, on {utc(data.until)}
            .
          </p>
        )}
        {ended.length === 0 ? null : (
          <details>
            <summary>Tokens that are good no more</summary>
            <Tokens label="Tokens that are good no more" tokens={ended} />
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

function Made(props: {
  made: { readonly id: string; readonly name: string; readonly token: string; readonly original: string };
  server: string;
}): JSX.Element {
  const { id, name, token, original } = props.made;
  return (
    <section class="made" aria-label="The new token">
      <p role="status">
        <strong>{visible(name)}</strong> ({id}) is made. It is shown this once:
      </p>
      <Copy label="the new token" text={token} />
      <details>
        <summary>For the original gomote command</summary>
        <Copy label="the environment of the original gomote command" text={original.trimEnd()} />
      </details>
    </section>
  );
}

function Tokens(props: { label: string; tokens: readonly TokenLine[] }): JSX.Element {
  return (
    <Table label={props.label} class="config tokens" head={["Name", "Begins", "#Made", "#Last used", "#Ends"]}>
      {props.tokens.map((token) => (
        <tr key={token.id} data-row>
          <th scope="row">
            <Name text={token.name} /> <span class="muted">{token.id}</span>
          </th>
          <td data-label="Begins">
            <code>{token.begins}…</code>
          </td>
          <td data-label="Made" class="right when">
            <When at={token.madeAt} />
          </td>
          <td data-label="Last used" class="right when">
            {token.lastUsedAt === null ? "never" : <When at={token.lastUsedAt} />}
          </td>
          <td data-label="Ends" class="right">
            <TokenEnd token={token} revoke={`/me/tokens/${token.id}/revoke`} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** When a token is good no more, and the button by which that is now. */
export function TokenEnd(props: {
  token: Pick<TokenLine, "expiresAt" | "revokedAt" | "good">;
  revoke: string;
}): JSX.Element {
  const { expiresAt, revokedAt, good } = props.token;
  if (revokedAt !== null)
    return (
      <>
        revoked <When at={revokedAt} />
      </>
    );
  return (
    <span class="token-end">
      <time datetime={new Date(expiresAt).toISOString()} title={utc(expiresAt)}>
        {utc(expiresAt).slice(0, 10)}
      </time>{" "}
      {good ? <Act action={props.revoke} label="Revoke" danger /> : null}
    </span>
  );
}

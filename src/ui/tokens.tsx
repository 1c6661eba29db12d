/** Tokens of somebody's programs, on their own page and on the operators' page about them. */
import type { JSX } from "preact";
import { Copy } from "./copy.tsx";
import { Act, Name, Table, When } from "./parts.tsx";
import { visible } from "./text.ts";
import { utc } from "./time.ts";

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

/**
 * A token that was just made and is shown only once. `original` are lines for a shell in which the original command
 * runs.
 */
export interface MadeTokenLine {
  readonly id: string;
  readonly name: string;
  readonly token: string;
  readonly original: string;
}

export function MadeToken(props: { made: MadeTokenLine }): JSX.Element {
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

export function NewToken(props: { action: string; placeholder: string }): JSX.Element {
  return (
    <form method="post" action={props.action} class="act new-token">
      <label>
        Name <input name="name" required maxLength={100} placeholder={props.placeholder} />
      </label>
      <label>
        Good for <input name="days" type="number" min={1} max={400} value={90} required /> days
      </label>
      <button type="submit">Make a token</button>
    </form>
  );
}

/** A list of tokens. `revoke` is the address to which a token's button leads. */
export function Tokens(props: {
  label: string;
  tokens: readonly TokenLine[];
  revoke: (token: TokenLine) => string;
}): JSX.Element {
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
            <TokenEnd token={token} revoke={props.revoke(token)} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** The cell that says when a token expires or was revoked, with the button that revokes it. */
function TokenEnd(props: { token: TokenLine; revoke: string }): JSX.Element {
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

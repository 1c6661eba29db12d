/** `/people/ID`, for operators: what one user may do, has and did, with the forms to change it. */
import type { JSX } from "preact";
import { type InstanceLine, InstanceRows } from "../gomote.tsx";
import { Act, Empty, Name, Section, Sure, Table, When } from "../parts.tsx";
import { visible } from "../text.ts";
import { MadeToken, type MadeTokenLine, NewToken, type TokenLine, Tokens } from "../tokens.tsx";
import { Roles } from "./people.tsx";

/** An entry of the audit: what the user did, or what was done to them as a user. */
export interface AuditLine {
  readonly at: number;
  readonly who: string;
  readonly action: string;
  readonly detail: string | null;
}

export interface PersonData {
  readonly id: string;
  readonly email: string;
  readonly roles: readonly string[];
  readonly createdAt: number;
  readonly tokens: readonly TokenLine[];
  readonly instances: readonly InstanceLine[];
  readonly audit: readonly AuditLine[];
  /** The token that this very request made. */
  readonly made: MadeTokenLine | null;
  /** Whether it is the visitor. */
  readonly self: boolean;
}

export function PersonPage(props: { data: PersonData }): JSX.Element {
  const { id, email, roles, createdAt, tokens, instances, audit, made, self } = props.data;
  const at = `/people/${id}`;
  const good = tokens.filter((token) => token.good);
  const ended = tokens.filter((token) => !token.good);
  const revoke = (token: TokenLine): string => `/tokens/${token.id}/revoke`;
  return (
    <>
      <h1>
        <Name text={email} />
      </h1>
      <p class="lead">
        Added <When at={createdAt} />
        {roles.length === 0 ? "; without a role they may read." : `; ${roles.join(", ")}.`}
        {self ? " This is you." : ""}
      </p>
      {made ? <MadeToken made={made} /> : null}
      <div class="operate">
        <form method="post" action="/people/roles" class="act">
          <input type="hidden" name="email" value={email} />
          <Roles key={roles.join()} given={roles} />
          <button type="submit">Set roles</button>
        </form>
        <Sure
          word="Remove…"
          sentence="Every token and every login of theirs ends, and so does every instance, with what is on it. Whoever is added with this address later is somebody else."
        >
          <Act action="/people/remove" label={`Remove ${visible(email)}`} danger>
            <input type="hidden" name="email" value={email} />
          </Act>
        </Sure>
      </div>
      <Section id="instances" title="Instances">
        {instances.length === 0 ? (
          <Empty>They have no instance.</Empty>
        ) : (
          <InstanceRows label="Instances" instances={instances} who={false} />
        )}
      </Section>
      <Section id="tokens" title="Tokens">
        {good.length === 0 ? (
          <Empty>No token of theirs is good.</Empty>
        ) : (
          <Tokens label="Tokens that are good" tokens={good} revoke={revoke} />
        )}
        <NewToken action={`${at}/token`} placeholder="their first" />
        {ended.length === 0 ? null : (
          <details>
            <summary>Tokens that are good no more</summary>
            <Tokens label="Tokens that are good no more" tokens={ended} revoke={revoke} />
          </details>
        )}
      </Section>
      <Section id="audit" title="What was done">
        {audit.length === 0 ? <Empty>Nothing yet.</Empty> : <Audit lines={audit} />}
      </Section>
    </>
  );
}

function Audit(props: { lines: readonly AuditLine[] }): JSX.Element {
  return (
    <Table label="What was done" class="config brief" head={["What", "Detail", "By", "#When"]}>
      {props.lines.map((line, at) => (
        <tr key={`${line.at} ${at}`}>
          <td>{visible(line.action)}</td>
          <td data-label="Detail">{visible(line.detail ?? "")}</td>
          <td data-label="By">
            <Name text={line.who} />
          </td>
          <td data-label="When" class="right when">
            <When at={line.at} />
          </td>
        </tr>
      ))}
    </Table>
  );
}

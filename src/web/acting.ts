/** What every action has in common: the check that the caller may do it, and the form of the answer. */
import { FarmError } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { type Ctx, json, ownOrigin, wantsJson } from "./http.ts";
import { type Identities, type Identity, isOperator, nameOf } from "./identity.ts";

export interface Done {
  readonly message: string;
  /** Where the browser goes next. Left out: back to the page with the button. */
  readonly to?: string;
}

/**
 * Does `work` if the caller is an operator. Answers with a message, or sends the browser to `to`. `who` is for the
 * audit.
 */
export type Act = (c: Ctx, to: string, work: (who: string) => Promise<Done>) => Promise<Response>;

export function acting(identities: Identities): Act {
  return async (c, to, work) => {
    const done = await work(await operatorOf(identities, c));
    return wantsJson(c) ? json(c, 200, { message: done.message }) : c.redirect(done.to ?? to, 303);
  };
}

/** The operator who asks, by name, for the audit. Throws FarmError with the reason when the caller is no operator. */
export async function operatorOf(identities: Identities, c: Ctx): Promise<string> {
  const identity = await actorOf(identities, c);
  if (isOperator(identity.who)) return nameOf(identity.who);
  throw new FarmError("forbidden", `Cannot do this as ${nameOf(identity.who)}: it takes the role operator`);
}

/**
 * Throws FarmError unless an operator asks. For requests that only read: another site cannot misuse them, so `Origin`
 * is not checked.
 */
export async function operatorReads(identities: Identities, c: Ctx): Promise<void> {
  const { who } = await identities.of(c);
  if (isOperator(who)) return;
  if (who.kind !== "nobody")
    throw new FarmError("forbidden", `Cannot show this to ${nameOf(who)}: it takes the role operator`);
  throw who.refusal ?? new FarmError("unauthenticated", "Log in as an operator to see this.");
}

/**
 * The person who asks, and the instant at which anything that they make must end. Throws FarmError with the reason when
 * the caller is not a person.
 */
export async function personOf(
  identities: Identities,
  c: Ctx,
): Promise<{ readonly person: Person; readonly until: EpochMs | null }> {
  const { who, until } = await actorOf(identities, c);
  if (who.kind === "person") return { person: who.person, until };
  throw new FarmError(
    "forbidden",
    "Cannot do this with the operator token, which is nobody's own: log in as a user, whom -add-user adds",
  );
}

/**
 * The caller, who must be somebody. A request with a cookie must come from our own pages. One with a bearer may come
 * from anywhere: no browser adds a bearer by itself.
 */
export async function actorOf(identities: Identities, c: Ctx): Promise<Identity> {
  const identity = await identities.of(c);
  if (identity.who.kind === "nobody")
    throw (
      identity.who.refusal ??
      new FarmError("unauthenticated", "Cannot do this without logging in: log in, or send a token as a bearer")
    );
  if (identity.by === "cookie" && !ownOrigin(c))
    throw new FarmError("forbidden", "Cannot do this for another site: use the button of the farm's own page");
  return identity;
}

/** What every action has in common: whether whoever asks may, and how it is answered. */
import { FarmError } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { type Ctx, json, ownOrigin, wantsJson } from "./http.ts";
import { type Identities, type Identity, isOperator, nameOf } from "./identity.ts";

export interface Done {
  readonly message: string;
  /** Where a browser goes; left out: back to the page with the button. */
  readonly to?: string;
}

/** Does `work` if whoever asks is an operator, and answers with what was done, or by going to `to`. `who` is for the audit. */
export type Act = (c: Ctx, to: string, work: (who: string) => Promise<Done>) => Promise<Response>;

export function acting(identities: Identities): Act {
  return async (c, to, work) => {
    const done = await work(await operatorOf(identities, c));
    return wantsJson(c) ? json(c, 200, { message: done.message }) : c.redirect(done.to ?? to, 303);
  };
}

/** Whoever asks, for the audit. Throws FarmError saying why they may not change anything of the farm. */
export async function operatorOf(identities: Identities, c: Ctx): Promise<string> {
  const identity = await actorOf(identities, c);
  if (isOperator(identity.who)) return nameOf(identity.who);
  throw new FarmError("forbidden", `Cannot do this as ${nameOf(identity.who)}: it takes the role operator`);
}

/** The same for whoever only looks, which no other site can misuse. */
export async function operatorReads(identities: Identities, c: Ctx): Promise<void> {
  const { who } = await identities.of(c);
  if (isOperator(who)) return;
  if (who.kind !== "nobody")
    throw new FarmError("forbidden", `Cannot show this to ${nameOf(who)}: it takes the role operator`);
  throw who.refusal ?? new FarmError("unauthenticated", "Log in as an operator to see this.");
}

/** The person who asks, and until when what they make lasts at most. Throws FarmError saying why nobody is let do this. */
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

/** Somebody, who asks by a page of ours or with a bearer. A bearer needs no page: no browser adds it by itself. */
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

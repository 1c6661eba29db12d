/**
 * People: who shows a token, and what an operator does about people and tokens.
 *
 * An API token (`brt_` and 40 characters) is random, shown once, dated, and revocable; the database has its SHA-256. It
 * is looked up by that, so the time of a look-up says nothing about existing tokens. A client that shows an expired or
 * revoked token is told so, with the date: it holds the token, so it learns nothing about others.
 *
 * A person who is removed loses every token and every browser session in the same transaction, and `person:ID` is
 * published. Code that holds something for people then asks `peopleOf` (store/people.ts) and ends what it holds. The
 * row stays. A person who is added later with the same address is another one, and gets nothing back.
 *
 * The audit names everything that is done here, with `who` asked for it. To try it, beside a running coordinator:
 *
 *   coordinator -add-user alice@example.org -roles member && coordinator -new-token alice@example.org
 */

import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { formatDuration } from "../farm/flags.ts";
import { type EpochMs, epochMs, type Ms, minutes, ms, personId, plus } from "../farm/ids.ts";
import { type Person, ROLES, type Role, userName } from "../farm/person.ts";
import { type Act, newAct, recordAudit } from "../store/audit.ts";
import { deleteLoginsOf } from "../store/logins.ts";
import {
  insertPerson,
  insertToken,
  listPeople,
  type PersonLine,
  type PersonRow,
  personByEmail,
  removePerson,
  revokeToken,
  revokeTokensOf,
  setRoles,
  type TokenRow,
  tokenBySha256,
  tokensOf,
  tokenUsed,
} from "../store/people.ts";
import type { Sql } from "../store/sql.ts";
import { LONGEST_EMAIL, readEmail, readTokenName } from "./names.ts";
import { looksLikeToken, newId, newTokenText, same, sha256 } from "./secret-text.ts";

const DAY = 86_400_000;
export const TOKEN_KEPT: Ms = ms(90 * DAY);
export const LONGEST_TOKEN: Ms = ms(400 * DAY);
/** The most valid tokens of one person. */
export const MOST_TOKENS = 50;
/** How often the last use of a token is written, at most. */
export const USED_EVERY: Ms = minutes(1);
const ANOTHER = "Make another one, or log in again.";
/** How many characters of a token lists show. */
const BEGINS = 8;

export interface PeopleDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

export type TokenCheck =
  | { readonly ok: true; readonly person: Person; readonly token: { readonly id: string; readonly expiresAt: EpochMs } }
  /** `known`: the token was valid once, so the client does not guess. */
  | { readonly ok: false; readonly known: boolean; readonly reason: string };

export interface MadeToken {
  readonly id: string;
  readonly person: Person;
  readonly name: string;
  /** The token itself, to be shown once, to its user. */
  readonly token: string;
  readonly expiresAt: EpochMs;
}

export class People {
  readonly #deps: PeopleDeps;
  /** Token → when we last wrote that it was used. */
  readonly #noted = new Map<string, EpochMs>();

  constructor(deps: PeopleDeps) {
    this.#deps = deps;
  }

  /**
   * The person who holds the token `bearer`, with the token's number. Throws FarmError `unauthenticated`, which says
   * whether the token expired, was revoked, or never existed.
   */
  async identify(bearer: string): Promise<Person & { readonly token: string }> {
    const found = await this.check(bearer);
    if (found.ok) return { ...found.person, token: found.token.id };
    throw new FarmError("unauthenticated", `Cannot let you in with this token: ${found.reason}`);
  }

  /** Does the same as `identify`, for callers that need to know more. */
  async check(bearer: string): Promise<TokenCheck> {
    const unknown: TokenCheck = { ok: false, known: false, reason: `the farm does not know it. ${ANOTHER}` };
    if (!looksLikeToken(bearer)) return unknown;
    const digest = sha256(bearer);
    const found = await tokenBySha256(this.#deps.sql, digest);
    if (!found || !same(found.sha256, digest)) return unknown;
    const { id, email, personId, roles, removedAt, revokedAt, expiresAt } = found;
    const refused = (reason: string): TokenCheck => ({ ok: false, known: true, reason });
    const now = this.#deps.clock.now();
    if (removedAt !== null) return refused(`${email} was removed on ${date(removedAt)}.`);
    if (revokedAt !== null) return refused(`${id} was revoked on ${date(revokedAt)}. ${ANOTHER}`);
    if (expiresAt <= now) return refused(`${id} expired on ${date(expiresAt)}. ${ANOTHER}`);
    this.#used(found, now);
    return { ok: true, person: personOf({ id: personId, email, roles }), token: { id, expiresAt } };
  }

  /** Adds a person. Throws FarmError when this is no address, or another person has it. */
  async add(email: string, roles: readonly Role[], who: string): Promise<Person> {
    const { sql, bus, clock } = this.#deps;
    const created = { id: personId(newId("U")), email: readEmail(email), roles, createdAt: clock.now() };
    const act = newAct(clock.now());
    await sql.tx(async (tx) => {
      const holder = await insertPerson(tx, created);
      if (holder?.id !== created.id)
        throw new FarmError(
          "conflict",
          `Cannot add ${created.email}: ${holder?.email ?? created.email} is here already, with ${rolesText(holder?.roles ?? [])}. -set-roles changes that.`,
        );
      await this.#record(tx, act, who, "add user", created.id, `${created.email}, ${rolesText(roles)}`);
    });
    bus.publish(`person:${created.id}`);
    return personOf(created);
  }

  async setRoles(email: string, roles: readonly Role[], who: string): Promise<Person> {
    const { sql, bus, clock } = this.#deps;
    const act = newAct(clock.now());
    const person = await sql.tx(async (tx) => {
      const found = await this.#find(tx, email);
      await setRoles(tx, found.id, roles);
      await this.#record(tx, act, who, "set roles", found.id, `${found.email}, ${rolesText(roles)}`);
      return personOf({ ...found, roles });
    });
    bus.publish(`person:${person.id}`);
    return person;
  }

  /** Removes a person, with every token and every login. */
  async remove(email: string, who: string): Promise<Person> {
    const { sql, bus, clock } = this.#deps;
    const act = newAct(clock.now());
    const person = await sql.tx(async (tx) => {
      const found = await this.#find(tx, email);
      const now = clock.now();
      await removePerson(tx, found.id, now);
      await revokeTokensOf(tx, found.id, now);
      await deleteLoginsOf(tx, found.id);
      await this.#record(tx, act, who, "remove user", found.id, found.email);
      return personOf(found);
    });
    bus.publish(`person:${person.id}`);
    return person;
  }

  list(): Promise<PersonLine[]> {
    return listPeople(this.#deps.sql, this.#deps.clock.now());
  }

  /** The person with this address. Throws FarmError `not-found`, which names the person that was probably meant. */
  async find(email: string): Promise<Person> {
    return personOf(await this.#find(this.#deps.sql, email));
  }

  /** A new token of `person`, valid for `expiresIn`. */
  async newToken(person: Person, name: string, expiresIn: Ms, who: string): Promise<MadeToken> {
    if (expiresIn <= 0 || expiresIn > LONGEST_TOKEN)
      throw new FarmError(
        "bad-request",
        `Cannot make a token that is good for ${formatDuration(expiresIn)}: want more than nothing and at most ${formatDuration(LONGEST_TOKEN)}`,
      );
    const { sql, bus, clock } = this.#deps;
    const text = newTokenText();
    const madeAt = clock.now();
    const token = {
      id: newId("T"),
      personId: person.id,
      name: readTokenName(name),
      sha256: sha256(text),
      begins: text.slice(0, BEGINS),
      madeAt,
      expiresAt: plus(madeAt, expiresIn),
    };
    const act = newAct(clock.now());
    await sql.tx(async (tx) => {
      const good = (await tokensOf(tx, person.id)).filter((one) => isGood(one, madeAt) && one.id !== token.id);
      if (good.length >= MOST_TOKENS)
        throw new FarmError(
          "conflict",
          `Cannot make a token for ${person.email}: they have ${good.length} that are good. Revoke one of them first.`,
        );
      await insertToken(tx, token);
      await this.#record(tx, act, who, "new token", person.id, `${token.id} ${JSON.stringify(token.name)}`);
    });
    bus.publish(`person:${person.id}`);
    return { id: token.id, person, name: token.name, token: text, expiresAt: token.expiresAt };
  }

  /** All tokens of `person`, newest first, also those that have expired or were revoked. */
  tokens(person: Person): Promise<TokenRow[]> {
    return tokensOf(this.#deps.sql, person.id);
  }

  /** Revokes a token for ever. It must be one of `of`; null: anybody's. Throws FarmError `not-found`. */
  async revokeToken(id: string, of: Person | null, who: string): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    const act = newAct(clock.now());
    const person = await sql.tx(async (tx) => {
      const revoked = await revokeToken(tx, id, of?.id ?? null, clock.now());
      if (!revoked) {
        const where = of ? "/me" : "-list-tokens EMAIL";
        throw new FarmError(
          "not-found",
          `Cannot revoke ${JSON.stringify(id)}: there is no such token. ${where} shows them.`,
        );
      }
      await this.#record(tx, act, who, "revoke token", revoked.personId, id);
      return revoked.personId;
    });
    bus.publish(`person:${person}`);
  }

  async #find(sql: Sql, email: string): Promise<PersonRow> {
    const found = await personByEmail(sql, email.trim());
    if (found) return found;
    const known = await listPeople(sql, this.#deps.clock.now());
    const meant = didYouMean(
      email,
      known.map((person) => person.email),
    );
    throw new FarmError(
      "not-found",
      `Cannot find the user ${JSON.stringify(email.slice(0, LONGEST_EMAIL))}${meant || "."} -list-users shows all.`,
    );
  }

  #record(tx: Sql, act: Act, who: string, action: string, person: string, detail: string): Promise<void> {
    return recordAudit(tx, { ...act, who, action, subject: `person:${person}`, detail });
  }

  #used(token: TokenRow, now: EpochMs): void {
    const noted = Math.max(token.lastUsedAt ?? 0, this.#noted.get(token.id) ?? 0);
    if (noted > now - USED_EVERY) return;
    for (const [id, at] of this.#noted) if (at <= now - USED_EVERY) this.#noted.delete(id);
    this.#noted.set(token.id, epochMs(now));
    // This is for information only, so the client does not wait for it.
    tokenUsed(this.#deps.sql, token.id, now).catch((error: unknown) =>
      this.#deps.log.debug({ error: messageOf(error), token: token.id }, "Could not note that a token was used"),
    );
  }
}

export function isGood(token: Pick<TokenRow, "revokedAt" | "expiresAt">, now: EpochMs): boolean {
  return token.revokedAt === null && token.expiresAt > now;
}

export function rolesText(roles: readonly Role[]): string {
  return roles.length === 0 ? "no role" : `${roles.length === 1 ? "role" : "roles"} ${roles.join(", ")}`;
}

export function personOf({ id, email, roles }: Pick<PersonRow, "id" | "email" | "roles">): Person {
  return { id, email, name: userName(email), roles: ROLES.filter((role) => roles.includes(role)) };
}

function date(instant: EpochMs): string {
  return new Date(instant).toISOString().slice(0, 10);
}

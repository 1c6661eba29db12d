/**
 * Browsers in which a person is signed in.
 *
 * A browser holds a random secret in a cookie; the database holds the SHA-256 of it. The browser is signed in until the
 * session expires, its person signs out, or its person is removed. If the person signed in by showing a token, the
 * session also ends with that token. Permissions are looked up each time. Code that lets a person in for longer than a
 * moment looks again when `person:ID` is published.
 */
import { randomBytes } from "node:crypto";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { type EpochMs, epochMs, type Ms, ms, plus } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { newAct, recordAudit } from "../store/audit.ts";
import { deleteBrowserSession, insertBrowserSession, signedIn } from "../store/logins.ts";
import type { Sql } from "../store/sql.ts";
import { personOf } from "./people.ts";
import { sha256 } from "./secret-text.ts";

const SESSION_KEPT: Ms = ms(30 * 86_400_000);
const SECRET: RegExp = /^[A-Za-z0-9_-]{43}$/;

export interface LoginsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
}

/** How a person showed who they are. */
export type Proof =
  | { readonly by: "token"; readonly id: string; readonly expiresAt: EpochMs }
  | { readonly by: "openid"; readonly issuer: string };

export class Logins {
  readonly #deps: LoginsDeps;

  constructor(deps: LoginsDeps) {
    this.#deps = deps;
  }

  /** Signs a person in. `secret` is for the browser's cookie alone. */
  async signIn(person: Person, proof: Proof): Promise<{ readonly secret: string; readonly expiresAt: EpochMs }> {
    const { sql, clock } = this.#deps;
    const secret = randomBytes(32).toString("base64url");
    const madeAt = clock.now();
    const longest = plus(madeAt, SESSION_KEPT);
    const expiresAt = proof.by === "token" ? epochMs(Math.min(longest, proof.expiresAt)) : longest;
    const tokenId = proof.by === "token" ? proof.id : null;
    const act = newAct(madeAt);
    await sql.tx(async (tx) => {
      await insertBrowserSession(tx, { sha256: sha256(secret), personId: person.id, tokenId, madeAt, expiresAt });
      await recordAudit(tx, {
        ...act,
        who: person.email,
        action: "login",
        subject: `person:${person.id}`,
        detail: proof.by === "token" ? `with ${proof.id}` : `by ${proof.issuer}`,
      });
    });
    return { secret, expiresAt };
  }

  /** The person that is signed in. What they allow or make ends at `until`, with the token that they showed. */
  async person(secret: string): Promise<{ readonly person: Person; readonly until: EpochMs | null } | undefined> {
    if (!SECRET.test(secret)) return undefined;
    const found = await signedIn(this.#deps.sql, sha256(secret), this.#deps.clock.now());
    return found && { person: personOf(found), until: found.until };
  }

  /** Signs out. Resolves with whether a login provider had signed the person in: there they may still be signed in. */
  async signOut(secret: string): Promise<boolean> {
    if (!SECRET.test(secret)) return false;
    const { sql, bus, clock } = this.#deps;
    const act = newAct(clock.now());
    const person = await sql.tx(async (tx) => {
      const found = await deleteBrowserSession(tx, sha256(secret));
      if (found)
        await recordAudit(tx, {
          ...act,
          who: found.email,
          action: "logout",
          subject: `person:${found.id}`,
          detail: "",
        });
      return found;
    });
    if (person) bus.publish(`person:${person.id}`);
    return person?.openid === true;
  }
}

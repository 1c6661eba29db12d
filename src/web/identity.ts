/**
 * Who asks: the operator, a person, or nobody. Reading is open, so most requests need no identity.
 *
 *   operator  holds the operator token: as a bearer, or in a browser that has shown it (operator.ts)
 *   person    holds an API token as a bearer, or is signed in in a browser (people/logins.ts)
 *   nobody    neither; with the reason, when a token or cookie was shown that has expired or was revoked
 *
 * A request that changes something by a cookie must come from our own pages: the cookie's SameSite and `Origin`, or
 * `Sec-Fetch-Site`, must agree (acting.ts). The session's cookie is Lax: it is set when a login provider sends the
 * browser back to us, and a Strict cookie would not be sent with the very next page.
 */
import { getCookie } from "hono/cookie";
import { parse } from "hono/utils/cookie";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import type { Logins, Proof } from "../people/logins.ts";
import type { People } from "../people/people.ts";
import { looksLikeToken } from "../people/secret-text.ts";
import type { Attempts } from "./attempts.ts";
import { addressOf, type Ctx, cookieText } from "./http.ts";
import type { Operator } from "./operator.ts";

const COOKIE = "barnraiser_session";

export type Who =
  | { readonly kind: "nobody"; readonly refusal: FarmError | undefined }
  | { readonly kind: "operator" }
  | { readonly kind: "person"; readonly person: Person };

export interface Identity {
  readonly who: Who;
  readonly by: "bearer" | "cookie" | "nothing";
  /** When the token that the caller showed ends. Anything that the caller makes or allows ends then too. */
  readonly until: EpochMs | null;
}

export function isOperator(who: Who): boolean {
  return who.kind === "operator" || (who.kind === "person" && who.person.roles.includes("operator"));
}

/** The caller's name, for the audit and for the person's own pages. */
export function nameOf(who: Who): string {
  return who.kind === "person" ? who.person.email : who.kind;
}

export interface IdentitiesDeps {
  readonly operator: Operator;
  readonly people: People;
  readonly logins: Logins;
  /** Counts wrong secrets, by address. */
  readonly wrong: Attempts;
  readonly clock: Clock;
}

export class Identities {
  readonly #deps: IdentitiesDeps;

  constructor(deps: IdentitiesDeps) {
    this.#deps = deps;
  }

  /** The caller of a request, looked up once per request. */
  of(c: Ctx): Promise<Identity> {
    const known = c.get("identity");
    if (known) return known;
    const found = this.#find(c);
    c.set("identity", found);
    return found;
  }

  /** The person whose browser sent these cookies. For connections that are not requests of a page. */
  async signedIn(cookies: string): Promise<Person | undefined> {
    const secret = parse(cookies, COOKIE)[COOKIE];
    return secret === undefined ? undefined : (await this.#deps.logins.person(secret))?.person;
  }

  /** Signs the browser in: sets the cookie on `c`. */
  async signIn(c: Ctx, person: Person, proof: Proof): Promise<void> {
    const { secret, expiresAt } = await this.#deps.logins.signIn(person, proof);
    const seconds = Math.max(0, Math.floor((expiresAt - this.#deps.clock.now()) / 1000));
    c.header("Set-Cookie", cookieText(c, COOKIE, secret, { seconds, site: "Lax" }), { append: true });
    c.header("Set-Cookie", this.#deps.operator.noCookie(c), { append: true });
  }

  /** Signs the browser out. Returns whether the person may still be signed in at a login provider. */
  async signOut(c: Ctx): Promise<boolean> {
    const secret = getCookie(c, COOKIE);
    const openid = secret !== undefined && (await this.#deps.logins.signOut(secret));
    c.header("Set-Cookie", cookieText(c, COOKIE, "", { seconds: 0, site: "Lax" }), { append: true });
    c.header("Set-Cookie", this.#deps.operator.noCookie(c), { append: true });
    return openid;
  }

  async #find(c: Ctx): Promise<Identity> {
    const nobody = (refusal?: FarmError): Identity => ({
      who: { kind: "nobody", refusal },
      by: "nothing",
      until: null,
    });
    const { operator, logins } = this.#deps;
    try {
      const bearer = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
      if (bearer !== undefined) return await this.#bearer(c, bearer);
      if (operator.hasCookie(c)) return { who: { kind: "operator" }, by: "cookie", until: null };
      const secret = getCookie(c, COOKIE);
      const session = secret === undefined ? undefined : await logins.person(secret);
      if (!session) return nobody();
      return { who: { kind: "person", person: session.person }, by: "cookie", until: session.until };
    } catch (error) {
      // A page can be read while the database is away. A request that changes something is refused with this reason.
      return nobody(FarmError.from(error));
    }
  }

  async #bearer(c: Ctx, bearer: string): Promise<Identity> {
    const { operator, people, wrong } = this.#deps;
    if (looksLikeToken(bearer)) {
      const found = await people.check(bearer);
      if (found.ok)
        return { who: { kind: "person", person: found.person }, by: "bearer", until: found.token.expiresAt };
      throw new FarmError("unauthenticated", `Cannot let you in with this token: ${found.reason}`);
    }
    // Only the operator token can be guessed, since a person may have chosen it. Other tokens need no rate limit.
    const address = addressOf(c);
    const wait = wrong.delay(address);
    if (wait > 0) throw new FarmError("unauthenticated", `Too many wrong tokens. Try again in ${wait} s.`);
    if (operator.isToken(bearer)) return { who: { kind: "operator" }, by: "bearer", until: null };
    wrong.count(address);
    throw new FarmError("unauthenticated", "Cannot let you in: this is neither the operator token nor one of a user");
  }
}

/**
 * Logging in at the farm's login provider, where the configuration names one (OpenID Connect, authorization code with
 * PKCE).
 *
 *   begin   the browser goes to the provider with a state, a nonce and a challenge; their counterparts are sealed
 *           into a cookie
 *   finish  it comes back with a code, which is exchanged for an id token: signature, issuer, audience, time and nonce
 *           must be right
 *
 * So nothing is stored for a browser that only begins, and only that browser can finish, within KEPT. The provider must
 * have verified the address. A person is let in if the address is a user's, or if `allow` names it: then it becomes a
 * user. The first account that signs in with an address keeps it. Another account that gets the address later is not
 * the same person; only an operator can let it in.
 *
 * A person who logs out here learns that they are still logged in at the provider, and where to log out there. They
 * decide, since that ends more than this farm. We keep no id token for it, so the provider asks them.
 *
 * Roles that the configuration ties to a claim are given and taken at each login. The operator gives the others.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from "node:crypto";
import * as client from "openid-client";
import type { LoginConfig } from "../config/effective.ts";
import type { Secret } from "../config/input.ts";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, plus } from "../farm/ids.ts";
import { type Person, ROLES, type Role } from "../farm/person.ts";
import { bindOpenid } from "../store/logins.ts";
import { personByEmail } from "../store/people.ts";
import type { Sql } from "../store/sql.ts";
import { readEmail } from "./names.ts";
import { type People, personOf } from "./people.ts";

/** How long a person may take at the provider. */
const KEPT: Ms = minutes(10);
/** How long the keys and addresses of a provider are kept before they are read again. */
const DISCOVERED_KEPT: Ms = minutes(60);
const TIMEOUT_SECONDS = 10;

export interface OpenIdDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly people: Pick<People, "add" | "setRoles">;
  /** The login in the present configuration, and where people reach the pages; null: there is no login. */
  readonly config: () => { readonly login: LoginConfig; readonly publicUrl: string } | null;
  readonly secret: (secret: Secret) => Promise<string>;
  /** A secret of this farm's coordinators: what one of them sealed, another can open. */
  readonly key: string;
}

interface Begun {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly back: string;
  readonly until: number;
}

export class OpenId {
  readonly keptSeconds: number = KEPT / 1000;
  readonly #deps: OpenIdDeps;
  readonly #key: Buffer;
  #discovered: { readonly of: string; readonly at: number; readonly provider: client.Configuration } | undefined;

  constructor(deps: OpenIdDeps) {
    this.#deps = deps;
    this.#key = createHmac("sha256", deps.key).update("barnraiser openid cookie 1").digest();
  }

  /** The provider's name on the button; null: there is no provider. */
  get name(): string | null {
    return this.#deps.config()?.login.name ?? null;
  }

  /**
   * Begins a login. `back` is the page to show once it is done. `sealed` is for the browser's cookie. Throws FarmError.
   */
  async begin(back: string): Promise<{ readonly url: URL; readonly sealed: string }> {
    const { provider, redirect } = await this.#provider();
    const begun: Begun = {
      state: client.randomState(),
      nonce: client.randomNonce(),
      verifier: client.randomPKCECodeVerifier(),
      back,
      until: plus(this.#deps.clock.now(), KEPT),
    };
    const url = client.buildAuthorizationUrl(provider, {
      redirect_uri: redirect,
      scope: "openid email profile",
      state: begun.state,
      nonce: begun.nonce,
      code_challenge: await client.calculatePKCECodeChallenge(begun.verifier),
      code_challenge_method: "S256",
    });
    return { url, sealed: this.#seal(begun) };
  }

  /** The person who came back with `query`. Throws a FarmError that says why they are not let in. */
  async finish(
    query: URL,
    sealed: string,
  ): Promise<{ readonly person: Person; readonly issuer: string; readonly back: string }> {
    const begun = this.#open(sealed);
    if (!begun || begun.until <= this.#deps.clock.now())
      throw new FarmError(
        "unauthenticated",
        "Cannot log you in: this login was not begun in this browser, or too long ago. Log in again.",
      );
    const { provider, redirect, login } = await this.#provider();
    const { search } = query;
    const claims = await client
      .authorizationCodeGrant(provider, new URL(redirect + search), {
        expectedState: begun.state,
        expectedNonce: begun.nonce,
        pkceCodeVerifier: begun.verifier,
        idTokenExpected: true,
      })
      .then(
        (tokens) => tokens.claims(),
        (error: unknown) => {
          // The library puts codes and tokens into fields of its errors, never into messages.
          this.#deps.log.warn({ error: causesOf(error) }, "A login provider's answer was refused");
          throw new FarmError("unauthenticated", `Cannot log you in: ${causesOf(error)}. Log in again.`, {
            cause: error,
          });
        },
      );
    if (!claims) throw new FarmError("unauthenticated", `Cannot log you in: ${login.name} sent no id token`);
    return { person: await this.#personOf(login, claims), issuer: login.issuer, back: begun.back };
  }

  /**
   * Where a browser logs out at the provider, which sends it back. Undefined: the provider has no such page, or is
   * away.
   */
  async logoutUrl(): Promise<URL | undefined> {
    if (!this.#deps.config()) return undefined;
    try {
      const { provider, home } = await this.#provider();
      if (provider.serverMetadata().end_session_endpoint === undefined) return undefined;
      return client.buildEndSessionUrl(provider, { post_logout_redirect_uri: home });
    } catch (error) {
      this.#deps.log.info({ error: messageOf(error) }, "Could not ask a login provider where to log out");
      return undefined;
    }
  }

  async #personOf(login: LoginConfig, claims: client.IDToken): Promise<Person> {
    const { sql, people } = this.#deps;
    if (typeof claims.email !== "string" || claims.email_verified !== true)
      throw new FarmError(
        "unauthenticated",
        `Cannot log you in: ${login.name} has not verified a mail address of yours`,
      );
    const email = readEmail(claims.email);
    const who = `login at ${login.name}`;
    const known = await personByEmail(sql, email);
    if (!known && !allows(login.allow, email))
      throw new FarmError(
        "unauthenticated",
        `Cannot log you in: ${email} is no user of this farm. Ask an operator: coordinator -add-user ${email}`,
      );
    const person = known ? personOf(known) : await people.add(email, [], who);
    const account = `${login.issuer} ${claims.sub}`;
    if ((await bindOpenid(sql, person.id, account)) !== account)
      throw new FarmError(
        "unauthenticated",
        `Cannot log you in: ${email} signed in with another account before. If that is right, an operator removes this user and adds them again.`,
      );
    const roles = rolesBy(login, claims, person.roles);
    return roles.join() === person.roles.join() ? person : people.setRoles(email, roles, who);
  }

  async #provider(): Promise<{
    readonly provider: client.Configuration;
    readonly redirect: string;
    /** The page to which the provider may send a person who has logged out. */
    readonly home: string;
    readonly login: LoginConfig;
  }> {
    const config = this.#deps.config();
    if (!config) throw new FarmError("not-found", "Cannot log in there: the configuration has no login");
    const { login, publicUrl } = config;
    const redirect = `${publicUrl}/login/callback`;
    const home = `${publicUrl}/`;
    const secret = await this.#deps.secret(login.clientSecret);
    const of = JSON.stringify([login.issuer, login.clientId, secret]);
    const now = this.#deps.clock.now();
    if (this.#discovered?.of === of && now - this.#discovered.at < DISCOVERED_KEPT)
      return { provider: this.#discovered.provider, redirect, home, login };
    const insecure = login.issuer.startsWith("http:"); // the configuration allows that on this computer only
    const provider = await client
      .discovery(new URL(login.issuer), login.clientId, undefined, asTheProviderWants(secret), {
        timeout: TIMEOUT_SECONDS,
        // Over TLS this check is not needed. It is made all the same, so that nobody can forget it when that changes.
        execute: [client.enableNonRepudiationChecks, ...(insecure ? [client.allowInsecureRequests] : [])],
      })
      .catch((cause: unknown) => {
        throw new FarmError("unavailable", `Cannot reach ${login.name}: ${causesOf(cause)}`, { cause });
      });
    this.#discovered = { of, at: now, provider };
    return { provider, redirect, home, login };
  }

  #seal(begun: Begun): string {
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", this.#key, nonce);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(begun), "utf8"), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]).toString("base64url");
  }

  #open(sealed: string): Begun | undefined {
    const bytes = Buffer.from(sealed, "base64url");
    if (bytes.length < 28) return undefined;
    try {
      const cipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, 12), { authTagLength: 16 });
      cipher.setAuthTag(bytes.subarray(12, 28));
      const text = Buffer.concat([cipher.update(bytes.subarray(28)), cipher.final()]).toString("utf8");
      return JSON.parse(text) as Begun; // only we can have sealed it
    } catch {
      return undefined;
    }
  }
}

/** Sends the secret by HTTP Basic, unless the provider takes it in the form only. */
function asTheProviderWants(secret: string): client.ClientAuth {
  const [basic, post] = [client.ClientSecretBasic(secret), client.ClientSecretPost(secret)];
  return (server, metadata, body, headers) => {
    const takes = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    return (takes.includes("client_secret_basic") ? basic : post)(server, metadata, body, headers);
  };
}

/** Whether `allow` names the address, as it is or by its domain: `*@example.org`. */
function allows(allow: readonly string[], email: string): boolean {
  const given = email.toLowerCase();
  return allow.some((one) =>
    one.startsWith("*@")
      ? given.slice(given.lastIndexOf("@")) === one.slice(1).toLowerCase()
      : given === one.toLowerCase(),
  );
}

/** The roles after a login: those of `before`, changed where the configuration ties a role to a claim. */
function rolesBy(
  login: Pick<LoginConfig, "roles">,
  claims: Readonly<Record<string, unknown>>,
  before: readonly Role[],
): readonly Role[] {
  return ROLES.filter((role) => {
    const rule = login.roles.find((one) => one.role === role);
    if (!rule) return before.includes(role);
    if (rule.claim === null) return true;
    const value = claims[rule.claim];
    const values: readonly unknown[] = Array.isArray(value) ? value : [value];
    return rule.is.some((wanted) => values.includes(wanted));
  });
}

/** The message of an error, followed by those of its causes. */
function causesOf(error: unknown): string {
  const said: string[] = [];
  for (let at = error; at instanceof Error && said.length < 3; at = at.cause) said.push(messageOf(at));
  return said.length === 0 ? String(error) : said.join(": ");
}

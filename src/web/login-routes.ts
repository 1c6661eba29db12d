/**
 * Logging in and out in a browser: with the operator token or an API token, pasted, or at the farm's login provider
 * (people/openid.ts).
 *
 *   GET  /login             the form
 *   POST /login             token
 *   POST /logout
 *   GET  /login/openid      leads to the provider
 *   GET  /login/callback    the provider leads back here
 *   GET  /logout/openid     leads to the provider's page for logging out, if it has one
 */
import { Hono } from "hono";
import { getCookie } from "hono/cookie";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError } from "../farm/errors.ts";
import type { OpenId } from "../people/openid.ts";
import type { People } from "../people/people.ts";
import { looksLikeToken } from "../people/secret-text.ts";
import type { Attempts } from "./attempts.ts";
import { addressOf, type Ctx, cookieText, type Env, formOf, ownOrigin, ownPath } from "./http.ts";
import type { Identities } from "./identity.ts";
import type { Operator } from "./operator.ts";

const TOKEN_LIMIT = 1000;
/** The cookie that a browser keeps between going to the provider and coming back. */
const COOKIE = "barnraiser_openid";

export interface LoginDeps {
  readonly people: People;
  readonly openid: OpenId;
  readonly operator: Operator;
  readonly identities: Identities;
  readonly wrong: Attempts;
  readonly log: Log;
  readonly page: (c: Ctx, status: number, back: string, problem: string | null) => Promise<Response>;
}

export function loginRoutes({ people, openid, operator, identities, wrong, log, page }: LoginDeps): Hono<Env> {
  const routes = new Hono<Env>();
  routes.get("/login", (c) => page(c, 200, ownPath(c.req.query("back")), null));

  routes.post("/login", async (c) => {
    const form = await formOf(c);
    const to = ownPath(form("back"));
    const address = addressOf(c);
    const wait = wrong.delay(address);
    if (wait > 0) {
      c.header("Retry-After", String(wait));
      return page(c, 429, to, `Too many wrong tokens. Try again in ${wait} s.`);
    }
    if (!ownOrigin(c)) return page(c, 403, to, "Log in on the farm's own page.");
    const token = form("token").slice(0, TOKEN_LIMIT).trim();
    if (looksLikeToken(token)) {
      const found = await people.check(token);
      if (found.ok) {
        await identities.signIn(c, found.person, { by: "token", ...found.token });
        return c.redirect(to, 303);
      }
      if (!found.known) wrong.count(address);
      log.warn({ address }, "Refused a login");
      return page(c, 403, to, `This token does not let you in: ${found.reason}`);
    }
    if (operator.isToken(token)) {
      c.header("Set-Cookie", operator.cookie(c));
      return c.redirect(to, 303);
    }
    wrong.count(address);
    log.warn({ address }, "Refused a login");
    return page(c, 403, to, "This is neither the operator token nor a token of a user.");
  });

  routes.post("/logout", async (c) => {
    // Another site could do no harm by this, but it would be a nuisance.
    if (!ownOrigin(c)) return page(c, 403, "/", "Log out on the farm's own page.");
    const stillIn = (await identities.signOut(c)) && (await openid.logoutUrl()) !== undefined;
    return c.redirect(stillIn ? "/login?out" : "/", 303);
  });

  routes.get("/logout/openid", async (c) => c.redirect((await openid.logoutUrl())?.href ?? "/", 302));

  routes.get("/login/openid", async (c) => {
    const back = ownPath(c.req.query("back"));
    try {
      const { url, sealed } = await openid.begin(back);
      c.header("Set-Cookie", cookieText(c, COOKIE, sealed, { seconds: openid.keptSeconds, site: "Lax" }));
      return c.redirect(url.href, 302);
    } catch (error) {
      const refused = FarmError.from(error);
      if (refused.code === "internal") throw error;
      return page(c, CODES[refused.code].http, back, refused.message);
    }
  });

  routes.get("/login/callback", async (c) => {
    c.header("Set-Cookie", cookieText(c, COOKIE, "", { seconds: 0, site: "Lax" }), { append: true });
    try {
      const { person, issuer, back } = await openid.finish(new URL(c.req.url), getCookie(c, COOKIE) ?? "");
      await identities.signIn(c, person, { by: "openid", issuer });
      return c.redirect(ownPath(back), 303);
    } catch (error) {
      const refused = FarmError.from(error);
      if (refused.code === "internal") throw error;
      log.warn({ address: addressOf(c), why: refused.message }, "Refused a login");
      return page(c, 403, "/", refused.message);
    }
  });
  return routes;
}

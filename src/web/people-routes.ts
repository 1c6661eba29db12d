/**
 * What the operator does about people and their tokens, by the command line (coordinator/people-control.ts). JSON only.
 *
 *   GET  /people                 everybody              POST /people         email, roles
 *   GET  /people/tokens?email=   somebody's tokens      POST /people/roles   email, roles     POST /people/remove   email
 *   POST /people/token           email, name, expires   POST /tokens/ID/revoke
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { parseDuration } from "../farm/flags.ts";
import { readRoles } from "../people/names.ts";
import { rolesText } from "../people/people.ts";
import { operatorOf } from "./acting.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, type Form, formOf, json } from "./http.ts";
import type { Identities } from "./identity.ts";
import { setupOf } from "./me-routes.ts";

export function peopleRoutes(
  deps: Pick<WebDeps, "people" | "dialAddress" | "httpPort">,
  identities: Identities,
): Hono<Env> {
  const { people } = deps;
  const routes = new Hono<Env>();
  const asOperator = (work: (who: string, form: Form, c: Ctx) => Promise<object>) => async (c: Ctx) => {
    const who = await operatorOf(identities, c);
    return json(c, 200, await work(who, c.req.method === "GET" ? queryOf(c) : await formOf(c), c), {
      "Cache-Control": "no-store",
    });
  };
  routes.get(
    "/people",
    asOperator(async () => ({ people: await people.list() })),
  );
  routes.post(
    "/people",
    asOperator(async (who, form) => {
      const { email, roles } = await people.add(form("email"), readRoles(form("roles")), who);
      return { message: `${email} is a user now, with ${rolesText(roles)}` };
    }),
  );
  routes.post(
    "/people/roles",
    asOperator(async (who, form) => {
      const { email, roles } = await people.setRoles(form("email"), readRoles(form("roles")), who);
      return { message: `${email} has ${rolesText(roles)} now` };
    }),
  );
  routes.post(
    "/people/remove",
    asOperator(async (who, form) => {
      const { email } = await people.remove(form("email"), who);
      return { message: `${email} is no user any more; what they held is being ended` };
    }),
  );
  routes.get(
    "/people/tokens",
    asOperator(async (_, form) => ({ tokens: await people.tokens(await people.find(form("email"))) })),
  );
  routes.post(
    "/people/token",
    asOperator(async (who, form) => {
      const expires = parseDuration(form("expires"));
      if (expires === undefined)
        throw new FarmError(
          "bad-request",
          `Cannot read the span ${JSON.stringify(form("expires"))}: want one such as 2160h`,
        );
      const made = await people.newToken(await people.find(form("email")), form("name"), expires, who);
      return {
        id: made.id,
        email: made.person.email,
        name: made.person.name,
        token: made.token,
        expiresAt: made.expiresAt,
        original: setupOf(deps, made),
      };
    }),
  );
  routes.post(
    "/tokens/:id/revoke",
    asOperator(async (who, _, c) => {
      const id = c.req.param("id") ?? "";
      await people.revokeToken(id, null, who);
      return { message: `token ${id} is revoked` };
    }),
  );
  return routes;
}

function queryOf(c: Ctx): Form {
  return (field) => c.req.query(field) ?? "";
}

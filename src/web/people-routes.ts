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
import { mustBeOperator } from "./acting.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, json } from "./http.ts";
import type { Operator } from "./operator.ts";

export function peopleRoutes({ people }: Pick<WebDeps, "people">, operator: Operator): Hono<Env> {
  const routes = new Hono<Env>();
  const asOperator = (work: (c: Ctx, form: Form) => Promise<object>) => async (c: Ctx) => {
    mustBeOperator(operator, c);
    return json(c, 200, await work(c, c.req.method === "GET" ? queryOf(c) : await formOf(c)), {
      "Cache-Control": "no-store",
    });
  };
  routes.get(
    "/people",
    asOperator(async () => ({ people: await people.list() })),
  );
  routes.post(
    "/people",
    asOperator(async (_, form) => {
      const { email, roles } = await people.add(form("email"), readRoles(form("roles")), "operator");
      return { message: `${email} is a user now, with ${rolesText(roles)}` };
    }),
  );
  routes.post(
    "/people/roles",
    asOperator(async (_, form) => {
      const { email, roles } = await people.setRoles(form("email"), readRoles(form("roles")), "operator");
      return { message: `${email} has ${rolesText(roles)} now` };
    }),
  );
  routes.post(
    "/people/remove",
    asOperator(async (_, form) => {
      const { email } = await people.remove(form("email"), "operator");
      return { message: `${email} is no user any more; what they held is being ended` };
    }),
  );
  routes.get(
    "/people/tokens",
    asOperator(async (_, form) => ({ tokens: await people.tokens(await people.find(form("email"))) })),
  );
  routes.post(
    "/people/token",
    asOperator(async (_, form) => {
      const expires = parseDuration(form("expires"));
      if (expires === undefined)
        throw new FarmError(
          "bad-request",
          `Cannot read the span ${JSON.stringify(form("expires"))}: want one such as 2160h`,
        );
      const made = await people.newToken(await people.find(form("email")), form("name"), expires, "operator");
      return {
        id: made.id,
        email: made.person.email,
        name: made.person.name,
        token: made.token,
        expiresAt: made.expiresAt,
      };
    }),
  );
  routes.post(
    "/tokens/:id/revoke",
    asOperator(async (c) => {
      const id = c.req.param("id") ?? "";
      await people.revokeToken(id, null, "operator");
      return { message: `token ${id} is revoked` };
    }),
  );
  return routes;
}

/** A field of the request; "" when it is not there. */
type Form = (field: string) => string;

async function formOf(c: Ctx): Promise<Form> {
  const body = await c.req.parseBody();
  return (field) => {
    const value = body[field];
    return typeof value === "string" ? value : "";
  };
}

function queryOf(c: Ctx): Form {
  return (field) => c.req.query(field) ?? "";
}

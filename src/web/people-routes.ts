/**
 * What operators do about people and their tokens, on pages and by the command line (coordinator/people-control.ts),
 * which asks for JSON.
 *
 *   GET  /people                 everybody
 *   POST /people                 email, roles
 *   POST /people/roles           email, roles
 *   POST /people/remove          email
 *   GET  /people/ID              one person
 *   GET  /people/tokens?email=   the tokens of a person
 *   POST /people/token           email, name, expires
 *   POST /people/ID/token        name, days: the answer is the person's page, which shows the token once
 *   POST /tokens/ID/revoke
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { parseDuration } from "../farm/flags.ts";
import type { Role } from "../farm/person.ts";
import { readRoles } from "../people/names.ts";
import { rolesText } from "../people/people.ts";
import { personById } from "../store/people.ts";
import type { MadeTokenLine } from "../ui/tokens.tsx";
import { operatorOf, operatorReads } from "./acting.ts";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { back, type Ctx, type Env, type Form, formOf, json, OWN, positive, valuesOf, wantsJson } from "./http.ts";
import { daysOf, setupOf } from "./me-routes.ts";
import { madeLine, peopleData, personData } from "./pages/people.ts";

export type PeopleRoutesDeps = Pick<
  WebDeps,
  "people" | "dialAddress" | "httpPort" | "sshPort" | "sql" | "clock" | "config"
>;

interface Done {
  readonly message: string;
  /** Where the browser goes next. */
  readonly to: string;
}

export function peopleRoutes(deps: PeopleRoutesDeps, pages: Pages): Hono<Env> {
  const { people, sql, clock, config } = deps;
  const { identities } = pages;
  const routes = new Hono<Env>();

  const read = (work: (form: Form) => Promise<object>) => async (c: Ctx) => {
    await operatorReads(identities, c);
    return json(c, 200, await work((field) => c.req.query(field) ?? ""), OWN);
  };
  const change = (work: (who: string, form: Form, c: Ctx) => Promise<Done>) => async (c: Ctx) => {
    const { message, to } = await work(await operatorOf(identities, c), await formOf(c), c);
    return wantsJson(c) ? json(c, 200, { message }, OWN) : c.redirect(to, 303);
  };

  const personPage = async (c: Ctx, id: string, made: MadeTokenLine | null): Promise<Response> => {
    const { who } = await identities.of(c);
    const self = who.kind === "person" ? who.person.id : null;
    const data = await pages.load(personData(sql, id, self, made, clock.now()));
    if (!data) throw new FarmError("not-found", `There is no user ${JSON.stringify(id)} any more.`);
    // A page that shows a new token is never loaded again: the token would be gone.
    const topics = made === null ? [`person:${id}`, "gomote:"] : [];
    return pages.answer(c, 200, data.email, { name: "person", data }, topics, OWN);
  };

  routes.get("/people", async (c) => {
    await operatorReads(identities, c);
    // The list for the command line. A page's own JSON is asked for with ?format=json.
    if (wantsJson(c) && c.req.query("format") !== "json") return json(c, 200, { people: await people.list() }, OWN);
    const filter = (c.req.query("q") ?? "").trim().slice(0, 200);
    const page = positive(c.req.query("page")) ?? 1;
    const data = await pages.load(peopleData(sql, config(), filter, page, clock.now()));
    return pages.answer(c, 200, "People", { name: "people", data }, ["person:", "gomote:"], OWN);
  });
  routes.post(
    "/people",
    change(async (who, form, c) => {
      const { id, email, roles } = await people.add(form("email"), await rolesOf(c), who);
      return { message: `${email} is a user now, with ${rolesText(roles)}`, to: `/people/${id}` };
    }),
  );
  routes.post(
    "/people/roles",
    change(async (who, form, c) => {
      const { id, email, roles } = await people.setRoles(form("email"), await rolesOf(c), who);
      return { message: `${email} has ${rolesText(roles)} now`, to: `/people/${id}` };
    }),
  );
  routes.post(
    "/people/remove",
    change(async (who, form) => {
      const { email } = await people.remove(form("email"), who);
      return { message: `${email} is no user any more; what they held is being ended`, to: "/people" };
    }),
  );
  routes.get(
    "/people/tokens",
    read(async (form) => ({ tokens: await people.tokens(await people.find(form("email"))) })),
  );
  routes.post("/people/token", async (c) => {
    const who = await operatorOf(identities, c);
    const form = await formOf(c);
    const expires = parseDuration(form("expires"));
    if (expires === undefined)
      throw new FarmError(
        "bad-request",
        `Cannot read the span ${JSON.stringify(form("expires"))}: want one such as 2160h`,
      );
    const made = await people.newToken(await people.find(form("email")), form("name"), expires, who);
    const { id, person, name, token, expiresAt } = made;
    return json(c, 200, { id, email: person.email, name, token, expiresAt, original: setupOf(c, deps, made) }, OWN);
  });

  routes.get("/people/:id{U[0-9a-f]+}", async (c) => {
    await operatorReads(identities, c);
    return personPage(c, c.req.param("id"), null);
  });
  routes.get("/people/:id{U[0-9a-f]+}/token", (c) => c.redirect(`/people/${c.req.param("id")}`, 303));
  routes.post("/people/:id{U[0-9a-f]+}/token", async (c) => {
    const who = await operatorOf(identities, c);
    const form = await formOf(c);
    const id = c.req.param("id");
    const person = await personById(sql, id);
    if (!person) throw new FarmError("not-found", `There is no user ${JSON.stringify(id)} any more.`);
    const made = await people.newToken(await people.find(person.email), form("name"), daysOf(form("days")), who);
    return personPage(c, id, madeLine(made, setupOf(c, deps, made)));
  });
  routes.post(
    "/tokens/:id/revoke",
    change(async (who, _, c) => {
      const id = c.req.param("id") ?? "";
      await people.revokeToken(id, null, who);
      return { message: `token ${id} is revoked`, to: back(c, "/people") };
    }),
  );
  return routes;
}

/** The roles of a form: ticked one by one on a page, or listed in one word by the command line. */
async function rolesOf(c: Ctx): Promise<readonly Role[]> {
  return readRoles((await valuesOf(c, "roles")).join(","));
}

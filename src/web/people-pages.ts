/**
 * All pages and routes about people: logging in, letting programs in, `/me`, `/people`, and the metadata server for the
 * original gomote command.
 */
import { Hono } from "hono";
import { Devices } from "../people/devices.ts";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { deviceRoutes } from "./device-routes.ts";
import { type Env, OWN } from "./http.ts";
import { loginRoutes } from "./login-routes.ts";
import { meRoutes } from "./me-routes.ts";
import { metadataRoutes } from "./metadata-routes.ts";
import { peopleRoutes } from "./people-routes.ts";

export function peoplePages(deps: WebDeps, pages: Pages): Hono<Env> {
  const app = new Hono<Env>();
  const { people, openid, sql, clock } = deps;
  const { identities, operator, wrong } = pages;
  const devices = new Devices({ sql, clock, people });
  app.route(
    "/",
    loginRoutes({
      people,
      openid,
      operator,
      identities,
      wrong,
      log: deps.log,
      page: (c, status, back, problem) =>
        pages.answer(
          c,
          status,
          "Log in",
          { name: "login", data: { back, problem, provider: openid.name, stillIn: c.req.query("out") !== undefined } },
          [],
          OWN,
        ),
    }),
  );
  app.route(
    "/",
    deviceRoutes({
      people,
      devices,
      identities,
      wrong,
      clock,
      publicUrl: () => deps.config().publicUrl,
      page: (c, status, data) => pages.answer(c, status, "Let a program in", { name: "device", data }, [], OWN),
    }),
  );
  app.route(
    "/",
    meRoutes({
      ...deps,
      identities,
      page: (c, data) => pages.answer(c, 200, "Me", { name: "me", data }, [], OWN),
    }),
  );
  app.route("/", metadataRoutes(people));
  app.route("/", peopleRoutes(deps, pages));
  return app;
}

/**
 * What the operator does. All routes are POST: a button of a page is answered with that page, the command line with
 * JSON.
 *
 *   /theme                         open to everybody
 *   /b/ID/rebuild  /b/ID/cancel
 *   /machines/ID-OR-NAME/readmit
 *   /keys/ID/revoke
 *
 * drain-routes.ts has those that drain and resume.
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { buildId } from "../farm/ids.ts";
import type { Act } from "./acting.ts";
import type { WebDeps } from "./deps.ts";
import { drainRoutes } from "./drain-routes.ts";
import { back, type Env, ownPath, positive } from "./http.ts";
import { machineOf } from "./named.ts";

function rebuiltText(of: number, build: number, made: boolean): string {
  if (made) return `build ${of} is built once more as build ${build}`;
  return build === of
    ? `build ${of} has not ended: nothing new is begun`
    : `build ${of} is being built once more already, as build ${build}: nothing new is begun`;
}

export function actionRoutes(deps: Pick<WebDeps, "actions" | "sql" | "coordinator">, act: Act): Hono<Env> {
  const routes = new Hono<Env>();
  const { actions } = deps;

  routes.post("/b/:id/rebuild", (c) =>
    act(c, `/b/${c.req.param("id")}`, async (who) => {
      const id = numberOf(c.req.param("id"), "build");
      const { build, made } = await actions.rebuild(buildId(id), who);
      return { message: rebuiltText(id, build, made), to: `/b/${build}` };
    }),
  );
  routes.post("/b/:id/cancel", (c) =>
    act(c, `/b/${c.req.param("id")}`, async (who) => {
      const id = numberOf(c.req.param("id"), "build");
      await actions.cancel(buildId(id), who);
      return { message: `build ${id} is canceled` };
    }),
  );
  routes.post("/machines/:machine/readmit", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      await actions.readmitMachine(await machineOf(deps.sql, c.req.param("machine")), who);
      return { message: `machine ${c.req.param("machine")} is not set aside any more` };
    }),
  );
  routes.post("/keys/:key/revoke", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      await actions.revokeKey(c.req.param("key"), who);
      return { message: `key ${c.req.param("key")} is revoked` };
    }),
  );

  routes.route("/", drainRoutes(deps, act));

  routes.post("/theme", async (c) => {
    const form = await c.req.parseBody();
    const theme = form.theme === "light" || form.theme === "dark" ? form.theme : "system";
    c.header("Set-Cookie", `theme=${theme}; Path=/; Max-Age=31536000; SameSite=Lax`);
    return c.redirect(ownPath(typeof form.back === "string" ? form.back : undefined), 303);
  });
  return routes;
}

function numberOf(text: string, what: string): number {
  const number = positive(text);
  if (number === undefined)
    throw new FarmError("not-found", `Cannot find ${what} ${JSON.stringify(text)}: want its number`);
  return number;
}

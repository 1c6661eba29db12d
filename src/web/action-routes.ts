/**
 * What the operator does: POST only, by the buttons of a page (then back to that page) or by the command line (then JSON).
 *
 *   /login  /logout  /theme
 *   /b/ID/rebuild  /b/ID/cancel
 *   /machines/ID-OR-NAME/readmit
 *   /keys/ID/revoke
 *
 * and what drain-routes.ts has.
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { buildId } from "../farm/ids.ts";
import type { WebDeps } from "./deps.ts";
import { drainRoutes } from "./drain-routes.ts";
import { back, type Ctx, type Env, ownPath, positive } from "./http.ts";
import { machineOf } from "./named.ts";
import { acting, addressOf, type Operator, ownOrigin } from "./operator.ts";

const TOKEN_LIMIT = 1000;

function rebuiltText(of: number, build: number, made: boolean): string {
  if (made) return `build ${of} is built once more as build ${build}`;
  return build === of
    ? `build ${of} has not ended: nothing new is begun`
    : `build ${of} is being built once more already, as build ${build}: nothing new is begun`;
}

export function actionRoutes(
  deps: Pick<WebDeps, "actions" | "sql" | "log" | "coordinator">,
  operator: Operator,
  loginPage: (c: Ctx, status: number, back: string, problem: string) => Promise<Response>,
): Hono<Env> {
  const routes = new Hono<Env>();
  const { actions } = deps;
  const act = acting(operator);

  routes.post("/b/:id/rebuild", (c) =>
    act(c, `/b/${c.req.param("id")}`, async () => {
      const id = numberOf(c.req.param("id"), "build");
      const { build, made } = await actions.rebuild(buildId(id), "operator");
      return { message: rebuiltText(id, build, made), to: `/b/${build}` };
    }),
  );
  routes.post("/b/:id/cancel", (c) =>
    act(c, `/b/${c.req.param("id")}`, async () => {
      const id = numberOf(c.req.param("id"), "build");
      await actions.cancel(buildId(id), "operator");
      return { message: `build ${id} is canceled` };
    }),
  );
  routes.post("/machines/:machine/readmit", (c) =>
    act(c, back(c, "/machines"), async () => {
      await actions.readmitMachine(await machineOf(deps.sql, c.req.param("machine")), "operator");
      return { message: `machine ${c.req.param("machine")} is not set aside any more` };
    }),
  );
  routes.post("/keys/:key/revoke", (c) =>
    act(c, back(c, "/machines"), async () => {
      await actions.revokeKey(c.req.param("key"), "operator");
      return { message: `key ${c.req.param("key")} is revoked` };
    }),
  );

  routes.route("/", drainRoutes(deps, act));

  routes.post("/login", async (c) => {
    const form = await c.req.parseBody();
    const to = ownPath(typeof form.back === "string" ? form.back : undefined);
    const address = addressOf(c);
    const wait = operator.delay(address);
    if (wait > 0) {
      c.header("Retry-After", String(wait));
      return loginPage(c, 429, to, `Too many wrong tokens. Try again in ${wait} s.`);
    }
    if (!ownOrigin(c)) return loginPage(c, 403, to, "Log in on the farm's own page.");
    const token = form.token;
    if (typeof token !== "string" || token.length > TOKEN_LIMIT || !operator.isToken(token.trim())) {
      operator.wrong(address);
      deps.log.warn({ address }, "Refused a login");
      return loginPage(c, 403, to, "This is not the operator token.");
    }
    c.header("Set-Cookie", operator.cookie(c));
    return c.redirect(to, 303);
  });
  routes.post("/logout", (c) => {
    c.header("Set-Cookie", operator.noCookie(c));
    return c.redirect("/", 303);
  });
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

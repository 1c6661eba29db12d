/**
 * Addresses that monitoring and scripts ask, with the answers that upstream gives there (shapes.ts).
 *
 *   /healthz  /metrics
 *   /status/CHECKER                     what a health checker found, as text
 *   /status/post-submit-active.json  /status/reverse.json
 *   /try.json                           the state of a try set
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { connected, hostTypes } from "../store/pages-pools.ts";
import { activePostSubmit } from "../store/pages-search.ts";
import { queueLengths } from "../store/queue-line.ts";
import type { WebDeps } from "./deps.ts";
import { type Env, json, tabbed, text } from "./http.ts";
import { Metrics } from "./metrics.ts";
import { activeJson, checkText, reverseJson } from "./shapes.ts";

const CORS = { "Access-Control-Allow-Origin": "*" };
const PREFLIGHT = { ...CORS, "Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "Content-Type" };

export function upstreamRoutes(deps: WebDeps): Hono<Env> {
  const { sql, clock } = deps;
  const metrics = new Metrics(deps);
  const routes = new Hono<Env>();

  routes.get("/healthz", (c) => text(c, 200, "ok\n"));
  routes.get(
    "/metrics",
    async () => new Response(await metrics.text(clock.now()), { headers: { "Content-Type": metrics.contentType } }),
  );

  routes.get("/status/post-submit-active.json", async (c) =>
    tabbed(c, activeJson(await activePostSubmit(sql), new URL(c.req.url).origin)),
  );
  routes.get("/status/reverse.json", async (c) => {
    const [types, sessions, lengths] = await Promise.all([hostTypes(sql), connected(sql), queueLengths(sql)]);
    return tabbed(c, reverseJson(types, sessions, lengths, clock.now()));
  });
  routes.get("/status/:checker", (c) => {
    const check = deps.checkers().find((one) => one.id === c.req.param("checker"));
    if (!check) throw new FarmError("not-found", `There is no health checker ${c.req.param("checker")}.`);
    const { status, body } = checkText(check);
    return text(c, status, body);
  });

  routes.options("/try.json", () => new Response(null, { status: 200, headers: PREFLIGHT }));
  // The farm makes no try sets yet, so it knows none.
  routes.get("/try.json", (c) =>
    json(c, 404, { success: false, error: `try set ${JSON.stringify(c.req.query("commit") ?? "")} not found` }, CORS),
  );

  return routes;
}

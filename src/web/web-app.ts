/**
 * The HTTP application: its parts, and the order in which they look at a request.
 *
 * `fetch` answers a Request, `listener` serves Node's HTTP/1.1 and HTTP/2 servers. Routes stand in the files named
 * *-routes.ts. A page (page-routes.ts) is loaded, put into its frame, and answered as HTML or, with `?format=json`, as
 * the same data (answering.ts).
 *
 * While the database is away, pages say so after a few seconds (PATIENCE in answering.ts). `/healthz`, assets,
 * `/events` and login go on.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { Readable } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { epochMs } from "../farm/ids.ts";
import { acting } from "./acting.ts";
import { actionRoutes } from "./action-routes.ts";
import { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { events } from "./events.ts";
import type { Upgrades } from "./front-door.ts";
import { gomoteRoutes } from "./gomote-routes.ts";
import { Waits } from "./gomote-waits.ts";
import { gridRoutes } from "./grid-routes.ts";
import { type Ctx, type Env, positive, SECURITY, send, text } from "./http.ts";
import { logRoutes } from "./log-routes.ts";
import { pageRoutes } from "./page-routes.ts";
import { peoplePages } from "./people-pages.ts";
import { RecentTopics } from "./recent-topics.ts";
import { TerminalDoor } from "./terminal-door.ts";
import { upstreamRoutes } from "./upstream-routes.ts";

export type { WebDeps };

export interface WebApp extends AsyncDisposable {
  /** Takes the requests to upgrade that are for this application: shells. */
  readonly upgrades: Upgrades;
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly listener: (
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ) => void;
}

export function createWebApp(deps: WebDeps): WebApp {
  const stop = new AbortController();
  const pages = new Pages(deps);
  const app = new Hono<Env>();
  app.use(async (c, next) => {
    c.set("askedAt", deps.clock.now());
    await next();
    for (const [name, value] of Object.entries(SECURITY)) if (!c.res.headers.has(name)) c.res.headers.set(name, value);
  });
  app.use(async (c, next) => {
    // PostgreSQL refuses a text with a NUL.
    if (/%00/.test(c.req.url))
      throw new FarmError("bad-request", "Cannot look for a name with a NUL (%00): none has one.");
    await next();
  });
  app.onError((error, c) => pages.failed(c, error));
  app.notFound((c) => pages.notFound(c));
  app.route("/", pageRoutes(deps, pages));
  app.route("/", gridRoutes(deps, pages));
  app.route("/", upstreamRoutes(deps));
  const recent = new RecentTopics(deps.bus, deps.clock, stop.signal);
  app.get("/events", (c) => {
    const since = positive(c.req.query("since"));
    const gone = AbortSignal.any([c.req.raw.signal, stop.signal]);
    return events({ ...deps, recent }, c.req.queries("t") ?? [], since === undefined ? since : epochMs(since), gone);
  });
  app.get("/assets/:name", (c) => asset(c, deps));
  app.route("/", logRoutes(deps, stop.signal));
  app.route("/", actionRoutes(deps, acting(pages.identities)));
  app.route("/", peoplePages(deps, pages));
  const waits = new Waits({ creations: deps.lending.creations, log: deps.log });
  app.route("/", gomoteRoutes({ ...deps, waits }, pages));
  app.post("/hooks/push", (c) => push(c, deps));
  const door = new TerminalDoor({
    ...deps,
    ...deps.lending,
    signedIn: ({ headers }) => pages.identities.signedIn(headers.cookie ?? ""),
  });
  const listener = getRequestListener((request, env) => app.fetch(request, env), { overrideGlobalObjects: false });
  return {
    upgrades: door,
    fetch: (request) => app.fetch(request),
    listener: (request, response) => void listener(request as IncomingMessage, response as ServerResponse),
    async [Symbol.asyncDispose]() {
      stop.abort();
      door[Symbol.dispose]();
      await waits[Symbol.asyncDispose]();
    },
  };
}

function asset(c: Ctx, deps: WebDeps): Response | Promise<Response> {
  const name = c.req.param("name") ?? "";
  const file = deps.assets.get(name);
  if (!file) return text(c, 404, "There is no such file; the farm may have been updated. Load the page again.\n");
  const etag = `"${name}"`;
  const headers = { ETag: etag, "Cache-Control": "public, max-age=31536000, immutable" };
  if (c.req.header("if-none-match") === etag) return new Response(null, { status: 304, headers });
  return send(c, 200, file.type, file.body, headers);
}

async function push(c: Ctx, deps: WebDeps): Promise<Response> {
  if (!deps.push)
    throw new FarmError("not-found", "Cannot take a push notice: no repository has a webhook in the configuration");
  const body = c.req.raw.body;
  const { status, text: said } = await deps.push(body ? Readable.from(body) : Readable.from([]), c.req.raw.headers);
  return text(c, status, said);
}

/**
 * The HTTP application: `fetch` for whoever has a Request, `listener` for Node's HTTP/1.1 and HTTP/2 servers.
 *
 * A page is routed here to its `load`, wrapped into its frame, and answered as HTML or, with `?format=json`, as the same data. While the
 * database is away pages say so at once (PATIENCE), and what does not need it goes on: `/healthz`, assets, `/events`, login.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";
import { Readable } from "node:stream";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { epochMs } from "../farm/ids.ts";
import { livingCoordinators } from "../store/coordinators.ts";
import { farmDrain } from "../store/drain.ts";
import { connected, hostTypes } from "../store/pages-pools.ts";
import { activePostSubmit } from "../store/pages-search.ts";
import { queueLengths } from "../store/queue-line.ts";
import { acting } from "./acting.ts";
import { actionRoutes } from "./action-routes.ts";
import { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { events } from "./events.ts";
import type { Upgrades } from "./front-door.ts";
import { gomoteRoutes } from "./gomote-routes.ts";
import { Waits } from "./gomote-waits.ts";
import { type Ctx, type Env, json, positive, SECURITY, send, tabbed, text, wantsJson } from "./http.ts";
import { logRoutes } from "./log-routes.ts";
import { Metrics } from "./metrics.ts";
import { buildData } from "./pages/build.ts";
import { buildersData, buildersJson } from "./pages/builders.ts";
import { cellData, commitData } from "./pages/commit.ts";
import { placeAt } from "./pages/gomotes.ts";
import { type GridFilter, gridData, gridJson, readGrid } from "./pages/grid.ts";
import { GridRows } from "./pages/grid-rows.ts";
import { Day, homeData } from "./pages/home.ts";
import { machineData, machinesData } from "./pages/machines.ts";
import { search } from "./pages/search.ts";
import { testHref } from "./pages/tests.ts";
import { peoplePages } from "./people-pages.ts";
import { queuesData } from "./queues.ts";
import { reachedAt } from "./reached.ts";
import { RecentTopics } from "./recent-topics.ts";
import { activeJson, checkOf, checkText, reverseJson } from "./shapes.ts";
import { TerminalDoor } from "./terminal-door.ts";

const CORS = { "Access-Control-Allow-Origin": "*" };

export type { WebDeps };

export interface WebApp extends AsyncDisposable {
  /** Requests to upgrade that are for here. */
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
    // Which a database cannot be asked for.
    if (/%00/.test(c.req.url))
      throw new FarmError("bad-request", "Cannot look for a name with a NUL (%00): none has one.");
    await next();
  });
  app.onError((error, c) => pages.failed(c, error));
  app.notFound((c) => pages.notFound(c));
  pageRoutes(app, deps, pages);
  gridRoutes(app, deps, pages);
  shapeRoutes(app, deps);
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

const POOL_TOPICS = ["machine:", "session:"];

function pageRoutes(app: Hono<Env>, deps: WebDeps, pages: Pages): void {
  const { sql, clock, config } = deps;
  const day = new Day();
  const checks = () => deps.checkers().map(checkOf);
  app.get("/", async (c) => {
    const data = await pages.load(
      homeData({ sql, config: config(), checks: checks(), dial: reachedAt(c, deps), day }, clock.now()),
    );
    return pages.answer(c, 200, "", { name: "home", data }, ["build:", "queue:", "standing:", ...POOL_TOPICS, "farm:"]);
  });
  app.get("/builders", async (c) => {
    if (c.req.query("mode") === "json") return tabbed(c, buildersJson(config()));
    const data = await pages.load(buildersData(sql, config()));
    return pages.answer(c, 200, "Builders", { name: "builders", data }, POOL_TOPICS);
  });
  app.get("/machines", async (c) => {
    const { who } = await pages.identities.of(c);
    const data = await pages.load(
      machinesData(
        sql,
        config(),
        (c.req.query("q") ?? "").trim().slice(0, 200),
        positive(c.req.query("page")) ?? 1,
        who,
        clock.now(),
      ),
    );
    return pages.answer(
      c,
      200,
      "Machines",
      { name: "machines", data: { ...data, dial: reachedAt(c, deps), hostType: config().hosts[0]?.hostType ?? null } },
      POOL_TOPICS,
    );
  });
  app.get("/machines/:name", async (c) => {
    const { who } = await pages.identities.of(c);
    const asked = { name: c.req.param("name"), hostType: c.req.query("type"), after: placeAt(c.req.query("after")) };
    const data = await pages.load(machineData(sql, config(), asked, who, clock.now()));
    if (!data) return pages.notFound(c, `There is no machine ${asked.name}.`);
    const lent = data.lent?.instances.filter(({ state }) => state !== "ended").map(({ id }) => `gomote:${id}`) ?? [];
    return pages.answer(c, 200, data.name, { name: "machine", data }, [`machine:${data.id}`, "session:", ...lent]);
  });
  app.get("/queues", async (c) => {
    const { who } = await pages.identities.of(c);
    const data = await pages.load(queuesData(sql, config(), who, clock.now()));
    return pages.answer(c, 200, "Queues", { name: "queues", data }, ["queue:", "build:", ...POOL_TOPICS]);
  });
  app.get("/status", async (c) => {
    // What the checkers found is worth showing also while the database is away, which is one of the things that they find.
    const [living, drained] = await Promise.all([
      pages.load(livingCoordinators(sql)).catch(() => []),
      pages.load(farmDrain(sql)).catch(() => null),
    ]);
    const coordinators = living.map(({ shared: _, ...one }) => ({ ...one, here: one.id === deps.coordinator }));
    const data = { checks: checks(), coordinators, drained };
    return pages.answer(c, 200, "Health", { name: "health", data }, ["farm:", ...POOL_TOPICS]);
  });
  app.get("/search", async (c) => {
    const data = await pages.load(search(sql, config(), c.req.query("q") ?? ""));
    const [only] = data.hits.length === 0 && data.builds.length === 1 ? data.builds : [];
    if (only && !wantsJson(c)) return c.redirect(`/b/${only.id}`, 302);
    return pages.answer(c, 200, "Search", { name: "search", data }, []);
  });
  app.get("/b/:id/test/:number{[0-9]+}", async (c) => {
    const [id, number] = [positive(c.req.param("id")), positive(c.req.param("number"))];
    const where = id === undefined || number === undefined ? undefined : await pages.load(testHref(deps, id, number));
    return where === undefined ? pages.notFound(c) : c.redirect(where, 302);
  });
  app.get("/b/:id/:step?", async (c) => {
    const id = positive(c.req.param("id"));
    const attempt = positive(c.req.query("attempt"));
    const { who } = await pages.identities.of(c);
    const found =
      id === undefined
        ? undefined
        : await pages.load(
            buildData(
              { sql, config: config(), logs: deps.logs, merged: deps.merged, who },
              id,
              c.req.param("step"),
              attempt,
              positive(c.req.query("from")),
              {
                filter: c.req.query("tests"),
                q: c.req.query("q"),
                after: c.req.query("after"),
                test: positive(c.req.query("test")),
              },
              clock.now(),
            ),
          );
    if (!found) return pages.notFound(c);
    const { build } = found.data;
    return pages.answer(
      c,
      200,
      `${build.status} ${build.builder} #${build.id}`,
      { name: "build", data: found.data },
      found.topics,
    );
  });
}

function gridRoutes(app: Hono<Env>, deps: WebDeps, pages: Pages): void {
  const { sql, clock, config } = deps;
  const kept = new GridRows();
  const filterOf = (c: Ctx): GridFilter => ({
    branch: c.req.query("branch"),
    builders: (c.req.query("builders") ?? "").slice(0, 500),
    author: (c.req.query("author") ?? "").slice(0, 200),
    failing: c.req.query("failing") === "1",
  });
  const knows = (repo: string): boolean => config().repos.some((one) => one.name === repo);
  app.get("/p/:repo", async (c) => {
    const repo = c.req.param("repo");
    const filter = filterOf(c);
    const grid = await pages.load(readGrid(sql, config(), kept, repo, filter, clock.now()));
    if (grid.branch === "" && !knows(repo)) return pages.notFound(c, `There is no repository ${repo}.`);
    if (wantsJson(c) || c.req.query("mode") === "json")
      return json(c, 200, gridJson(grid, repo, new URL(c.req.url).origin));
    return pages.answer(c, 200, repo, { name: "grid", data: await gridData(sql, grid, repo, filter) }, [
      `grid:${repo}`,
      `repo:${repo}`,
    ]);
  });
  app.get("/p/:repo/rows", async (c) => {
    const grid = await pages.load(readGrid(sql, config(), kept, c.req.param("repo"), filterOf(c), clock.now()));
    const have = new Set((c.req.query("have") ?? "").split("."));
    const fresh = grid.rows.filter((row) => !have.has(row.version));
    return json(c, 200, {
      order: grid.rows.map((row) => [row.id, row.version]),
      html: Object.fromEntries(fresh.map((row) => [row.id, row.html])),
    });
  });
  app.get("/p/:repo/:hash", async (c) => {
    const { repo, hash } = c.req.param();
    const data = /^[0-9a-fA-F]{4,64}$/.test(hash)
      ? await pages.load(commitData(sql, config(), deps.merged, repo, hash))
      : undefined;
    if (!data) return pages.notFound(c, `There is no single commit ${hash} in ${repo}.`);
    return pages.answer(c, 200, `${data.hash.slice(0, 8)} ${repo}`, { name: "commit", data }, [`grid:${repo}`]);
  });
  app.get("/p/:repo/:hash/:builder", async (c) => {
    const { repo, hash, builder } = c.req.param();
    const cell = (await pages.load(cellData(sql, config(), deps.logs, repo, hash, builder))) as
      | { id: number }
      | undefined;
    if (!cell) return pages.notFound(c, `${builder} has not built ${hash.slice(0, 8)} of ${repo}.`);
    return wantsJson(c) ? json(c, 200, cell) : c.redirect(`/b/${cell.id}`, 302);
  });
}

function shapeRoutes(app: Hono<Env>, deps: WebDeps): void {
  const { sql, clock } = deps;
  const metrics = new Metrics(deps);
  app.get("/healthz", (c) => text(c, 200, "ok\n"));
  app.get(
    "/metrics",
    async () => new Response(await metrics.text(clock.now()), { headers: { "Content-Type": metrics.contentType } }),
  );
  app.get("/status/post-submit-active.json", async (c) =>
    tabbed(c, activeJson(await activePostSubmit(sql), new URL(c.req.url).origin)),
  );
  app.get("/status/reverse.json", async (c) => {
    const [types, sessions, lengths] = await Promise.all([hostTypes(sql), connected(sql), queueLengths(sql)]);
    return tabbed(c, reverseJson(types, sessions, lengths, clock.now()));
  });
  app.get("/status/:checker", (c) => {
    const check = deps.checkers().find((one) => one.id === c.req.param("checker"));
    if (!check) throw new FarmError("not-found", `There is no health checker ${c.req.param("checker")}.`);
    const { status, body } = checkText(check);
    return text(c, status, body);
  });
  app.options(
    "/try.json",
    () =>
      new Response(null, {
        status: 200,
        headers: { ...CORS, "Access-Control-Allow-Methods": "GET", "Access-Control-Allow-Headers": "Content-Type" },
      }),
  );
  // Nothing makes try sets yet, so none is known.
  app.get("/try.json", (c) =>
    json(c, 404, { success: false, error: `try set ${JSON.stringify(c.req.query("commit") ?? "")} not found` }, CORS),
  );
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

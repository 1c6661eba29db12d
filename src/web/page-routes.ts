/**
 * Addresses of pages. Each page is loaded by a function of pages/, and answered with the topics that it listens to.
 *
 *   /  /builders  /machines  /machines/NAME  /queues  /status  /search
 *   /b/ID  /b/ID/STEP       a build, open at a step
 *   /b/ID/test/NUMBER       leads to the place of a test on the page of its build
 *
 * Other pages: grid-routes.ts, gomote-routes.ts, people-pages.ts.
 */
import { Hono } from "hono";
import { livingCoordinators } from "../store/coordinators.ts";
import { farmDrain } from "../store/drain.ts";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, positive, tabbed, wantsJson } from "./http.ts";
import { buildData } from "./pages/build.ts";
import { buildersData, buildersJson } from "./pages/builders.ts";
import { placeAt } from "./pages/gomotes.ts";
import { Day, homeData } from "./pages/home.ts";
import { machineData, machinesData } from "./pages/machines.ts";
import { search } from "./pages/search.ts";
import { testHref } from "./pages/tests.ts";
import { queuesData } from "./queues.ts";
import { reachedAt } from "./reached.ts";
import { checkOf } from "./shapes.ts";

const POOL_TOPICS = ["machine:", "session:"];
const HOME_TOPICS = ["build:", "queue:", "standing:", ...POOL_TOPICS, "farm:"];

export function pageRoutes(deps: WebDeps, pages: Pages): Hono<Env> {
  const routes = new Hono<Env>();
  const day = new Day();
  routes.get("/", (c) => showHome(c, deps, pages, day));
  routes.get("/builders", (c) => showBuilders(c, deps, pages));
  routes.get("/machines", (c) => showMachines(c, deps, pages));
  routes.get("/machines/:name", (c) => showMachine(c, deps, pages, c.req.param("name")));
  routes.get("/queues", (c) => showQueues(c, deps, pages));
  routes.get("/status", (c) => showHealth(c, deps, pages));
  routes.get("/search", (c) => showSearch(c, deps, pages));
  routes.get("/b/:id/test/:number{[0-9]+}", (c) => leadToTest(c, deps, pages));
  routes.get("/b/:id/:step?", (c) => showBuild(c, deps, pages));
  return routes;
}

async function showHome(c: Ctx, deps: WebDeps, pages: Pages, day: Day): Promise<Response> {
  const { sql, clock } = deps;
  const farm = { sql, config: deps.config(), checks: deps.checkers().map(checkOf), dial: reachedAt(c, deps), day };
  const data = await pages.load(homeData(farm, clock.now()));
  return pages.answer(c, 200, "", { name: "home", data }, HOME_TOPICS);
}

async function showBuilders(c: Ctx, { sql, config }: WebDeps, pages: Pages): Promise<Response> {
  if (c.req.query("mode") === "json") return tabbed(c, buildersJson(config()));
  const data = await pages.load(buildersData(sql, config()));
  return pages.answer(c, 200, "Builders", { name: "builders", data }, POOL_TOPICS);
}

async function showMachines(c: Ctx, deps: WebDeps, pages: Pages): Promise<Response> {
  const { who } = await pages.identities.of(c);
  const config = deps.config();
  const q = (c.req.query("q") ?? "").trim().slice(0, 200);
  const page = positive(c.req.query("page")) ?? 1;
  const found = await pages.load(machinesData(deps.sql, config, q, page, who, deps.clock.now()));
  const data = { ...found, dial: reachedAt(c, deps), hostType: config.hosts[0]?.hostType ?? null };
  return pages.answer(c, 200, "Machines", { name: "machines", data }, POOL_TOPICS);
}

async function showMachine(c: Ctx, deps: WebDeps, pages: Pages, name: string): Promise<Response> {
  const { who } = await pages.identities.of(c);
  const asked = { name, hostType: c.req.query("type"), after: placeAt(c.req.query("after")) };
  const data = await pages.load(machineData(deps.sql, deps.config(), asked, who, deps.clock.now()));
  if (!data) return pages.notFound(c, `There is no machine ${name}.`);
  const lent = data.lent?.instances.filter(({ state }) => state !== "ended").map(({ id }) => `gomote:${id}`) ?? [];
  return pages.answer(c, 200, data.name, { name: "machine", data }, [`machine:${data.id}`, "session:", ...lent]);
}

async function showQueues(c: Ctx, { sql, config, clock }: WebDeps, pages: Pages): Promise<Response> {
  const { who } = await pages.identities.of(c);
  const data = await pages.load(queuesData(sql, config(), who, clock.now()));
  return pages.answer(c, 200, "Queues", { name: "queues", data }, ["queue:", "build:", ...POOL_TOPICS]);
}

/** This page is shown also while the database is away: that is one of the faults that the checkers find. */
async function showHealth(c: Ctx, deps: WebDeps, pages: Pages): Promise<Response> {
  const [living, drained] = await Promise.all([
    pages.load(livingCoordinators(deps.sql)).catch(() => []),
    pages.load(farmDrain(deps.sql)).catch(() => null),
  ]);
  const coordinators = living.map(({ shared: _, ...one }) => ({ ...one, here: one.id === deps.coordinator }));
  const data = { checks: deps.checkers().map(checkOf), coordinators, drained };
  return pages.answer(c, 200, "Health", { name: "health", data }, ["farm:", ...POOL_TOPICS]);
}

async function showSearch(c: Ctx, { sql, config }: WebDeps, pages: Pages): Promise<Response> {
  const data = await pages.load(search(sql, config(), c.req.query("q") ?? ""));
  const [only] = data.hits.length === 0 && data.builds.length === 1 ? data.builds : [];
  if (only && !wantsJson(c)) return c.redirect(`/b/${only.id}`, 302);
  return pages.answer(c, 200, "Search", { name: "search", data }, []);
}

async function leadToTest(c: Ctx, deps: WebDeps, pages: Pages): Promise<Response> {
  const [id, number] = [positive(c.req.param("id")), positive(c.req.param("number"))];
  const where = id === undefined || number === undefined ? undefined : await pages.load(testHref(deps, id, number));
  return where === undefined ? pages.notFound(c) : c.redirect(where, 302);
}

async function showBuild(c: Ctx, deps: WebDeps, pages: Pages): Promise<Response> {
  const id = positive(c.req.param("id"));
  if (id === undefined) return pages.notFound(c);
  const { sql, logs, merged, clock } = deps;
  const { who } = await pages.identities.of(c);
  const attempt = positive(c.req.query("attempt"));
  const from = positive(c.req.query("from"));
  const tests = {
    filter: c.req.query("tests"),
    q: c.req.query("q"),
    after: c.req.query("after"),
    test: positive(c.req.query("test")),
  };
  const farm = { sql, config: deps.config(), logs, merged, who };
  const found = await pages.load(buildData(farm, id, c.req.param("step"), attempt, from, tests, clock.now()));
  if (!found) return pages.notFound(c);
  const { build } = found.data;
  const title = `${build.status} ${build.builder} #${build.id}`;
  return pages.answer(c, 200, title, { name: "build", data: found.data }, found.topics);
}

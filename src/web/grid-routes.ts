/**
 * Addresses of a repository's grid.
 *
 *   /p/REPO                   commits against builders
 *   /p/REPO/rows              rows that changed since the browser loaded them, as JSON
 *   /p/REPO/HASH              a commit
 *   /p/REPO/HASH/BUILDER      leads to the build of a commit on a builder
 *
 * `rows` is registered before HASH, which would take it for a commit.
 */
import { Hono } from "hono";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, json, wantsJson } from "./http.ts";
import { cellData, commitData } from "./pages/commit.ts";
import { type GridFilter, gridData, gridJson, readGrid } from "./pages/grid.ts";
import { GridRows } from "./pages/grid-rows.ts";

export function gridRoutes(
  deps: Pick<WebDeps, "sql" | "clock" | "config" | "merged" | "logs">,
  pages: Pages,
): Hono<Env> {
  const { sql, clock, config, merged, logs } = deps;
  const kept = new GridRows();
  const routes = new Hono<Env>();

  routes.get("/p/:repo", async (c) => {
    const repo = c.req.param("repo");
    const filter = filterOf(c);
    const grid = await pages.load(readGrid(sql, config(), kept, repo, filter, clock.now()));
    if (grid.branch === "" && !config().repos.some(({ name }) => name === repo))
      return pages.notFound(c, `There is no repository ${repo}.`);
    if (wantsJson(c) || c.req.query("mode") === "json")
      return json(c, 200, gridJson(grid, repo, new URL(c.req.url).origin));
    const data = await gridData(sql, grid, repo, filter);
    return pages.answer(c, 200, repo, { name: "grid", data }, [`grid:${repo}`, `repo:${repo}`]);
  });

  routes.get("/p/:repo/rows", async (c) => {
    const grid = await pages.load(readGrid(sql, config(), kept, c.req.param("repo"), filterOf(c), clock.now()));
    const have = new Set((c.req.query("have") ?? "").split("."));
    const fresh = grid.rows.filter((row) => !have.has(row.version));
    return json(c, 200, {
      order: grid.rows.map((row) => [row.id, row.version]),
      html: Object.fromEntries(fresh.map((row) => [row.id, row.html])),
    });
  });

  routes.get("/p/:repo/:hash", async (c) => {
    const { repo, hash } = c.req.param();
    const data = /^[0-9a-fA-F]{4,64}$/.test(hash)
      ? await pages.load(commitData(sql, config(), merged, repo, hash))
      : undefined;
    if (!data) return pages.notFound(c, `There is no single commit ${hash} in ${repo}.`);
    return pages.answer(c, 200, `${data.hash.slice(0, 8)} ${repo}`, { name: "commit", data }, [`grid:${repo}`]);
  });

  routes.get("/p/:repo/:hash/:builder", async (c) => {
    const { repo, hash, builder } = c.req.param();
    const cell = (await pages.load(cellData(sql, config(), logs, repo, hash, builder))) as { id: number } | undefined;
    if (!cell) return pages.notFound(c, `${builder} has not built ${hash.slice(0, 8)} of ${repo}.`);
    return wantsJson(c) ? json(c, 200, cell) : c.redirect(`/b/${cell.id}`, 302);
  });

  return routes;
}

function filterOf(c: Ctx): GridFilter {
  return {
    branch: c.req.query("branch"),
    builders: (c.req.query("builders") ?? "").slice(0, 500),
    author: (c.req.query("author") ?? "").slice(0, 200),
    failing: c.req.query("failing") === "1",
  };
}

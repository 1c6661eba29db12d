/**
 * What an operator does: POST only, by the buttons of a page (then back to that page) or by the command line (then JSON).
 *
 *   /theme
 *   /b/ID/rebuild  /b/ID/cancel
 *   /machines/ID-OR-NAME/drain|resume|readmit   /hosts/TYPE/drain|resume   /farm/drain|resume   /coordinator/drain|resume
 *   /keys/ID/revoke
 *
 * and GET /running?farm|coordinator|hosts=TYPE|machines=ID-OR-NAME: how many machines are at work there, for whoever waits for a drain.
 */
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { buildId } from "../farm/ids.ts";
import { type DrainTarget, runningOn } from "../store/drain.ts";
import { machinesNamed } from "../store/pages-machines.ts";
import type { Act } from "./acting.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, json, ownPath, positive } from "./http.ts";

const NOTE_LIMIT = 200;

export function actionRoutes(deps: Pick<WebDeps, "actions" | "sql" | "coordinator">, act: Act): Hono<Env> {
  const routes = new Hono<Env>();
  const { actions } = deps;

  routes.post("/b/:id/rebuild", (c) =>
    act(c, `/b/${c.req.param("id")}`, async (who) => {
      const id = numberOf(c.req.param("id"), "build");
      const made = await actions.rebuild(buildId(id), who);
      return { message: `build ${id} is built once more as build ${made}`, to: `/b/${made}` };
    }),
  );
  routes.post("/b/:id/cancel", (c) =>
    act(c, `/b/${c.req.param("id")}`, async (who) => {
      const id = numberOf(c.req.param("id"), "build");
      await actions.cancel(buildId(id), who);
      return { message: `build ${id} is canceled` };
    }),
  );
  routes.post("/machines/:machine/:do{drain|resume}", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      const machine = await machineOf(deps.sql, c.req.param("machine"));
      if (c.req.param("do") === "resume") await actions.resumeMachine(machine, who);
      else await actions.drainMachine(machine, await noteOf(c), who);
      return {
        message:
          c.req.param("do") === "resume"
            ? `machine ${c.req.param("machine")} takes work again`
            : `machine ${c.req.param("machine")} takes nothing new`,
      };
    }),
  );
  routes.post("/machines/:machine/readmit", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      await actions.readmitMachine(await machineOf(deps.sql, c.req.param("machine")), who);
      return { message: `machine ${c.req.param("machine")} is not set aside any more` };
    }),
  );
  routes.post("/farm/:do{drain|resume}", (c) =>
    act(c, back(c, "/status"), async (who) => {
      if (c.req.param("do") === "resume") await actions.resumeFarm(who);
      else await actions.drainFarm(await noteOf(c), who);
      return {
        message: c.req.param("do") === "resume" ? "the farm takes work again" : "the farm takes nothing new",
      };
    }),
  );
  routes.post("/coordinator/:do{drain|resume}", (c) =>
    act(c, back(c, "/status"), async (who) => {
      if (c.req.param("do") === "resume") await actions.resumeCoordinator(who);
      else await actions.drainCoordinator(await noteOf(c), who);
      return {
        message:
          c.req.param("do") === "resume"
            ? "machines of this coordinator take work again"
            : "machines of this coordinator take nothing new until it is started again",
      };
    }),
  );
  routes.get("/running", async (c) => json(c, 200, { running: await runningOn(deps.sql, await targetOf(deps, c)) }));
  routes.post("/hosts/:type/:do{drain|resume}", (c) =>
    act(c, back(c, `/builders#${encodeURIComponent(c.req.param("type"))}`), async (who) => {
      const type = c.req.param("type");
      if (c.req.param("do") === "resume") await actions.resumeHostType(type, who);
      else await actions.drainHostType(type, await noteOf(c), who);
      return {
        message:
          c.req.param("do") === "resume"
            ? `machines of ${type} take work again`
            : `machines of ${type} take nothing new`,
      };
    }),
  );
  routes.post("/keys/:key/revoke", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      await actions.revokeKey(c.req.param("key"), who);
      return { message: `key ${c.req.param("key")} is revoked` };
    }),
  );

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

/** A machine by number (as pages have it) or by name (as people say it). */
async function machineOf(sql: WebDeps["sql"], text: string): Promise<number> {
  const named = await machinesNamed(sql, text);
  const [first, second] = named;
  if (second)
    throw new FarmError(
      "conflict",
      `Cannot tell which machine ${JSON.stringify(text)} is meant: ${named.map((m) => `${m.hostType} has number ${m.id}`).join(", ")}. Give the number.`,
    );
  const id = first?.id ?? positive(text);
  if (id === undefined) throw new FarmError("not-found", `Cannot find machine ${JSON.stringify(text)}`);
  return id;
}

/** `?farm`, `?coordinator`, `?hosts=TYPE` or `?machines=NAME`, as in the addresses of drain. */
async function targetOf(deps: Pick<WebDeps, "sql" | "coordinator">, c: Ctx): Promise<DrainTarget> {
  const { hosts, machines, coordinator } = c.req.query();
  if (hosts !== undefined) return { kind: "hostType", name: hosts };
  if (machines !== undefined) return { kind: "machine", id: await machineOf(deps.sql, machines) };
  return coordinator === undefined ? { kind: "farm" } : { kind: "coordinator", id: deps.coordinator };
}

async function noteOf(c: Ctx): Promise<string> {
  const form = await c.req.parseBody();
  return typeof form.note === "string" ? form.note.slice(0, NOTE_LIMIT) : "";
}

/** The page that the button is on. */
function back(c: Ctx, otherwise: string): string {
  try {
    const from = new URL(c.req.header("referer") ?? "");
    return from.host === new URL(c.req.url).host ? from.pathname + from.search : otherwise;
  } catch {
    return otherwise;
  }
}

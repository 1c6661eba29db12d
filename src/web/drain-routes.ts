/**
 * Drain and resume. What is drained gets nothing new; what is resumed gets work again.
 *
 *   POST /machines/ID-OR-NAME/drain|resume   /hosts/TYPE/drain|resume   /farm/drain|resume   /coordinator/drain|resume
 *   POST /named/NAME/drain|resume            NAME is a host type or a machine, as the command line gives it
 *   GET  /running?farm|coordinator|hosts=TYPE|machines=ID-OR-NAME|named=NAME
 *                                            how many machines are at work there, for a caller that waits for a drain
 */
import { Hono } from "hono";
import { type DrainTarget, runningOn } from "../store/drain.ts";
import type { Act } from "./acting.ts";
import type { Actions, WebDeps } from "./deps.ts";
import { back, type Ctx, type Env, json } from "./http.ts";
import { hostTypeOf, machineOf, namedTarget } from "./named.ts";

const NOTE_LIMIT = 200;

export function drainRoutes(deps: Pick<WebDeps, "actions" | "sql" | "coordinator">, act: Act): Hono<Env> {
  const routes = new Hono<Env>();
  const { actions, sql } = deps;
  const whole = { kind: "coordinator", id: deps.coordinator } as const;

  routes.post("/machines/:name/:do{drain|resume}", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      const id = await machineOf(sql, c.req.param("name"));
      return turn(actions, who, c, { kind: "machine", id }, `machine ${c.req.param("name")} takes`);
    }),
  );
  routes.post("/hosts/:name/:do{drain|resume}", (c) =>
    act(c, back(c, `/builders#${encodeURIComponent(c.req.param("name"))}`), async (who) => {
      const name = await hostTypeOf(sql, c.req.param("name"));
      return turn(actions, who, c, { kind: "hostType", name }, `machines of ${name} take`);
    }),
  );
  routes.post("/named/:name/:do{drain|resume}", (c) =>
    act(c, back(c, "/machines"), async (who) => {
      const name = c.req.param("name");
      const target = await namedTarget(sql, name);
      return turn(
        actions,
        who,
        c,
        target,
        target.kind === "machine" ? `machine ${name} takes` : `machines of ${name} take`,
      );
    }),
  );
  routes.post("/farm/:do{drain|resume}", (c) =>
    act(c, back(c, "/status"), (who) => turn(actions, who, c, { kind: "farm" }, "the farm takes")),
  );
  routes.post("/coordinator/:do{drain|resume}", (c) =>
    act(c, back(c, "/status"), (who) => turn(actions, who, c, whole, "machines of this coordinator take")),
  );
  routes.get("/running", async (c) => json(c, 200, { running: await runningOn(sql, await targetOf(deps, c)) }));
  return routes;
}

/** Drains or resumes `target`, as the address says. `takes` is the beginning of the message about it. */
async function turn(
  actions: Actions,
  who: string,
  c: Ctx,
  target: DrainTarget,
  takes: string,
): Promise<{ message: string }> {
  if (c.req.param("do") === "resume") {
    await actions.resume(target, who);
    return { message: `${takes} work again` };
  }
  await actions.drain(target, await noteOf(c), who);
  return { message: `${takes} nothing new${target.kind === "coordinator" ? " until it is started again" : ""}` };
}

async function targetOf(deps: Pick<WebDeps, "sql" | "coordinator">, c: Ctx): Promise<DrainTarget> {
  const { hosts, machines, named, coordinator } = c.req.query();
  if (hosts !== undefined) return { kind: "hostType", name: await hostTypeOf(deps.sql, hosts) };
  if (machines !== undefined) return { kind: "machine", id: await machineOf(deps.sql, machines) };
  if (named !== undefined) return namedTarget(deps.sql, named);
  return coordinator === undefined ? { kind: "farm" } : { kind: "coordinator", id: deps.coordinator };
}

async function noteOf(c: Ctx): Promise<string> {
  const form = await c.req.parseBody();
  return typeof form.note === "string" ? form.note.slice(0, NOTE_LIMIT) : "";
}

/**
 * Pages of machines that people borrow, and their buttons.
 *
 *   /gomotes                        the instances of the person who asks; an operator sees all
 *                                   POST: type, borrows a machine
 *   /gomotes/NAME-OR-NUMBER         one instance
 *     /extend  /destroy             POST, by its borrower
 *     /end                          POST, by its borrower, the owner of its machine, or an operator
 *     /commands/NUMBER              one command, with all its words
 *       /kill                       POST, by anybody who may see the command
 *     /files  /file  /download      its files: gomote-file-routes.ts
 *     /recordings/COMMAND.cast      what a shell printed, an asciicast
 *     /shell                        the shell itself: terminal-door.ts
 *   /b/ID/hold                      POST: the machine of a failed build becomes an instance of the person who asks
 *
 * gomote/access.ts decides who may do what.
 */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import { buildId } from "../farm/ids.ts";
import { type Rights, rightsOrRefusal } from "../gomote/access.ts";
import { buildFacts, recipeOf } from "../store/pages-build.ts";
import type { InstanceRow } from "../store/pages-gomote.ts";
import { recordingOf } from "../store/recordings.ts";
import { actorOf, personOf } from "./acting.ts";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { gomoteFileRoutes } from "./gomote-file-routes.ts";
import type { Waits } from "./gomote-waits.ts";
import { back, type Ctx, type Env, formOf, json, OWN, positive, send, wantsJson } from "./http.ts";
import { type Identity, nameOf } from "./identity.ts";
import { commandData, gomoteData, gomotesData, hostOf, instanceAt, placeAt } from "./pages/gomotes.ts";
import { reachedAt } from "./reached.ts";

const unpacked = promisify(gunzip);
const NOTE_LIMIT = 200;

export type GomoteRoutesDeps = Pick<WebDeps, "sql" | "clock" | "config" | "dialAddress" | "lending"> & {
  readonly waits: Waits;
};

export function gomoteRoutes(deps: GomoteRoutesDeps, pages: Pages): Hono<Env> {
  const { sql, clock, config, lending, waits } = deps;
  const { instances } = lending;
  const { identities } = pages;
  const routes = new Hono<Env>();

  /** The instance that the address names, and what `who` may do with it. Throws FarmError when `who` may not see it. */
  const seen = async (c: Ctx, { who }: Pick<Identity, "who">): Promise<[InstanceRow, Rights]> => {
    const text = c.req.param("id") ?? "";
    const instance = await pages.load(instanceAt(sql, text));
    if (!instance)
      throw new FarmError("not-found", `There is no instance ${JSON.stringify(text.slice(0, 200))}, and was none.`);
    return [instance, rightsOrRefusal(who, instance, hostOf(config(), instance.hostType))];
  };

  routes.get("/gomotes", async (c) => {
    const { who } = await identities.of(c);
    const data = await pages.load(gomotesData(sql, config(), who, clock.now()));
    return pages.answer(c, 200, "Gomotes", { name: "gomotes", data }, ["gomote:", "queue:", "session:"], OWN);
  });

  routes.post("/gomotes", async (c) => {
    const { person } = await personOf(identities, c);
    const type = (await formOf(c))("type");
    await waits.begin(person, type);
    return done(c, `an instance of ${type} is asked for`, "/gomotes");
  });

  routes.post("/b/:id/hold", (c) => keepMachine(c, deps, pages));

  routes.get("/gomotes/:id", async (c) => {
    const [instance, rights] = await seen(c, await identities.of(c));
    const data = await pages.load(
      gomoteData(sql, instance, rights, reachedAt(c, deps), placeAt(c.req.query("after")), clock.now()),
    );
    const topics = [`gomote:${instance.id}`, ...(instance.upAt === null ? ["queue:"] : [])];
    return pages.answer(c, 200, instance.name, { name: "gomote", data }, topics, OWN);
  });

  routes.post("/gomotes/:id/extend", async (c) => {
    const { person } = await personOf(identities, c);
    const instance = await instances.use(person, c.req.param("id"));
    const { name } = instance;
    await lending.records(person, "extend", instance, "on its page");
    return done(c, `${name} has more time`, `/gomotes/${encodeURIComponent(name)}`);
  });

  routes.post("/gomotes/:id/destroy", async (c) => {
    const { person } = await personOf(identities, c);
    const name = c.req.param("id");
    await instances.destroy(person, name);
    return done(c, `${name} is destroyed`, "/gomotes");
  });

  routes.post("/gomotes/:id/end", async (c) => {
    const actor = await actorOf(identities, c);
    const [{ id, name, state }, { as }] = await seen(c, actor);
    if (state === "ended") throw new FarmError("conflict", `${name} has ended already.`);
    const note = (await formOf(c))("note").slice(0, NOTE_LIMIT);
    await instances.end({ id, who: nameOf(actor.who), action: "end", reason: endReason(as, note) });
    return done(c, `${name} is ended`, `/gomotes/${id}`);
  });

  routes.get("/gomotes/:id/commands/:command", async (c) => {
    const [instance] = await seen(c, await identities.of(c));
    const number = positive(c.req.param("command"));
    const data = number === undefined ? undefined : await pages.load(commandData(sql, instance, number));
    if (!data)
      throw new FarmError(
        "not-found",
        `There is no command ${JSON.stringify(c.req.param("command").slice(0, 100))} of ${instance.name}.`,
      );
    const title = `Command ${number} on ${instance.name}`;
    return pages.answer(c, 200, title, { name: "gomote-command", data }, [`gomote:${instance.id}`], OWN);
  });

  routes.post("/gomotes/:id/commands/:command/kill", async (c) => {
    const actor = await actorOf(identities, c);
    const [instance, { as }] = await seen(c, actor);
    const command = c.req.param("command");
    await lending.running.kill(instance, command, { who: nameOf(actor.who), as });
    return done(c, `command ${command} of ${instance.name} is over`, back(c, `/gomotes/${instance.id}`));
  });

  routes.get("/gomotes/:id/recordings/:command{[1-9][0-9]*\\.cast}", async (c) => {
    const [{ id }] = await seen(c, await identities.of(c));
    const command = Number(c.req.param("command").slice(0, -".cast".length));
    const parts = await recordingOf(sql, id, command);
    if (!parts) throw new FarmError("not-found", `There is no recording ${command} of this instance any more.`);
    const text = (await Promise.all(parts.map((part) => unpacked(part)))).join("");
    return send(c, 200, "application/x-asciicast", text, OWN);
  });

  routes.route("/", gomoteFileRoutes(deps, pages));
  return routes;
}

/** Makes the machine of a failed build an instance of the person who asks. */
async function keepMachine(c: Ctx, { sql, lending }: GomoteRoutesDeps, pages: Pages): Promise<Response> {
  const { person } = await personOf(pages.identities, c);
  const id = positive(c.req.param("id"));
  const [facts, asked] =
    id === undefined ? [] : await pages.load(Promise.all([buildFacts(sql, id), recipeOf(sql, id)]));
  if (id === undefined || !facts || !asked) throw new FarmError("not-found", `There is no build ${c.req.param("id")}.`);
  if (facts.outcome !== "failure")
    throw new FarmError("conflict", `Build ${id} has not failed: only the machine of one that has is kept here.`);
  const { builder, hostType } = asked.recipe;
  let name = "";
  for await (const news of lending.holds.hold(person, { id: buildId(id), builder, hostType }, c.req.raw.signal))
    if ("instance" in news) ({ name } = news.instance);
  return done(c, `the machine of build ${id} is ${name}`, `/b/${id}#machine`);
}

function done(c: Ctx, message: string, to: string): Response | Promise<Response> {
  return wantsJson(c) ? json(c, 200, { message }) : c.redirect(to, 303);
}

/** Why an instance ended, as its page says it. `note` is the text of the person who ended it, or "". */
function endReason(as: Rights["as"], note: string): string {
  const by = as === "borrower" ? "its owner ended it" : `the ${as} ended it`.replace("the operator", "an operator");
  return note === "" ? by : `${by}: ${note}`;
}

/**
 * Files of instances that people borrow, in the browser. Bytes stream between the browser and the machine; the farm
 * keeps none.
 *
 *   /gomotes/NAME/files?path=FOLDER     GET: what the folder holds
 *                                       PUT: path of a file, whose bytes are the body
 *                                       POST: path of the folder, the body a form with one file
 *     /files/delete                     POST: path of the folder, `name` (several) of what is deleted
 *     /file?path=FILE                   the bytes of one file; not from a machine with Windows
 *     /download?path=FOLDER             the folder as a tar.gz
 *
 * Only the borrower of an instance may do any of this.
 */
import { Readable } from "node:stream";
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import type { Person } from "../farm/person.ts";
import type { HeldInstance } from "../gomote/holdings.ts";
import { listed, packed } from "../gomote/machine-files.ts";
import { want, wantBelow } from "../gomote/rpc/requests.ts";
import { readUploadForm } from "../gomote/transfers/upload-form.ts";
import type { BuildletClient } from "../machines/machine-session.ts";
import { linesIn } from "../wire/buildlet-api/ls-line.ts";
import { personOf } from "./acting.ts";
import type { Pages } from "./answering.ts";
import { attachment, bodyOf, metered, withMachine } from "./borrowed-machine.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, formOf, json, OWN, positive, valuesOf, wantsJson } from "./http.ts";
import { filesData } from "./pages/gomote-files.ts";

/** How many files and folders one request may delete. */
const MOST_DELETED = 1000;

type FileDeps = Pick<WebDeps, "lending" | "clock" | "config">;

export function gomoteFileRoutes(deps: FileDeps, pages: Pages): Hono<Env> {
  const routes = new Hono<Env>();
  routes.get("/gomotes/:id/files", (c) => showFolder(c, deps, pages));
  routes.put("/gomotes/:id/files", (c) => putFile(c, deps, pages));
  routes.post("/gomotes/:id/files", (c) => postFile(c, deps, pages));
  routes.post("/gomotes/:id/files/delete", (c) => deleteFiles(c, deps, pages));
  routes.get("/gomotes/:id/file", (c) => sendFile(c, deps, pages));
  routes.get("/gomotes/:id/download", (c) => sendFolder(c, deps, pages));
  return routes;
}

async function showFolder(c: Ctx, { lending }: FileDeps, pages: Pages): Promise<Response> {
  const person = await borrowerOf(c, pages);
  const path = folderOf(c.req.query("path"));
  return withMachine(c, lending, person, async (held, signal) => {
    const { instance } = held;
    wantBelow(path || ".", instance);
    const listing = await listed(held, path || ".", {}, signal);
    const view = {
      instance: instance.name,
      path,
      filter: (c.req.query("q") ?? "").slice(0, 200),
      page: positive(c.req.query("page")) ?? 1,
      sendsFiles: sendsFiles(instance),
    };
    const data = await filesData(view, linesIn(listing));
    if (!data) return c.redirect(`${addressOf(instance.name)}/file?path=${encodeURIComponent(path)}`, 303);
    return pages.answer(c, 200, `Files of ${instance.name}`, { name: "gomote-files", data }, [], OWN);
  });
}

async function putFile(c: Ctx, deps: FileDeps, pages: Pages): Promise<Response> {
  const { person } = await personOf(pages.identities, c);
  const path = folderOf(c.req.query("path"));
  return withMachine(c, deps.lending, person, async ({ instance, machine }, signal) => {
    want(path !== "", "Cannot write a file without its path.");
    wantBelow(path, instance);
    await deps.lending.records(person, "write", instance, path);
    await machine.client.writeFile(path, 0o644, bodyOf(c, path, deps), signal);
    return json(c, 200, { message: `${path} is on ${instance.name}` });
  });
}

/** Takes the form that a browser without script sends. */
async function postFile(c: Ctx, deps: FileDeps, pages: Pages): Promise<Response> {
  const { person } = await personOf(pages.identities, c);
  const folder = folderOf(c.req.query("path"));
  return withMachine(c, deps.lending, person, async ({ instance, machine }, signal) => {
    const form = bodyOf(c, "the form", deps);
    const { file, fileName, end } = await readUploadForm(form, c.req.header("content-type") ?? "");
    want(fileName !== "", "Cannot upload nothing: choose a file first.");
    const path = folderOf(folder === "" ? fileName : `${folder}/${fileName}`);
    wantBelow(path, instance);
    await deps.lending.records(person, "write", instance, path);
    await machine.client.writeFile(path, 0o644, file, signal);
    await end;
    if (wantsJson(c)) return json(c, 200, { message: `${path} is on ${instance.name}` });
    return c.redirect(filesOf(instance.name, folder), 303);
  });
}

async function deleteFiles(c: Ctx, { lending }: FileDeps, pages: Pages): Promise<Response> {
  const { person } = await personOf(pages.identities, c);
  return withMachine(c, lending, person, async ({ instance, machine }, signal) => {
    const path = folderOf((await formOf(c))("path"));
    const names = await valuesOf(c, "name");
    want(names.length > 0, "Cannot delete nothing: tick what shall go.");
    want(
      names.length <= MOST_DELETED,
      `Cannot delete ${names.length} at once: want at most ${MOST_DELETED}, or a folder with all of them.`,
    );
    const paths = names.map((name) => folderOf(path === "" ? name : `${path}/${name}`));
    for (const each of paths) {
      want(each !== "", "Cannot delete the work folder itself: destroy the instance.");
      wantBelow(each, instance);
    }
    await lending.records(person, "remove", instance, paths.join(" "));
    await machine.client.removeAll(paths, signal);
    const message = `${paths.length === 1 ? `${paths[0]} is` : `${paths.length} are`} deleted on ${instance.name}`;
    if (wantsJson(c)) return json(c, 200, { message });
    return c.redirect(filesOf(instance.name, path), 303);
  });
}

async function sendFile(c: Ctx, { lending, clock }: FileDeps, pages: Pages): Promise<Response> {
  const person = await borrowerOf(c, pages);
  const path = folderOf(c.req.query("path"));
  return withMachine(c, lending, person, async (held, signal) => {
    const { instance, machine } = held;
    want(path !== "", "Cannot send a file without its path.");
    wantBelow(path, instance);
    want(
      sendsFiles(instance),
      `Cannot send a file from ${instance.name} by itself, its machine runs Windows: download its folder.`,
    );
    want(
      await isFile(await listed(held, path, {}, signal)),
      `Cannot send ${JSON.stringify(path.slice(0, 200))}: it is no file.`,
    );
    await lending.records(person, "read", instance, path);
    const bytes = Readable.fromWeb(fileOf(machine.client, path, signal) as never);
    return attachment(
      metered(bytes, { clock, what: path }),
      "application/octet-stream",
      path.split("/").at(-1) ?? path,
    );
  });
}

async function sendFolder(c: Ctx, { lending, clock }: FileDeps, pages: Pages): Promise<Response> {
  const person = await borrowerOf(c, pages);
  const path = folderOf(c.req.query("path"));
  return withMachine(c, lending, person, async (held, signal) => {
    const { instance } = held;
    wantBelow(path || ".", instance);
    await lending.records(person, "read", instance, path || ".");
    const name = `${path.split("/").at(-1) || instance.name}.tar.gz`;
    const body = metered(await packed(held, path || ".", signal), { clock, what: name });
    return attachment(body, "application/gzip", name);
  });
}

/** The person who reads. Reading changes nothing, so a request from another site's page needs no refusal. */
async function borrowerOf(c: Ctx, { identities }: Pages): Promise<Person> {
  const { who } = await identities.of(c);
  if (who.kind === "person") return who.person;
  if (who.kind === "nobody")
    throw who.refusal ?? new FarmError("unauthenticated", "Log in to see files of your instances.");
  throw new FarmError(
    "forbidden",
    "Cannot show files to the operator token, which is nobody's own: only who borrows an instance sees them.",
  );
}

function addressOf(instance: string): string {
  return `/gomotes/${encodeURIComponent(instance)}`;
}

function filesOf(instance: string, folder: string): string {
  return `${addressOf(instance)}/files${folder === "" ? "" : `?path=${encodeURIComponent(folder)}`}`;
}

/** A path as people type it, without slashes around it; "" and "." are the work folder. */
function folderOf(text: string | undefined): string {
  const path = (text ?? "").slice(0, 4000).replace(/^(\.?\/)+|\/+$/g, "");
  return path === "." ? "" : path;
}

function sendsFiles({ workingDir }: HeldInstance["instance"]): boolean {
  return workingDir?.startsWith("/") ?? false;
}

/** The listing of a file has one line, without a name. */
async function isFile(listing: Readable): Promise<boolean> {
  let found: boolean | undefined;
  for await (const lines of linesIn(listing)) {
    for (const line of lines) found = found === undefined && /^-[rwx-]+\t\t/.test(line);
    if (found === false) break;
  }
  return found === true;
}

/**
 * The bytes of a file, by `cat`: a machine's API has no call for one file. The stream errors when `cat` fails in the
 * middle.
 */
function fileOf(client: BuildletClient, path: string, signal: AbortSignal): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const command = { cmd: "cat", args: [`./${path}`], env: [], path: [], system: true };
  client
    .exec(command, (chunk) => writer.write(chunk), signal)
    .then(({ state, ok }) => (ok ? writer.close() : writer.abort(new Error(`cat ended with ${state}`))))
    .catch((error: unknown) => writer.abort(error).catch(() => {})); // the reader is gone already
  return readable;
}

/**
 * Files of instances that people borrow, in the browser. They go between it and the machine as they come; nothing is kept here.
 *
 *   /gomotes/NAME/files?path=FOLDER     what lies there                PUT: path of a file, whose bytes are the body
 *                                                                        POST: path of the folder, the body a form with one file
 *     /files/delete                     POST: path of the folder, name (several) of what goes
 *     /file?path=FILE                   the bytes of one, from a machine that is no Windows
 *     /download?path=FOLDER             the folder as a tar.gz
 *
 * By its borrower alone, here or, where its machine is connected elsewhere, over there.
 */
import { pipeline, Readable } from "node:stream";
import { Hono } from "hono";
import { FarmError } from "../farm/errors.ts";
import type { Person } from "../farm/person.ts";
import type { HeldInstance } from "../gomote/holdings.ts";
import { HeldElsewhere } from "../gomote/instances.ts";
import { listed, packed } from "../gomote/machine-files.ts";
import { want, wantBelow } from "../gomote/rpc/requests.ts";
import { Meter } from "../gomote/transfers/meter.ts";
import { readUploadForm } from "../gomote/transfers/upload-form.ts";
import type { BuildletClient } from "../machines/machine-session.ts";
import { linesIn } from "../wire/buildlet-api/ls-line.ts";
import { personOf } from "./acting.ts";
import type { Pages } from "./answering.ts";
import type { WebDeps } from "./deps.ts";
import { type Ctx, type Env, formOf, json, OWN, positive, valuesOf, wantsJson } from "./http.ts";
import { filesData } from "./pages/gomote-files.ts";
import { passOn } from "./pass-on.ts";

/** Deleted at once. */
const MOST_DELETED = 1000;

export function gomoteFileRoutes(
  { lending, clock, config }: Pick<WebDeps, "lending" | "clock" | "config">,
  pages: Pages,
): Hono<Env> {
  const { instances, records } = lending;
  const { identities } = pages;
  const routes = new Hono<Env>();

  /**
   * Works with the machine of somebody's instance, here or where it is; in use until all of the answer has been taken, or nobody takes it. The
   * signal aborts then, too: nothing that the machine does for an answer outlives it.
   */
  const withMachine = async (
    c: Ctx,
    person: Person,
    work: (held: HeldInstance, signal: AbortSignal) => Promise<Response>,
  ): Promise<Response> => {
    try {
      const held = await instances.held(person, c.req.param("id") ?? "");
      const left = new AbortController();
      using kept = new DisposableStack();
      kept.defer(() => left.abort(new FarmError("canceled", "Whoever asked for it has it, or left")));
      kept.use(instances.keep(held.instance));
      const response = await work(held, AbortSignal.any([c.req.raw.signal, held.over, left.signal]));
      if (response.body === null) return response;
      if (c.req.method === "HEAD") {
        await response.body.cancel();
        return response;
      }
      const inUse = kept.move();
      return new Response(
        whileRead(response.body, () => inUse.dispose()),
        response,
      );
    } catch (error) {
      if (error instanceof HeldElsewhere) return await passOn(c, lending, error.coordinator);
      throw error;
    }
  };

  routes.get("/gomotes/:id/files", async (c) => {
    const person = await borrowerOf(c);
    const path = folderOf(c.req.query("path"));
    return withMachine(c, person, async (held, signal) => {
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
  });

  routes.put("/gomotes/:id/files", async (c) => {
    const { person } = await personOf(identities, c);
    const path = folderOf(c.req.query("path"));
    return withMachine(c, person, async ({ instance, machine }, signal) => {
      want(path !== "", "Cannot write a file without its path.");
      wantBelow(path, instance);
      await records(person, "write", instance, path);
      await machine.client.writeFile(path, 0o644, bodyOf(c, path), signal);
      return json(c, 200, { message: `${path} is on ${instance.name}` });
    });
  });

  /** For a browser without script, which sends a form. */
  routes.post("/gomotes/:id/files", async (c) => {
    const { person } = await personOf(identities, c);
    const folder = folderOf(c.req.query("path"));
    return withMachine(c, person, async ({ instance, machine }, signal) => {
      const { file, fileName, end } = await readUploadForm(bodyOf(c, "the form"), c.req.header("content-type") ?? "");
      want(fileName !== "", "Cannot upload nothing: choose a file first.");
      const path = folderOf(folder === "" ? fileName : `${folder}/${fileName}`);
      wantBelow(path, instance);
      await records(person, "write", instance, path);
      await machine.client.writeFile(path, 0o644, file, signal);
      await end;
      if (wantsJson(c)) return json(c, 200, { message: `${path} is on ${instance.name}` });
      return c.redirect(filesOf(instance.name, folder), 303);
    });
  });

  routes.post("/gomotes/:id/files/delete", async (c) => {
    const { person } = await personOf(identities, c);
    return withMachine(c, person, async ({ instance, machine }, signal) => {
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
      await records(person, "remove", instance, paths.join(" "));
      await machine.client.removeAll(paths, signal);
      const message = `${paths.length === 1 ? `${paths[0]} is` : `${paths.length} are`} deleted on ${instance.name}`;
      if (wantsJson(c)) return json(c, 200, { message });
      return c.redirect(filesOf(instance.name, path), 303);
    });
  });

  routes.get("/gomotes/:id/file", async (c) => {
    const person = await borrowerOf(c);
    const path = folderOf(c.req.query("path"));
    return withMachine(c, person, async (held, signal) => {
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
      await records(person, "read", instance, path);
      return attachment(
        metered(Readable.fromWeb(fileOf(machine.client, path, signal) as never), path),
        "application/octet-stream",
        path.split("/").at(-1) ?? path,
      );
    });
  });

  routes.get("/gomotes/:id/download", async (c) => {
    const person = await borrowerOf(c);
    const path = folderOf(c.req.query("path"));
    return withMachine(c, person, async (held, signal) => {
      const { instance } = held;
      wantBelow(path || ".", instance);
      await records(person, "read", instance, path || ".");
      const name = `${path.split("/").at(-1) || instance.name}.tar.gz`;
      const body = metered(await packed(held, path || ".", signal), name);
      return attachment(body, "application/gzip", name);
    });
  });

  function metered(bytes: Readable, what: string, limitBytes?: number): Meter {
    const meter = new Meter({ clock, what, limitBytes });
    pipeline(bytes, meter, () => {}); // an end of either is told by the meter
    return meter;
  }

  /** What is sent, as long as it goes on and is no larger than a file may be. */
  function bodyOf(c: Ctx, what: string): Meter {
    const { body } = c.req.raw;
    const bytes = body === null ? Readable.from([]) : Readable.fromWeb(body as never);
    return metered(bytes, what, config().gomote.transferLimitBytes);
  }

  /** Reading needs no page of ours, only somebody who is logged in. */
  async function borrowerOf(c: Ctx): Promise<Person> {
    const { who } = await identities.of(c);
    if (who.kind === "person") return who.person;
    if (who.kind === "nobody")
      throw who.refusal ?? new FarmError("unauthenticated", "Log in to see files of your instances.");
    throw new FarmError(
      "forbidden",
      "Cannot show files to the operator token, which is nobody's own: only who borrows an instance sees them.",
    );
  }

  return routes;
}

function addressOf(instance: string): string {
  return `/gomotes/${encodeURIComponent(instance)}`;
}

function filesOf(instance: string, folder: string): string {
  return `${addressOf(instance)}/files${folder === "" ? "" : `?path=${encodeURIComponent(folder)}`}`;
}

/** As people type it: without slashes around, "." is the work folder. */
function folderOf(text: string | undefined): string {
  const path = (text ?? "").slice(0, 4000).replace(/^(\.?\/)+|\/+$/g, "");
  return path === "." ? "" : path;
}

function sendsFiles({ workingDir }: HeldInstance["instance"]): boolean {
  return workingDir?.startsWith("/") ?? false;
}

/** What was listed has one line, without a name. */
async function isFile(listing: Readable): Promise<boolean> {
  let found: boolean | undefined;
  for await (const lines of linesIn(listing)) {
    for (const line of lines) found = found === undefined && /^-[rwx-]+\t\t/.test(line);
    if (found === false) break;
  }
  return found === true;
}

/** The bytes of a file. A machine's API has no call for that, and `cat` is on every Unix; what fails in the middle breaks off. */
function fileOf(client: BuildletClient, path: string, signal: AbortSignal): ReadableStream<Uint8Array> {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  const writer = writable.getWriter();
  const command = { cmd: "cat", args: [`./${path}`], env: [], path: [], system: true };
  client
    .exec(command, (chunk) => writer.write(chunk), signal)
    .then(({ state, ok }) => (ok ? writer.close() : writer.abort(new Error(`cat ended with ${state}`))))
    .catch((error: unknown) => writer.abort(error).catch(() => {})); // whoever read it went away
  return readable;
}

/** `body`; `ended` is called once, when it was read to its end, broke (also when nobody reads it), or is not wanted any more. */
function whileRead(body: ReadableStream<Uint8Array>, ended: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream({
    start(controller) {
      reader.closed.catch((error: unknown) => controller.error(error)).finally(ended);
    },
    async pull(controller) {
      const piece = await reader.read();
      if (piece.done) controller.close();
      else controller.enqueue(piece.value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

function attachment(body: Readable, type: string, name: string): Response {
  const disposition = `attachment; filename*=UTF-8''${encodeURIComponent(name.toWellFormed())}`;
  const headers = { ...OWN, "Content-Type": type, "Content-Disposition": disposition };
  return new Response(Readable.toWeb(body) as ReadableStream<Uint8Array>, { headers });
}

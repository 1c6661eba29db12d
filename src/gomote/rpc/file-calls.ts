/**
 * Methods of protos.GomoteService that list, read, write and remove files of an instance (gomote-service.ts).
 *
 * The contents of files do not travel in these calls. The caller posts a file to a URL, and names that URL to have the
 * file written to the machine. What the caller reads from a machine is fetched from a URL (../transfers/transfers.ts).
 */
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { FarmError } from "../../farm/errors.ts";
import type { Person } from "../../farm/person.ts";
import { linesIn } from "../../wire/buildlet-api/ls-line.ts";
import type { GomoteService, ListDirectoryRequest } from "../../wire/gomote/gen/gomote_pb.ts";
import { batchesOf } from "../../wire/gomote/gomote.ts";
import type { HeldInstance } from "../holdings.ts";
import type { Instances } from "../instances.ts";
import { listed, packed } from "../machine-files.ts";
import { webUrl } from "../transfers/guarded-fetch.ts";
import type { Transfers } from "../transfers/transfers.ts";
import { emptyWorkDir, isWorkDir } from "../work-dir.ts";
import { callerOf, originOf } from "./calls.ts";
import { type Records, want, wantBelow } from "./requests.ts";
import { orAborted, orRefused } from "./rpc-error.ts";

/** Bytes of all entries of one answer: the 4 MiB that a client takes, less what surrounds them. */
const ANSWER_LIMIT = 4 * 1024 ** 2 - 1024;
/** Bytes that an answer needs for each entry beside its text: a tag, and the length. */
const AROUND_ENTRY = 4;

type FileCalls = Pick<
  ServiceImpl<typeof GomoteService>,
  | "listDirectory"
  | "listDirectoryStreaming"
  | "readTGZToURL"
  | "removeFiles"
  | "uploadFile"
  | "writeFileFromURL"
  | "writeTGZFromURL"
>;

export interface FileCallsDeps {
  readonly instances: Instances;
  readonly records: Records;
  readonly transfers: Pick<Transfers, "upload" | "keep" | "open">;
}

export function fileCalls(deps: FileCallsDeps): FileCalls {
  const { instances, records, transfers } = deps;
  return {
    async listDirectory(request, context) {
      return { entries: await inOneAnswer(entries(instances, request, context), request.directory) };
    },

    async *listDirectoryStreaming(request, context) {
      for await (const lines of entries(instances, request, context)) {
        for (const batch of batchesOf(lines)) yield { entries: batch };
      }
    },

    async readTGZToURL({ gomoteId, directory }, context) {
      const dir = directory || ".";
      const person = callerOf(context);
      const held = await instances.held(person, gomoteId);
      wantBelow(dir, held.instance);
      await records(person, "read", held.instance, dir);
      return { url: await keptArchive(deps, held, dir, context) };
    },

    async removeFiles({ gomoteId, paths }, context) {
      want(gomoteId !== "", "Cannot remove files without a gomote_id.");
      want(paths.length > 0, "Cannot remove files without their paths.");
      return await withMachine(instances, gomoteId, context, async ({ machine, instance }, person, signal) => {
        for (const path of paths) wantBelow(path, instance);
        await records(person, "remove", instance, paths.join(" "));
        if (paths.some(isWorkDir)) await emptyWorkDir(machine, signal);
        else await machine.client.removeAll(paths, signal);
        return {};
      });
    },

    async uploadFile(_, context) {
      const { url, fields, objectName } = await transfers.upload(callerOf(context), originOf(context));
      return { url, fields: { ...fields }, objectName };
    },

    async writeFileFromURL({ gomoteId, url, filename, mode }, context) {
      return await withMachine(instances, gomoteId, context, async ({ machine, instance }, person, signal) => {
        want(url !== "", "Cannot write a file without the URL of its bytes.");
        webUrl(url);
        wantBelow(filename, instance);
        want(mode <= 0o7777, `Cannot write a file with mode ${mode}: want permission bits.`);
        await records(person, "write", instance, filename);
        const body = await orAborted(transfers.open(person, url, signal));
        await orAborted(machine.client.writeFile(filename, mode || 0o644, body, signal));
        return {};
      });
    },

    async writeTGZFromURL({ gomoteId, url, directory }, context) {
      want(gomoteId !== "", "Cannot write an archive without a gomote_id.");
      want(url !== "", "Cannot write an archive without its URL.");
      webUrl(url);
      return await withMachine(instances, gomoteId, context, async ({ machine, instance }, person, signal) => {
        const dir = directory || ".";
        wantBelow(dir, instance);
        await records(person, "write", instance, `${dir}/`);
        const body = await orRefused(transfers.open(person, url, signal));
        await orRefused(machine.client.writeTgz(dir === "." ? "" : dir, body, signal));
        return {};
      });
    },
  };
}

/**
 * Does `work` with the machine of an instance. The instance is in use meanwhile. The signal aborts when the call or the
 * instance ends.
 */
async function withMachine<T>(
  instances: Instances,
  gomoteId: string,
  context: HandlerContext,
  work: (held: HeldInstance, person: Person, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const person = callerOf(context);
  const held = await instances.held(person, gomoteId);
  using _ = instances.keep(held.instance);
  return await work(held, person, AbortSignal.any([context.signal, held.over]));
}

/** The lines of a listing, as they come. */
async function* entries(
  instances: Instances,
  { gomoteId, directory, recursive, digest, skipFiles }: ListDirectoryRequest,
  context: HandlerContext,
): AsyncGenerator<string[]> {
  want(gomoteId !== "", "Cannot list a directory without a gomote_id.");
  want(directory !== "", `Cannot list a directory without its name; "." is the work dir.`);
  const held = await instances.held(callerOf(context), gomoteId);
  using _ = instances.keep(held.instance);
  wantBelow(directory, held.instance);
  const skip = skipFiles.filter((path) => path !== "");
  const signal = AbortSignal.any([context.signal, held.over]);
  yield* linesIn(await orAborted(listed(held, directory, { recursive, digest, skip }, signal)));
}

/** All lines of a listing. Throws FarmError `too-large` when one answer cannot hold them. */
async function inOneAnswer(listing: AsyncIterable<string[]>, directory: string): Promise<string[]> {
  const whole: string[] = [];
  let bytes = 0;
  for await (const lines of listing) {
    for (const line of lines) bytes += Buffer.byteLength(line) + AROUND_ENTRY;
    if (bytes > ANSWER_LIMIT)
      throw new FarmError(
        "too-large",
        `Cannot list ${JSON.stringify(directory.slice(0, 200))} in one answer, which no client takes above 4 MiB: use ListDirectoryStreaming, or list less.`,
      );
    whole.push(...lines);
  }
  return whole;
}

/**
 * The URL of an archive of folder `dir`. The archive goes on arriving after the call has ended, and the instance is in
 * use until all of it has come. A caller who leaves before there is a URL ends the archive.
 */
async function keptArchive(
  { instances, transfers }: FileCallsDeps,
  held: HeldInstance,
  dir: string,
  context: HandlerContext,
): Promise<string> {
  const { instance, over } = held;
  const inUse = instances.keep(instance);
  const done = () => inUse[Symbol.dispose]();
  const left = new AbortController();
  const leave = () => left.abort(new FarmError("canceled", "Whoever asked for the archive left"));
  context.signal.addEventListener("abort", leave, { once: true });
  try {
    const body = await orAborted(packed(held, dir, AbortSignal.any([left.signal, over])));
    const name = `${instance.name}.tar.gz`;
    const { url, whole } = await orAborted(transfers.keep(callerOf(context), originOf(context), name, body));
    whole.then(done, done);
    return url;
  } catch (error) {
    done();
    throw error;
  } finally {
    context.signal.removeEventListener("abort", leave);
  }
}

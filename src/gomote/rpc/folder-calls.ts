/** Methods of barnraiser.Gomote that bring a folder to an instance: listing what is there, and unpacking the rest. */
import { pipeline, Readable } from "node:stream";
import type { ServiceImpl } from "@connectrpc/connect";
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import type { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import type { Instances } from "../instances.ts";
import { listed } from "../machine-files.ts";
import { Meter } from "../transfers/meter.ts";
import { callerOf } from "./calls.ts";
import { type Records, want, wantBelow } from "./requests.ts";
import { orAborted } from "./rpc-error.ts";

/** Bytes of one message of a listing, well below the 4 MiB that a client takes. */
const MESSAGE_BYTES = 128 * 1024;

type FolderCalls = Pick<ServiceImpl<typeof Gomote>, "listFolder" | "pushFiles">;

export interface FolderCallsDeps {
  readonly clock: Clock;
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  readonly records: Records;
}

export function folderCalls({ clock, config, instances, records }: FolderCallsDeps): FolderCalls {
  return {
    async *listFolder({ gomoteId, directory, skip }, context) {
      want(directory !== "", `Cannot list a directory without its name; "." is the work dir.`);
      const held = await instances.held(callerOf(context), gomoteId);
      using _ = instances.keep(held.instance);
      wantBelow(directory, held.instance);
      const options = { recursive: true, digest: true, skip, nul: true };
      const listing = await orAborted(listed(held, directory, options, AbortSignal.any([context.signal, held.over])));
      for await (const lines of inMessages(listing)) yield { lines };
    },

    async pushFiles(messages, context) {
      const parts = messages[Symbol.asyncIterator]();
      const first = await parts.next();
      want(first.done !== true, "Cannot push files without saying where to.");
      if (first.done) return {};
      const { gomoteId, directory, tgz } = first.value;
      const person = callerOf(context);
      const held = await instances.held(person, gomoteId);
      using _ = instances.keep(held.instance);
      wantBelow(directory || ".", held.instance);
      await records(person, "write", held.instance, `${directory || "."}/`);
      const limitBytes = config().gomote.transferLimitBytes;
      const body = new Meter({ clock, what: "the push", limitBytes });
      // An error of the caller's stream ends `body` too, and so reaches writeTgz().
      pipeline(Readable.from(archive(tgz, parts), { objectMode: false }), body, () => {});
      const dir = directory === "." ? "" : directory;
      await held.machine.client.writeTgz(dir, body, AbortSignal.any([context.signal, held.over]));
      return {};
    },
  };
}

/** Gathers chunks: a connection gives a few kilobytes at a time, and each message is work for three programs. */
async function* inMessages(chunks: AsyncIterable<Buffer>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let waiting: Buffer[] = [];
  let length = 0;
  for await (const chunk of chunks) {
    waiting.push(chunk);
    length += chunk.length;
    if (length < MESSAGE_BYTES) continue;
    yield new Uint8Array(Buffer.concat(waiting));
    waiting = [];
    length = 0;
  }
  if (length > 0) yield new Uint8Array(Buffer.concat(waiting));
}

/** The bytes of an archive: those of the first message, then those of the messages that follow. */
async function* archive(
  first: Uint8Array,
  parts: AsyncIterator<{ readonly tgz: Uint8Array }>,
): AsyncGenerator<Uint8Array> {
  if (first.length > 0) yield first;
  for (let part = await parts.next(); !part.done; part = await parts.next()) yield part.value.tgz;
}

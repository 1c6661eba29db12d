import { createReadStream, existsSync } from "node:fs";
import { basename, resolve } from "node:path";
import { FarmError } from "../../farm/errors.ts";
import { text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import type { FarmClient } from "../farm-client.ts";
import { packFiles } from "../push/pack-files.ts";
import { forAll, type Session, UsageError } from "../session.ts";
import { upload } from "../transfer.ts";

export const puttar: Command = command({
  name: "puttar",
  summary: "unpack a tar.gz on instances",
  args: "[instance] <source>",
  help: "The source is a file, `-` for standard input, a URL that the farm may fetch, or a commit of the Go repository.",
  flags: { dir: text("", "the `folder` to unpack in, relative to the work dir") },
  run: async (session, { dir }, args) => {
    const source = args.at(-1);
    if (source === undefined || args.length > 2)
      throw new UsageError("want a source, and perhaps an instance before it");
    const ids = await session.instances(args.slice(0, -1));
    const client = await session.client();
    for (const url of await urlsOf(session, client, source))
      await forAll(ids, session.computer.signal, (id) => client.writeTgz(id, url, dir));
    return 0;
  },
});

/** The URLs of archives, in the order in which they are unpacked. */
async function urlsOf(session: Session, client: FarmClient, source: string): Promise<readonly string[]> {
  if (source === "-") return [await upload(client, "stdin.tar.gz", session.computer.stdin)];
  // A single letter before the colon is a drive.
  if (/^[A-Za-z][A-Za-z0-9+.-]+:\/\//.test(source)) return [source];
  const path = resolve(session.computer.cwd, source);
  if (existsSync(path)) return [await upload(client, basename(path), createReadStream(path))];
  if (!/^[0-9a-f]{7,40}$/.test(source)) {
    throw new FarmError(
      "bad-request",
      `Cannot use ${JSON.stringify(source)}: it is neither a file, nor a URL, nor a commit`,
    );
  }
  const version = packFiles({
    root: "",
    files: [],
    made: [{ name: "VERSION", text: `devel ${source}` }],
    isProgram: () => false,
    now: Math.floor(session.computer.clock.now() / 1000),
  });
  return [`https://go.googlesource.com/go/+archive/${source}.tar.gz`, await upload(client, "version.tar.gz", version)];
}

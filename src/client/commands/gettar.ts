import { join } from "node:path";
import { FarmError } from "../../farm/errors.ts";
import { text } from "../../farm/flags.ts";
import { parseLsLine } from "../../wire/buildlet-api/ls-line.ts";
import { type Command, command } from "../command.ts";
import type { FarmClient } from "../farm-client.ts";
import { sizeText } from "../push/push.ts";
import { forAll } from "../session.ts";
import { download } from "../transfer.ts";

export const gettar: Command = command({
  name: "gettar",
  summary: "fetch a folder of instances as tar.gz",
  args: "[instance]",
  help: "Writes INSTANCE.tar.gz in the current folder. It is there once it is whole.",
  flags: { dir: text(".", "the `folder` to fetch, relative to the work dir") },
  run: async (session, { dir }, args) => {
    const ids = await session.instances(args);
    const client = await session.client();
    if (dir !== "" && dir !== ".") await Promise.all(ids.map((id) => wantFolder(client, id, dir)));
    await forAll(ids, session.computer.signal, async (id, signal) => {
      const file = join(session.computer.cwd, `${id}.tar.gz`);
      const bytes = await download(await session.server(), await client.readTgz(id, dir || "."), file, signal);
      session.output.note(`wrote ${file}, ${sizeText(bytes)}`);
    });
    return 0;
  },
});

/** A machine that cannot pack breaks off without a word. */
async function wantFolder(client: FarmClient, id: string, dir: string): Promise<void> {
  const [first = ""] = await client.list(id, { directory: dir, recursive: false, digest: false, skipFiles: [] });
  if (parseLsLine(first)?.name !== "") return;
  const file = JSON.stringify(dir);
  throw new FarmError(
    "bad-request",
    `Cannot fetch ${file} of ${id}: it is a file. To see it: gomote run ${id} cat ${file}`,
  );
}

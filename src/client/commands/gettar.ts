import { join } from "node:path";
import { text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
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
    await forAll(ids, session.computer.signal, async (id, signal) => {
      const file = join(session.computer.cwd, `${id}.tar.gz`);
      const bytes = await download(await session.server(), await client.readTgz(id, dir || "."), file, signal);
      session.output.note(`wrote ${file}, ${sizeText(bytes)}`);
    });
    return 0;
  },
});

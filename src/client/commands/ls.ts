import { bool, text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { type Session, UsageError } from "../session.ts";

export const ls: Command = command({
  name: "ls",
  summary: "list a folder of instances",
  args: "[instance] [dir]",
  help: "One line each: mode, name relative to the folder, and of files size and time. The folder is relative to the work dir, which is the default.",
  flags: {
    R: bool(false, "with all that is below"),
    d: bool(false, "with the SHA-1 of each file"),
    skip: text("", "`folders` to leave out, with commas between, relative to the folder listed"),
  },
  run: async (session, flags, args) => {
    const { ids, directory } = await whatToList(session, args);
    const client = await session.client();
    const skipFiles = flags.skip === "" ? [] : flags.skip.split(",");
    const listing = { directory, recursive: flags.R, digest: flags.d, skipFiles };
    const listings = await Promise.all(ids.map((id) => client.list(id, listing)));
    for (const [at, lines] of listings.entries()) {
      if (ids.length > 1) await session.output.data(`# ${ids[at]}\n`);
      for (const line of lines) await session.output.data(`${line}\n`);
      if (ids.length > 1) await session.output.data("\n");
    }
    return 0;
  },
});

async function whatToList(
  session: Session,
  args: readonly string[],
): Promise<{ ids: readonly string[]; directory: string }> {
  if (args.length > 2) throw new UsageError(`want an instance and a folder, got ${args.length} arguments`);
  if (args.length === 0) return { ids: await session.instances([]), directory: "." };
  const [id, directory] = args;
  if (id !== undefined && directory !== undefined) return { ids: [id], directory };
  const { ids, words } = await session.instancesAndWords(args);
  return { ids, directory: words[0] ?? "." };
}

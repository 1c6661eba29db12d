import { type Command, command } from "../command.ts";
import { forAll, UsageError } from "../session.ts";

export const rm: Command = command({
  name: "rm",
  summary: "remove files and folders from instances",
  args: "[instance] <path>...",
  help: "Paths are relative to the work dir; a folder goes with all in it, and `.` is everything.",
  flags: {},
  run: async (session, _, args) => {
    const { ids, words } = await session.instancesAndWords(args);
    if (words.length === 0) throw new UsageError("want paths to remove");
    const client = await session.client();
    await forAll(ids, session.computer.signal, (id) => client.remove(id, words));
    return 0;
  },
});

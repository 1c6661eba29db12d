import { bool, text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { findTree, type LocalTree } from "../push/local-tree.ts";
import { Push } from "../push/push.ts";
import { forAll, type Session } from "../session.ts";

export const push: Command = command({
  name: "push",
  summary: "make a folder of instances the same as a local repository",
  args: "[instance]",
  help: `Sends the files of a git repository that git does not ignore, as they are, to a folder of the instance, but only those that differ,
and then removes from that folder what the repository does not have. What git would ignore stays as it is on both sides.

Without -from the repository is $GOROOT, else the one that the current folder is in, else Go's own tree. Go's goes to the folder go,
any other to a folder with its name.`,
  flags: {
    "dry-run": bool(false, "only say what would be sent and removed"),
    from: text("", "a `folder` of the repository to send"),
    dir: text("", "the `folder` of the instance, relative to its work dir"),
  },
  run: async (session, flags, args) => {
    const ids = await session.instances(args);
    const tree = await findTree(flags, session.computer.cwd, session.computer.env);
    await pushTo(session, tree, ids, flags["dry-run"]);
    return 0;
  },
});

export async function pushTo(
  session: Session,
  tree: LocalTree,
  ids: readonly string[],
  dryRun: boolean,
): Promise<void> {
  const { clock, platform, signal } = session.computer;
  const client = await session.client();
  const note = (line: string) => session.output.note(line);
  const known = await client.instances();
  const isWindows = (id: string) =>
    known.some(({ gomoteId, builderType, hostType }) => gomoteId === id && /windows/.test(builderType + hostType));
  const push = new Push({ client, clock, platform, cacheFolder: session.cacheFolder, note }, tree);
  note(`pushing ${tree.root} to ${ids.map((id) => `${id}:${tree.remote}`).join(", ")}`);
  await forAll(ids, signal, (id) => push.to({ id, isWindows: isWindows(id) }, dryRun));
}

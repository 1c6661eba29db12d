import { bool } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { type Session, UsageError } from "../session.ts";

export const destroy: Command = command({
  name: "destroy",
  summary: "end instances",
  args: "[instance]",
  help: "Ends the instance, or all of the group, and gives their machines back. They leave their groups.",
  flags: { "destroy-group": bool(false, "then remove the group as well") },
  run: async (session, flags, args) => {
    if (args.length === 0 && session.groupName === "") await showInstances(session);
    const removing = flags["destroy-group"];
    if (removing && args.length > 0) throw new UsageError("-destroy-group goes with a group, not with an instance");
    const client = await session.client();
    const groups = await session.groups();
    // An empty group can be removed, too.
    const group = args.length === 0 ? await session.group() : undefined;
    const ids = group ? group.instances : await session.instances(args);
    for (const id of ids) {
      session.output.note(`destroying ${id}`);
      await client.destroy(id);
      await groups.forget([id]);
    }
    if (removing && group) await groups.destroy(group.name);
    return 0;
  },
});

/** Lists the instances that could have been meant. */
async function showInstances(session: Session): Promise<void> {
  const instances = await (await session.client()).instances();
  if (instances.length === 0) return;
  const lines = instances.map(({ gomoteId }) => `\t${gomoteId}\n`);
  await session.output.data(`possible instances:\n${lines.join("")}`);
}

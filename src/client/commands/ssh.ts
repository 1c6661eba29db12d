import { text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { UsageError } from "../session.ts";
import { ssh as shell } from "../ssh.ts";

export const ssh: Command = command({
  name: "ssh",
  summary: "open a shell on an instance",
  args: "[instance] [arguments of ssh...]",
  help: `Runs the system's ssh with a certificate of a few minutes for the instance, or for the one in the group. What follows the instance is
for ssh: options such as -L 8080:localhost:80, and a command to run instead of a shell. Exit status: that of ssh.`,
  flags: { gateway: text("", "`HOST:PORT` of the farm's ssh gateway (default: what the farm says)") },
  run: async (session, { gateway }, args) => {
    const [first, ...more] = args;
    // Options of ssh without an instance are for the group's.
    const isForGroup = first === undefined || first.startsWith("-");
    const [id, ...others] = await session.instances(isForGroup ? [] : [first]);
    if (id === undefined || others.length > 0) throw new UsageError("want one instance, the group has several");
    return await shell(session, id, gateway, isForGroup ? args : more);
  },
});

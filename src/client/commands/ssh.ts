import { bool, text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { UsageError } from "../session.ts";
import { ssh as shell, sshConfig } from "../ssh.ts";

export const ssh: Command = command({
  name: "ssh",
  summary: "open a shell on an instance",
  args: "[instance] [arguments of ssh...]",
  help: `Runs the system's ssh with a certificate of a few minutes for the instance, or for the one in the group. What follows the instance is
for ssh: options such as -L 8080:localhost:80, and a command to run instead of a shell. Exit status: that of ssh; SIGTERM ends it with 143.

-config is for scp, sftp, rsync and whatever else runs ssh:

  gomote ssh -config ID > ssh_config
  scp -F ssh_config file ID:`,
  flags: {
    config: bool(false, "print lines for a configuration file of ssh, and end"),
    gateway: text("", "`HOST:PORT` of the farm's ssh gateway (default: what the farm says)"),
  },
  run: async (session, { config, gateway }, args) => {
    const [first, ...more] = args;
    // Options of ssh without an instance are for the group's.
    const isForGroup = first === undefined || first.startsWith("-");
    const [id, ...others] = await session.instances(isForGroup ? [] : [first]);
    if (id === undefined || others.length > 0) throw new UsageError("want one instance, the group has several");
    const forSsh = isForGroup ? args : more;
    if (!config) return await shell(session, id, gateway, forSsh);
    if (forSsh.length > 0)
      throw new UsageError(`want the instance alone with -config, got ${JSON.stringify(forSsh[0])} too`);
    await session.output.data(await sshConfig(session, id, gateway));
    return 0;
  },
});

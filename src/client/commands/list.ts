import { formatDuration } from "../../farm/flags.ts";
import { seconds } from "../../farm/ids.ts";
import { type Command, command } from "../command.ts";
import { UsageError } from "../session.ts";

export const list: Command = command({
  name: "list",
  summary: "list your instances",
  args: "",
  help: "One line each: id and groups, builder type, host type, and when it ends unless it is used. Listing does not count as use.",
  flags: {},
  run: async (session, _, args) => {
    if (args.length > 0) throw new UsageError("want no arguments");
    const client = await session.client();
    const [instances, groups] = await Promise.all([client.instances(), (await session.groups()).members()]);
    const now = Math.floor(session.computer.clock.now() / 1000);
    for (const { gomoteId, builderType, hostType, expires } of instances) {
      const names = [...groups].filter(([, ids]) => ids.includes(gomoteId)).map(([name]) => name);
      const left = formatDuration(seconds(Number(expires) - now));
      const id = names.length === 0 ? gomoteId : `${gomoteId} (${names.join(", ")})`;
      await session.output.data(`${id}\t${builderType}\t${hostType}\texpires in ${left}\n`);
    }
    return 0;
  },
});

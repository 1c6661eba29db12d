import { bool, formatDuration } from "../../farm/flags.ts";
import { seconds } from "../../farm/ids.ts";
import { type Command, command } from "../command.ts";
import { NotOffered } from "../trouble.ts";

export const ps: Command = command({
  name: "ps",
  summary: "list the commands that run on instances",
  args: "[instance]",
  help: `One line each: number, instance, for how long it has run or how it ended, and the command. Without an instance or a group: of all your instances.
\`gomote kill\` ends one by its number, whoever of your terminals it was begun in.`,
  flags: { a: bool(false, "those that ended lately as well") },
  run: async (session, { a: all }, args) => {
    const isForAll = args.length === 0 && (await session.group()) === undefined;
    const ids = isForAll ? [""] : await session.instances(args);
    const client = await session.client();
    const lists = await Promise.all(
      ids.map((gomoteId) =>
        client.ifOffered("list commands", (own, options) => own.listExecutions({ gomoteId }, options)),
      ),
    );
    const now = Math.floor(session.computer.clock.now() / 1000);
    for (const list of lists) {
      if (!list) throw new NotOffered("Cannot list commands: this farm does not offer that");
      for (const { id, gomoteId, argv, started, ended, processState } of list.executions) {
        if (ended !== 0n && !all) continue;
        const state =
          ended === 0n ? `running ${formatDuration(seconds(Math.max(0, now - Number(started))))}` : processState;
        // An argument may hold line feeds.
        const words = [state, argv.join(" ")].map((text) => text.replaceAll(/\s+/g, " "));
        await session.output.data(`${[id, gomoteId, ...words].join("\t")}\n`);
      }
    }
    return 0;
  },
});

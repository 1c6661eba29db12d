import { type Command, command } from "../command.ts";
import { UsageError } from "../session.ts";
import { NotOffered } from "../trouble.ts";

export const kill: Command = command({
  name: "kill",
  summary: "end a command that runs on an instance",
  args: "<instance> <number>...",
  help: "Ends commands with all that they started, by the numbers that `gomote ps` shows. One that has ended already is no failure.",
  flags: {},
  run: async (session, _, [gomoteId, ...numbers]) => {
    if (gomoteId === undefined || numbers.length === 0)
      throw new UsageError("want an instance and the numbers of its commands; `gomote ps` shows them");
    const client = await session.client();
    for (const executionId of numbers) {
      const killed = await client.ifOffered(`end command ${executionId} of ${gomoteId}`, (own, options) =>
        own.killExecution({ gomoteId, executionId }, options),
      );
      if (!killed) throw new NotOffered("Cannot end a command: this farm does not offer that");
    }
    return 0;
  },
});

import { messageOf } from "../../farm/errors.ts";
import { bool } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";

export const ping: Command = command({
  name: "ping",
  summary: "tell whether instances live, and renew them",
  args: "[instance]",
  help: "Says of the instance, or of each of the group, whether it lives. Its time starts anew.",
  flags: { strict: bool(false, "exit with 1 when one of them does not live") },
  run: async (session, { strict }, args) => {
    const client = await session.client();
    const ids = await session.instances(args);
    const lives = await Promise.all(
      ids.map(async (id) => {
        const answer = await client.alive(id).catch(messageOf);
        session.output.note(`${id}: ${answer === true ? "alive" : answer || "there is no such instance"}`);
        return answer === true;
      }),
    );
    return strict && lives.includes(false) ? 1 : 0;
  },
});

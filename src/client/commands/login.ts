import { FarmError } from "../../farm/errors.ts";
import { bool } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { Connection } from "../connection.ts";
import { deviceLogin } from "../device-login.ts";
import { FarmClient } from "../farm-client.ts";
import { rememberServer, writeToken } from "../server.ts";
import { type Session, UsageError } from "../session.ts";

export const login: Command = command({
  name: "login",
  summary: "make yourself known to a farm",
  args: "",
  help: `Shows a code to enter on the farm's page, and keeps the token that the farm then gives, readable by you alone. The farm of -server, and its
-ca-file, are remembered: other commands then need neither. A token that was kept before stays until there is a good one.`,
  flags: { token: bool(false, "take a token that the farm's operator gave you from standard input instead") },
  run: async (session, flags, args) => {
    if (args.length > 0) throw new UsageError("want no arguments");
    const { computer, output } = session;
    const server = await session.server();
    const token = flags.token
      ? await typedToken(session)
      : await deviceLogin(
          {
            server,
            clock: computer.clock,
            show: (address, code) => output.data(`Please open ${address} in a browser and enter the code: ${code}\n`),
          },
          computer.signal,
        );
    await using connection = new Connection(server, computer.env, async () => token, computer.signal);
    await new FarmClient(connection, session.computer.clock).authenticate();
    await writeToken(server, token);
    await rememberServer(session.configFolder, server);
    output.note(`logged in to ${server.name}`);
    return 0;
  },
});

async function typedToken(session: Session): Promise<string> {
  let text = "";
  for await (const chunk of session.computer.stdin) text += Buffer.from(chunk).toString();
  const token = text.trim();
  if (/^[!-~]+$/.test(token)) return token;
  throw new FarmError("bad-request", "Cannot use what standard input gave: want the token, which is one word");
}

import { FarmError } from "../../farm/errors.ts";
import { type Command, command } from "../command.ts";

export const rdp: Command = command({
  name: "rdp",
  summary: "there is none: use ssh",
  args: "[argument...]",
  help: "Remote desktops are not served. To reach a port of an instance: gomote ssh <instance> -L 3389:localhost:3389",
  flags: {},
  run: async () => {
    throw new FarmError(
      "conflict",
      "Cannot open a remote desktop: none is served. Use gomote ssh <instance> -L 3389:localhost:3389",
    );
  },
});

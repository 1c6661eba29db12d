/** `genbuilderkey`: the key of a host type, or keys of single machines. See `-help` and docs/operate.md. */

import { issueKey, listKeys, revokeKey, sharedKey } from "../../coordinator/builder-keys.ts";
import { unknownHostType } from "../../coordinator/known-host-types.ts";
import { main } from "../../coordinator/program.ts";
import { bool, duration, parseFlags, text } from "../../farm/flags.ts";
import { ms } from "../../farm/ids.ts";
import { systemClock } from "../../store/system-clock.ts";

const USAGE = `Usage: genbuilderkey [-masterkey FILE] TYPE
       genbuilderkey -machine NAME [-expires DURATION] TYPE
       genbuilderkey -list | -revoke ID

Prints the key that machines of host type TYPE share, or with -machine a new key for one machine, which is shown this once.
`;

const flags = {
  data: text(".farm", "data `folder` of the farm"),
  secrets: text("", "`folder` with the farm's master key (default: -data)"),
  config: text("farm.config.ts", "the farm's configuration `file`; a TYPE that it does not have is warned of"),
  masterkey: text("", "`file` with the master key (default DATA/master.key, else $HOME/keys/gobuilder-master.key)"),
  machine: text("", "`name` of the one machine that the key is for"),
  expires: duration(ms(0), "with -machine: how long the key is good (default: until revoked)"),
  list: bool(false, "list the keys of machines: id, machine, type, made, expires, last used, revoked"),
  revoke: text("", "`id` of a machine's key to revoke; its session ends"),
};

await main(async () => {
  const parsed = parseFlags(USAGE, flags, process.argv.slice(2));
  if (parsed.kind === "stop") return parsed;
  const { values, args, given } = parsed;
  const one = args.length === 1 ? args[0] : undefined;
  const { data } = values;
  const warn = async (hostType: string) => {
    const warning = await unknownHostType(values.config, given.has("config"), hostType, systemClock);
    if (warning !== undefined) process.stderr.write(`${warning}\n`);
  };
  if (values.list && args.length === 0) {
    process.stdout.write(await listKeys(data));
  } else if (values.revoke && args.length === 0) {
    process.stdout.write(await revokeKey(data, values.revoke));
  } else if (one !== undefined && values.machine && !values.list && !values.revoke) {
    process.stdout.write(
      `${await issueKey(data, { machine: values.machine, hostType: one, expires: values.expires })}\n`,
    );
    await warn(one);
  } else if (one !== undefined && !values.list && !values.revoke) {
    process.stdout.write(`${await sharedKey(values.secrets || data, values.masterkey, one)}\n`);
    await warn(one);
  } else {
    return { text: USAGE, exitCode: 2 };
  }
  return 0;
});

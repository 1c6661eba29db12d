import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { FarmError } from "../../farm/errors.ts";
import { text } from "../../farm/flags.ts";
import { type Command, command } from "../command.ts";
import { forAll, UsageError } from "../session.ts";
import { upload } from "../transfer.ts";
import { systemWords } from "../trouble.ts";

const STDIN_MODE = 0o666;

export const put: Command = command({
  name: "put",
  summary: "put a file on instances",
  args: "[instance] <source or -> [destination]",
  help: "Writes the file to the destination, relative to the work dir; without one to its own name there. `-` is standard input and wants one.",
  flags: { mode: text("", "`octal` permissions (default: those of the source, 0666 for standard input)") },
  run: async (session, flags, args) => {
    const { ids, words } = await session.instancesAndWords(args);
    const [source, given, ...more] = words;
    if (source === undefined || more.length > 0) throw new UsageError("want a source and perhaps a destination");
    const isStdin = source === "-";
    if (isStdin && given === undefined) throw new UsageError("want a destination for standard input");
    const path = resolve(session.computer.cwd, source);
    const destination = given ?? basename(path);
    const mode = flags.mode === "" ? (isStdin ? STDIN_MODE : await modeOf(path)) : readMode(flags.mode);
    const client = await session.client();
    const url = await upload(client, basename(destination), isStdin ? session.computer.stdin : createReadStream(path));
    await forAll(ids, session.computer.signal, (id) => client.writeFile(id, url, destination, mode));
    return 0;
  },
});

function readMode(given: string): number {
  const mode = /^[0-7]{1,6}$/.test(given) ? Number.parseInt(given, 8) : Number.NaN;
  if (mode <= 0o777) return mode;
  throw new UsageError(`want octal permissions of a file for -mode, such as 755, not ${JSON.stringify(given)}`);
}

async function modeOf(path: string): Promise<number> {
  const stats = await stat(path).catch((error: unknown) => {
    throw new FarmError("bad-request", `Cannot read ${path}: ${systemWords(error)}`);
  });
  if (!stats.isFile())
    throw new FarmError("bad-request", `Cannot put ${path}: it is no file; puttar and push send folders`);
  return stats.mode & 0o777;
}

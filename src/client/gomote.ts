/** The command `gomote`: its flags, its commands, and the messages of failures. */
import { FarmError } from "../farm/errors.ts";
import { listFlags, parseFlags, text } from "../farm/flags.ts";
import type { Command } from "./command.ts";
import { create } from "./commands/create.ts";
import { destroy } from "./commands/destroy.ts";
import { gettar } from "./commands/gettar.ts";
import { group } from "./commands/group.ts";
import { kill } from "./commands/kill.ts";
import { list } from "./commands/list.ts";
import { login } from "./commands/login.ts";
import { ls } from "./commands/ls.ts";
import { ping } from "./commands/ping.ts";
import { ps } from "./commands/ps.ts";
import { push } from "./commands/push.ts";
import { put } from "./commands/put.ts";
import { puttar } from "./commands/puttar.ts";
import { rdp } from "./commands/rdp.ts";
import { repro } from "./commands/repro.ts";
import { rm } from "./commands/rm.ts";
import { run } from "./commands/run.ts";
import { ssh } from "./commands/ssh.ts";
import { type Computer, Session } from "./session.ts";
import { stoppedStatus } from "./stopped.ts";
import { CommandFailed, FARM_FAILED, localTrouble, NotOffered } from "./trouble.ts";

const COMMANDS: readonly Command[] = [
  create, destroy, gettar, group, kill, list, login, ls, ping, ps, push, put, puttar, rdp, repro, rm, run, ssh,
]; // biome-ignore format: one line

const FLAGS = {
  server: text("", "`HOST:PORT` of the farm (default: GOMOTE_SERVER, else the one of the last login)"),
  group: text("", "`name` of the active group (default: GOMOTE_GROUP)"),
  "ca-file": text(
    "",
    "`file` with the certificate of the farm's authority (default: GOMOTE_CA_FILE, else that of the last login)",
  ),
};

/** Runs the command that `argv` (without node and script) names. Resolves with the exit status. */
export async function gomote(argv: readonly string[], computer: Computer): Promise<number> {
  const { output, signal } = computer;
  const parsed = parseFlags(usage(), FLAGS, argv);
  if (parsed.kind === "stop") {
    output.usage(parsed.text);
    return parsed.exitCode === 0 ? 0 : 1;
  }
  const [name, ...rest] = parsed.args;
  const command = COMMANDS.find((each) => each.name === name);
  if (!command) {
    const wrong = name === undefined || name === "help" ? "" : `unknown command ${JSON.stringify(name)}\n`;
    output.usage(wrong + listFlags(usage(), FLAGS));
    return name === "help" ? 0 : 1;
  }
  await using session = new Session(computer, parsed.values);
  try {
    const status = await command.start(rest, session);
    return signal.aborted ? stoppedStatus(signal) : status;
  } catch (error) {
    if (signal.aborted) return stoppedStatus(signal);
    output.note(`gomote ${command.name}: ${sentence(error)}`);
    // A remote command may end with 1, too. A failure of the farm must look different.
    return command === run ? FARM_FAILED : 1;
  }
}

function sentence(error: unknown): string {
  if (error instanceof FarmError || error instanceof CommandFailed || error instanceof NotOffered) return error.message;
  if (!(error instanceof Error)) return String(error);
  if ("syscall" in error) return localTrouble(error);
  return error.stack ?? error.message; // this is our bug, so all of it is shown
}

function usage(): string {
  const width = Math.max(...COMMANDS.map(({ name }) => name.length));
  const lines = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `usage: gomote [flags] <command> [command flags] [arguments]

Machines of a build farm, to yourself for a while. Commands:

${lines.join("\n")}

\`gomote <command> -help\` says more of each. Flags of all commands, to be given before its name:
`;
}

import { join } from "node:path";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { bool, text, texts } from "../../farm/flags.ts";
import { broadcast, type Failure, type Outcome, outputFolder, worst } from "../broadcast.ts";
import { type Command, command } from "../command.ts";
import type { Command as RemoteCommand } from "../farm-client.ts";
import { meansSeveralLines } from "../line-search.ts";
import { splitPath } from "../path-list.ts";
import { forAll, type Session, UsageError } from "../session.ts";
import { download } from "../transfer.ts";
import { FARM_FAILED } from "../trouble.ts";

export const run: Command = command({
  name: "run",
  summary: "run a command on instances",
  args: "[instance] <cmd> [args...]",
  help: `Runs the command in its own folder or in -dir, and shows what it prints, of several instances line by line with the id before each.
Everything is in a file for each instance as well.
A command with a slash is one of the work dir, a plain word is looked for there and in PATH.

Exit status: the command's own, of several the worst; 127 when it could not be started (no such program, a -dir outside of the work dir), 128
and the signal's number when one ended it. 255 when it is not known how it ended: there is no such instance, or it has ended, you are not let in,
the farm, the machine or this computer failed, -collect could not fetch a work dir. 1 when \`run\` was typed wrongly. Ctrl-C stops the command on
the instance (130, SIGTERM 143), and a second one leaves at once.`,
  flags: {
    system: bool(false, "look for the command in the system only, and run it in the work dir"),
    debug: bool(false, "begin the output with how the command is run"),
    firewall: bool(false, "cut it off from the network"),
    collect: bool(false, "keep outputs in the current folder, and fetch the work dir there afterwards"),
    e: texts("`KEY=VALUE` for its environment"),
    path: text(
      "",
      "elements of its PATH, with commas between, and double quotes around one with a comma; $PATH, $WORKDIR",
    ),
    dir: text("", "the `folder` to run it in, relative to the work dir"),
    builderenv: text("", "`type` of builder whose environment it is to have"),
    until: text("", "run it again and again until a line of its output matches this regular `expression`"),
  },
  run: async (session, flags, args) => {
    const wrong = flags.e.find((pair) => !/^[^=]+=/.test(pair));
    if (wrong !== undefined) throw new UsageError(`want KEY=VALUE for -e, not ${JSON.stringify(wrong)}`);
    const until = flags.until === "" ? undefined : expressionOf(flags.until);
    const { ids, words } = await session.instancesAndWords(args);
    const [program, ...rest] = words;
    if (program === undefined) throw new UsageError("want a command to run");
    const remote: RemoteCommand = {
      command: program,
      args: rest,
      directory: flags.dir,
      systemLevel: flags.system || program.startsWith("/"),
      debug: flags.debug,
      imitateHostType: flags.builderenv,
      appendEnvironment: [...flags.e, `GO_DISABLE_OUTBOUND_NETWORK=${flags.firewall}`],
      path: flags.path === "" ? [] : flags.path === "EMPTY" ? ["$EMPTY"] : splitPath(flags.path),
    };
    const folder = flags.collect ? session.computer.cwd : await outputFolder(session);
    if (ids.length > 1 || flags.collect) session.output.note(`output goes to ${folder}`);
    const outcomes = await rounds(session, ids, folder, remote, until);
    for (const { id, failure } of outcomes)
      if (failure) session.output.note(`${isLost(failure) ? "gomote run" : id}: ${failure.message}`);
    const isCollected = !flags.collect || (await collect(session, ids));
    if (!isCollected || outcomes.some(({ failure }) => isLost(failure))) return FARM_FAILED;
    return until === undefined ? worst(outcomes) : 0;
  },
});

/** Whether the farm or the machine failed, not the command. */
function isLost(failure: Failure | undefined): boolean {
  return failure instanceof FarmError;
}

/**
 * The regular expression that was given. Flags at its beginning may be written as in Go, if JavaScript has them, too.
 * An expression that could never match is refused.
 */
function expressionOf(given: string): RegExp {
  const [, flags = "", pattern = ""] = /^(?:\(\?([ims]+)\))?([\s\S]*)$/.exec(given) ?? [];
  let expression: RegExp;
  try {
    expression = new RegExp(pattern, flags);
  } catch (error) {
    throw new UsageError(`cannot use -until: ${messageOf(error)}`);
  }
  if (meansSeveralLines(expression))
    throw new UsageError(
      `cannot use -until ${JSON.stringify(given)}: it is for several lines, and each line is looked at alone, without its line feed`,
    );
  return expression;
}

async function rounds(
  session: Session,
  ids: readonly string[],
  folder: string,
  remote: RemoteCommand,
  until: RegExp | undefined,
): Promise<readonly Outcome[]> {
  const done: Outcome[] = [];
  for (let left = ids; left.length > 0; ) {
    const outcomes = await broadcast(session, left, folder, remote, ids.length === 1 ? "as it is" : "with ids", until);
    if (until === undefined) return outcomes;
    const isDone = ({ matched, failure }: Outcome) => matched || isLost(failure);
    done.push(...outcomes.filter(isDone));
    left = outcomes.filter((outcome) => !isDone(outcome)).map(({ id }) => id);
    if (left.length > 0) session.output.note(`no match on ${left.join(", ")}; running again`);
  }
  return done;
}

/** Fetches all work dirs. Resolves with whether all of them came. */
async function collect(session: Session, ids: readonly string[]): Promise<boolean> {
  const client = await session.client();
  const fetched = await forAll(ids, session.computer.signal, async (id, signal) => {
    const file = join(session.computer.cwd, `${id}.tar.gz`);
    try {
      await download(await session.server(), await client.readTgz(id, "."), file, signal);
      session.output.note(`${id}: its work dir is in ${file}`);
      return true;
    } catch (error) {
      if (!(error instanceof FarmError)) throw error;
      session.output.note(`${id}: ${error.message}`);
      return false;
    }
  });
  return !fetched.includes(false);
}

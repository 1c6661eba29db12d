/**
 * One command on several instances at once. Its output goes to a file per instance, and to stdout in the form that the
 * caller wants.
 *
 * A failure of one command, machine or instance does not stop the others. The worst exit status is the result.
 */
import { mkdtemp, open } from "node:fs/promises";
import { join } from "node:path";
import { FarmError } from "../farm/errors.ts";
import type { Command } from "./farm-client.ts";
import { LineSearch } from "./line-search.ts";
import { PrefixedLines } from "./prefixed-lines.ts";
import { forAll, type Session } from "./session.ts";
import { CommandFailed, FARM_FAILED } from "./trouble.ts";

export interface Outcome {
  readonly id: string;
  /** The file with all of the output. */
  readonly file: string;
  /** Whether a line of the output matched what the caller looks for. */
  readonly matched: boolean;
  readonly failure: Failure | undefined;
}

/** Why a command failed. With a FarmError nobody knows how the command ended. */
export type Failure = CommandFailed | FarmError;

/** How output is shown on stdout. `with ids`: line by line, each with the id of its instance before it. */
export type Showing = "as it is" | "with ids" | "not";

/** A fresh folder for outputs. */
export function outputFolder(session: Session): Promise<string> {
  return mkdtemp(join(session.computer.tempFolder, "gomote"));
}

export async function broadcast(
  session: Session,
  ids: readonly string[],
  folder: string,
  command: Command,
  showing: Showing,
  until?: RegExp,
): Promise<readonly Outcome[]> {
  const client = await session.client();
  return await forAll(ids, session.computer.signal, async (id, signal) => {
    const file = join(folder, `${id}.stdout`);
    await using copy = await open(file, "w");
    const lines = showing === "with ids" ? new PrefixedLines(id) : undefined;
    const search = until && new LineSearch(until);
    try {
      for await (const piece of client.run(id, command, signal)) {
        await copy.writeFile(piece); // appended to what is there
        search?.push(piece);
        if (lines) await session.output.data(lines.push(piece));
        else if (showing === "as it is") await session.output.data(piece);
      }
      return { id, file, matched: search?.end() ?? false, failure: undefined };
    } catch (error) {
      if (signal.aborted || !(error instanceof CommandFailed || error instanceof FarmError)) throw error;
      await copy.writeFile(`\ncommand failed: ${error.message}\n`);
      return { id, file, matched: search?.end() ?? false, failure: error };
    } finally {
      if (lines) await session.output.data(lines.end());
    }
  });
}

/** The worst exit status; 0 when all succeeded. */
export function worst(outcomes: readonly Outcome[]): number {
  return Math.max(0, ...outcomes.map(({ failure }) => (failure ? statusOf(failure) : 0)));
}

function statusOf(failure: Failure): number {
  return failure instanceof CommandFailed ? failure.exitStatus : FARM_FAILED;
}

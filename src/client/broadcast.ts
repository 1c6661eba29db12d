/**
 * One command on several instances at once. Its output goes to a file per instance, and to stdout too where there is one instance only.
 *
 * A command that fails fails alone: the others go on, and the worst exit status is the answer. A farm or a machine that fails stops all.
 */
import { createWriteStream } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import type { Command } from "./farm-client.ts";
import { forAll, type Session } from "./session.ts";
import { CommandFailed } from "./trouble.ts";

export interface Outcome {
  readonly id: string;
  /** Where all of the output is. */
  readonly file: string;
  readonly failure: CommandFailed | undefined;
}

/** A fresh folder for outputs. */
export function outputFolder(session: Session): Promise<string> {
  return mkdtemp(join(session.computer.tempFolder, "gomote"));
}

export async function broadcast(
  session: Session,
  ids: readonly string[],
  folder: string,
  command: Command,
): Promise<readonly Outcome[]> {
  const client = await session.client();
  const show = ids.length === 1;
  return await forAll(ids, session.computer.signal, async (id, signal) => {
    const file = join(folder, `${id}.stdout`);
    const copy = createWriteStream(file);
    try {
      for await (const piece of client.run(id, command, signal)) {
        const room = copy.write(piece);
        if (show) await session.output.data(piece);
        if (!room) await new Promise<void>((more) => copy.once("drain", more).once("close", more));
      }
      return { id, file, failure: undefined };
    } catch (error) {
      if (!(error instanceof CommandFailed)) throw error;
      copy.write(`\ncommand failed: ${error.message}\n`);
      return { id, file, failure: error };
    } finally {
      copy.end();
      await finished(copy);
    }
  });
}

/** 0 when all succeeded. */
export function worst(outcomes: readonly Outcome[]): number {
  return Math.max(0, ...outcomes.map(({ failure }) => failure?.exitStatus ?? 0));
}

/**
 * Emptying a machine's work dir, for a borrower who goes on or for the next one.
 *
 * Our agent keeps the folder itself. The original buildlet removes the folder with its content, cannot list it then,
 * and makes it again for whatever is written there next. So it is given an empty archive.
 */
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import type { MachineSession } from "../machines/machine-session.ts";
import { tarEnd } from "../wire/tar/tar-writer.ts";

/** Empties the work dir. Commands that run there go on. */
export async function emptyWorkDir(machine: MachineSession, signal: AbortSignal): Promise<void> {
  await machine.client.removeAll(["."], signal);
  await madeAgain(machine, signal);
}

/** Empties the work dir, and ends all commands that run there. */
export async function cleanedUp(machine: MachineSession, signal: AbortSignal): Promise<void> {
  await machine.client.cleanUp(signal);
  await madeAgain(machine, signal);
}

async function madeAgain({ agent, client }: MachineSession, signal: AbortSignal): Promise<void> {
  if (agent === "original") await client.writeTgz("", Readable.from([gzipSync(tarEnd())]), signal);
}

/** Whether `path`, which is below the work dir, is the work dir itself. */
export function isWorkDir(path: string): boolean {
  return path.split("/").every((part) => part === "" || part === ".");
}

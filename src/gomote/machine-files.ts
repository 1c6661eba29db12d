/**
 * Reading files of an instance's machine for a person, who is told in words what cannot be read.
 *
 * A machine that is asked to pack anything but a folder breaks off without a word, as the original does. It would then
 * be taken for a broken one. So a folder is listed before it is packed.
 */
import type { Readable } from "node:stream";
import { FarmError } from "../farm/errors.ts";
import type { LsOptions } from "../machines/machine-session.ts";
import { linesIn, parseLsLine } from "../wire/buildlet-api/ls-line.ts";
import type { HeldInstance } from "./holdings.ts";

type Held = Pick<HeldInstance, "instance" | "machine">;

/** The listing of `path`, which is below the work dir, line by line as it comes. Must be read or destroyed. */
export async function listed(
  { instance, machine }: Held,
  path: string,
  options: LsOptions,
  signal: AbortSignal,
): Promise<Readable> {
  return await machine.client.readLs(path, options, signal).catch((error: unknown) => {
    throw listingError(error, path, instance.name);
  });
}

/** A tar.gz of the folder `path`. Throws FarmError `bad-request` for a file. Must be read or destroyed. */
export async function packed(held: Held, path: string, signal: AbortSignal): Promise<Readable> {
  if (!(await isFolder(await listed(held, path, {}, signal))))
    throw new FarmError(
      "bad-request",
      `Cannot read ${quoted(path)} of ${held.instance.name} as a folder: it is a file, or a link.`,
    );
  return await held.machine.client.readTgz(path, signal);
}

/** Whether a listing is that of a folder: anything else is listed as one line without a name. */
async function isFolder(listing: Readable): Promise<boolean> {
  for await (const [first = ""] of linesIn(listing)) return parseLsLine(first)?.name !== "";
  return true;
}

/**
 * The error for a person when the machine could not list a folder. It is recognised by the words of operating systems,
 * since the names of their errors do not come as far as here. Any other error stays as it is.
 */
export function listingError(error: unknown, path: string, instance: string): unknown {
  const { message } = FarmError.from(error);
  if (/no such file|cannot find/i.test(message))
    return new FarmError(
      "not-found",
      `There is no ${quoted(path)} on ${instance}: it was deleted, or has another name.`,
      {
        cause: error,
      },
    );
  if (/permission denied|not permitted|access is denied/i.test(message))
    return new FarmError("forbidden", `${quoted(path)} on ${instance} may not be read by what the farm runs there.`, {
      cause: error,
    });
  return error;
}

function quoted(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}

/** A key for a host type that no configuration has would be a key for nothing: most often it is mistyped. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Clock } from "../farm/clock.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import { messageOf } from "../farm/errors.ts";
import { readFarm } from "./config-file.ts";

/**
 * What to tell whoever made a key for `hostType`, going by the configuration `file`; undefined: nothing. A file that was not `given`
 * need not be there. The key stays good: the host type may be added later, and machines may register before it is.
 */
export async function unknownHostType(
  file: string,
  given: boolean,
  hostType: string,
  clock: Clock,
): Promise<string | undefined> {
  if (!given && !(await stat(file).catch(() => undefined))) return undefined;
  try {
    const known = (await readFarm({ file }, clock)).hosts.map((host) => host.hostType);
    if (known.includes(hostType)) return undefined;
    return `Warning: ${basename(file)} has no host type ${JSON.stringify(hostType)}${didYouMean(hostType, known)}`;
  } catch (error) {
    return `Warning: cannot tell whether ${JSON.stringify(hostType)} is a host type of this farm. ${messageOf(error)}`;
  }
}

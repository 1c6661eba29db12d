/** A key for a host type that no configuration has is of no use: most often the name is mistyped. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import type { Clock } from "../farm/clock.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import { messageOf } from "../farm/errors.ts";
import { readFarm } from "./config-file.ts";

/**
 * A warning for a person who made a key for `hostType`, by the configuration `file`; undefined: none. A file that was
 * not `given` need not exist. The key stays valid: the host type may be added later, and machines may register before
 * that.
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

/**
 * Reads a secret from where the configuration says it is kept. It is read each time, so that changing it needs no
 * restart.
 */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { Secret } from "../config/input.ts";
import { FarmError } from "../farm/errors.ts";

export type ReadSecret = (secret: Secret) => Promise<string>;

/**
 * Makes a reader of secrets. `folder`: the folder of relative paths. The reader throws FarmError `unavailable` when the
 * secret is not there.
 */
export function secretReader(folder: string, environment: NodeJS.ProcessEnv): ReadSecret {
  return async (secret) => {
    if ("env" in secret) {
      const value = environment[secret.env];
      if (value) return value;
      throw new FarmError(
        "unavailable",
        `Cannot read a secret: the variable ${secret.env} is not set for the coordinator`,
      );
    }
    const file = resolve(folder, secret.file);
    const value = await readFile(file, "utf8").catch((cause: unknown) => {
      throw new FarmError("unavailable", `Cannot read a secret from ${JSON.stringify(file)}`, { cause });
    });
    if (value.trim() !== "") return value.trim();
    throw new FarmError("unavailable", `Cannot read a secret from ${JSON.stringify(file)}: it is empty`);
  };
}

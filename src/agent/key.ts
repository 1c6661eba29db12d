/**
 * Which builder key a machine shows.
 *
 *   GO_BUILD_KEY_PATH if set, else ~/.gobuildkey-<host type>, else ~/.gobuildkey: the file's text, trimmed; with a true
 *   GO_BUILD_KEY_DELETE_AFTER_READ the file is removed right after. Where none of the two files in the home folder is there
 *   and the coordinator is this machine, the public development key.
 *
 * `-compatible` follows the original to the letter instead: a coordinator whose name begins with farmer.golang.org
 * gets the key of a file (the one with the host type only), any other gets the development key, whatever is set.
 */
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../farm/errors.ts";
import { parseBool } from "../farm/flags.ts";
import { builderKey, DEV_MASTER_KEY } from "../wire/builder-key/builder-key.ts";
import { errnoOf } from "./api/api-error.ts";
import type { Environment } from "./proxy.ts";

export interface KeyInput {
  readonly hostType: string;
  readonly env: Environment;
  readonly platform: NodeJS.Platform;
  /** 0 for root, undefined where there are none. */
  readonly uid: number | undefined;
  /** May the public development key be shown? */
  readonly allowDevKey: boolean;
  /** Look for a file at all: not in compatible mode with a private name. */
  readonly allowFile: boolean;
  /** Also ~/.gobuildkey. */
  readonly allowPlainFile: boolean;
}

/** Throws with a sentence for the owner when there is no key. The key itself is in no message. */
export function readKey(input: KeyInput): string {
  const { env, hostType } = input;
  if (input.allowFile) {
    const named = env.GO_BUILD_KEY_PATH ?? "";
    const home = homeOf(input);
    const paths =
      named !== ""
        ? [named]
        : [join(home, `.gobuildkey-${hostType}`), ...(input.allowPlainFile ? [join(home, ".gobuildkey")] : [])];
    for (const path of paths) {
      const key = readFile(path, named !== "");
      if (key === undefined) continue;
      if (parseBool(env.GO_BUILD_KEY_DELETE_AFTER_READ ?? "")) rmSync(path);
      if (key === "") throw new Error(`Cannot use the key file ${JSON.stringify(path)}: it is empty`);
      // It goes into a header line.
      if (/[^!-~]/.test(key)) throw new Error(`Cannot use the key file ${JSON.stringify(path)}: want one word`);
      return key;
    }
    if (!input.allowDevKey) {
      throw new Error(`Cannot find a builder key: put it into ${paths[0]}, or name its file in GO_BUILD_KEY_PATH`);
    }
  }
  return builderKey(DEV_MASTER_KEY, hostType);
}

function readFile(path: string, mustBeThere: boolean): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (errnoOf(error) === "ENOENT" && !mustBeThere) return undefined;
    throw new Error(`Cannot read the key file ${JSON.stringify(path)}: ${messageOf(error)}`, { cause: error });
  }
}

function homeOf({ env, platform, uid }: KeyInput): string {
  if (platform === "win32") return `${env.HOMEDRIVE ?? ""}${env.HOMEPATH ?? ""}`;
  return env.HOME || (uid === 0 ? "/root" : "/");
}

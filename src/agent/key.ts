/**
 * Which builder key a machine shows.
 *
 *   1. the trimmed text of the file GO_BUILD_KEY_PATH if that is set, else of ~/.gobuildkey-<host type>, else of
 *      ~/.gobuildkey. With a true GO_BUILD_KEY_DELETE_AFTER_READ the file is then removed
 *   2. where neither file of the home folder exists and the coordinator is this machine: the public development key
 *
 * `-compatible` follows the original to the letter instead: a coordinator whose name begins with farmer.golang.org
 * gets the key of a file (the one with the host type only), any other gets the development key, whatever is set.
 */
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Address, isLoopback } from "../dial/address.ts";
import type { Environment } from "../dial/proxy.ts";
import { messageOf } from "../farm/errors.ts";
import { parseBool } from "../farm/flags.ts";
import { builderKey, DEV_MASTER_KEY } from "../wire/builder-key/builder-key.ts";
import type { BuildletFlags } from "./buildlet-flags.ts";

export interface KeyInput {
  readonly hostType: string;
  readonly env: Environment;
  readonly platform: NodeJS.Platform;
  /** The user's id: 0 for root, undefined where the system has no such ids. */
  readonly uid: number | undefined;
  /** Whether the public development key may be shown. */
  readonly allowDevKey: boolean;
  /** Whether to look for a file at all. Compatible mode does not for a coordinator with a private name. */
  readonly allowFile: boolean;
  /** Whether ~/.gobuildkey counts, too. */
  readonly allowPlainFile: boolean;
}

const PRODUCTION_NAME = "farmer.golang.org";

/** Whether the original would verify this coordinator and show it a real key. */
export function isProduction(coordinator: string): boolean {
  return coordinator.startsWith(PRODUCTION_NAME);
}

/** The input of the choice that the flags give. */
export function keyInput(
  flags: Pick<BuildletFlags, "coordinator" | "compatible" | "ca-file">,
  address: Address,
  machine: Pick<KeyInput, "hostType" | "env" | "platform" | "uid">,
): KeyInput {
  const { compatible } = flags;
  const production = isProduction(flags.coordinator);
  const { hostType, env, platform, uid } = machine;
  return {
    hostType,
    env,
    platform,
    uid,
    allowFile: !compatible || production,
    allowDevKey: compatible ? !production : isLoopback(address.host) && flags["ca-file"] === "",
    allowPlainFile: !compatible,
  };
}

/** Whether readKey() would give the development key, which is no secret and may be shown to anybody. */
export function showsDevKey(input: KeyInput): boolean {
  return input.allowDevKey && findKeyFile(input) === undefined;
}

/** Reads the key. Throws a sentence for the owner when there is none. No message holds the key itself. */
export function readKey(input: KeyInput): string {
  if (showsDevKey(input)) return builderKey(DEV_MASTER_KEY, input.hostType);
  const path = findKeyFile(input);
  if (path === undefined) {
    const wanted = keyFiles(input)[0];
    throw new Error(`Cannot find a builder key: put it into ${wanted}, or name its file in GO_BUILD_KEY_PATH`);
  }
  const key = readFile(path);
  if (parseBool(input.env.GO_BUILD_KEY_DELETE_AFTER_READ ?? "")) rmSync(path);
  if (key === "") throw new Error(`Cannot use the key file ${JSON.stringify(path)}: it is empty`);
  // The key goes into a header line.
  if (/[^!-~]/.test(key)) throw new Error(`Cannot use the key file ${JSON.stringify(path)}: want one word`);
  return key;
}

/** The file to read: the named one, which must exist, or the first of the others that exists. */
function findKeyFile(input: KeyInput): string | undefined {
  if (!input.allowFile) return undefined;
  return input.env.GO_BUILD_KEY_PATH || keyFiles(input).find((path) => existsSync(path));
}

function keyFiles(input: KeyInput): readonly string[] {
  const home = homeOf(input);
  const own = join(home, `.gobuildkey-${input.hostType}`);
  return input.allowPlainFile ? [own, join(home, ".gobuildkey")] : [own];
}

function readFile(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new Error(`Cannot read the key file ${JSON.stringify(path)}: ${messageOf(error)}`, { cause: error });
  }
}

function homeOf({ env, platform, uid }: KeyInput): string {
  if (platform === "win32") return `${env.HOMEDRIVE ?? ""}${env.HOMEPATH ?? ""}`;
  return env.HOME || (uid === 0 ? "/root" : "/");
}

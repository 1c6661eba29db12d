/**
 * Where this computer keeps the settings and caches of its user's commands: in the system's folders for these, each
 * with `gomote` below it.
 *
 *             config                                        cache
 *   Windows   %AppData%                                     %LocalAppData%
 *   macOS     ~/Library/Application Support                 ~/Library/Caches
 *   plan9     $home/lib                                     $home/lib/cache
 *   others    $XDG_CONFIG_HOME, else ~/.config              $XDG_CACHE_HOME, else ~/.cache
 *
 * The original command has its groups in the same folder, so both commands see the same ones.
 */
import { posix, win32 } from "node:path";
import type { Environment } from "../dial/proxy.ts";
import { FarmError } from "../farm/errors.ts";

export type FolderKind = "config" | "cache";

/** The folder. Throws FarmError when the environment does not name it. */
export function userFolder(kind: FolderKind, env: Environment, platform: string): string {
  const config = kind === "config";
  if (platform === "win32") {
    const name = config ? "AppData" : "LocalAppData";
    return win32.join(env[name] || missing(`%${name}%`), "gomote");
  }
  if (platform === "plan9") return posix.join(env.home || missing("$home"), config ? "lib" : "lib/cache", "gomote");
  const home = () => env.HOME || missing("$HOME");
  if (platform === "darwin") return posix.join(home(), "Library", config ? "Application Support" : "Caches", "gomote");
  const named = config ? env.XDG_CONFIG_HOME : env.XDG_CACHE_HOME;
  if (named) {
    if (posix.isAbsolute(named)) return posix.join(named, "gomote");
    throw new FarmError("bad-request", `Cannot use ${JSON.stringify(named)} of the environment: want an absolute path`);
  }
  return posix.join(home(), config ? ".config" : ".cache", "gomote");
}

function missing(variable: string): never {
  throw new FarmError("bad-request", `Cannot tell where settings are kept: ${variable} is not set`);
}

/** The farm of `npm start -- -repo URL [-branch NAME] [-run COMMAND]...`: one repository, built on this computer. */
import type { FarmInput } from "./input.ts";
import { autodetect, script } from "./presets.ts";
import { urlKind } from "./urls.ts";

export interface OneRepository {
  /** A folder or a URL. */
  readonly url: string;
  /** The folder from which `url` is resolved, if it is a folder. */
  readonly from: string;
  /** Default: the repository's own default branch. */
  readonly branch?: string | undefined;
  /** The commands, each a step, in order. None: `autodetect()`. */
  readonly commands: readonly string[];
  /** `GOOS-GOARCH` of this computer. */
  readonly platform: string;
}

export function farmForRepository({ url, from, branch, commands, platform }: OneRepository): FarmInput {
  const hostType = `host-${platform}-local`;
  return {
    // One commit: the newest is built at once, and later every new one.
    repos: [{ name: repoName(url, from), url, ...(branch ? { branches: [branch] } : {}), depth: 1 }],
    hosts: [{ hostType, pool: "local", expect: 1, notes: "The computer that the coordinator runs on." }],
    builders: [{ name: platform, host: hostType, steps: commands.length > 0 ? script(...commands) : autodetect() }],
  };
}

/** The last part of an address, as a name. For `.` and `..`, the name of the folder that is meant. */
function repoName(url: string, from: string): string {
  const address = url
    .replace(/[?#].*$/, "")
    .replace(/[\\/]+$/, "")
    .replace(/\.git$/, "");
  const relative = urlKind(url) === "path" && !/^([\\/]|[A-Za-z]:)/.test(url);
  const parts: string[] = [];
  for (const part of (relative ? `${from}/${address}` : address).split(/[\\/:]/)) {
    if (part === "..") parts.pop();
    else if (part !== "." && part !== "") parts.push(part);
  }
  const name = (parts.at(-1) ?? "")
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 100);
  return name === "" ? "repository" : name;
}

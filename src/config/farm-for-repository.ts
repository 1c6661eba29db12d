/** The farm of `npm start -- -repo URL [-branch NAME] [-run COMMAND]...`: one repository, built on this computer. */
import type { FarmInput } from "./input.ts";
import { autodetect, script } from "./presets.ts";

export interface OneRepository {
  /** A folder or a URL. */
  readonly url: string;
  /** Default: the repository's own default branch. */
  readonly branch?: string | undefined;
  /** Each a step, in order. None: `autodetect()`. */
  readonly commands: readonly string[];
  /** This computer, `GOOS-GOARCH`. */
  readonly platform: string;
}

export function farmForRepository({ url, branch, commands, platform }: OneRepository): FarmInput {
  const hostType = `host-${platform}-local`;
  return {
    // One commit: the newest is built at once, and from then on whatever comes.
    repos: [{ name: repoName(url), url, ...(branch ? { branches: [branch] } : {}), depth: 1 }],
    hosts: [{ hostType, pool: "local", expect: 1, notes: "The computer that the coordinator runs on." }],
    builders: [{ name: platform, host: hostType, steps: commands.length > 0 ? script(...commands) : autodetect() }],
  };
}

/** The last part of an address, as a name. */
function repoName(url: string): string {
  const last = url
    .replace(/[?#].*$/, "")
    .replace(/[\\/]+$/, "")
    .replace(/\.git$/, "")
    .split(/[\\/:]/)
    .at(-1);
  const name = (last ?? "")
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 100);
  return name === "" ? "repository" : name;
}

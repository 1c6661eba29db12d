/**
 * A mirror: a bare repository of ours that holds the watched branches of somebody else's repository.
 *
 * Each watched branch has a ref that is named after the digest of its name. So no two branches get into each other's
 * way (`a` and `a/b`, `A` and `a` on a case-blind disk). Refs are never deleted and keep a log of where they were for
 * ever. So all that was ever found can be built again, even after a forced push. The first fetch of a branch takes its
 * newest commits only, and later ones take what is new.
 *
 * Only one fetch runs at a time (repo-watch.ts sees to that), and reading is allowed meanwhile. A mirror survives being
 * killed at any moment: locks that nobody holds any more are removed before the next fetch, and a mirror that cannot be
 * used is made again.
 */
import { createHash } from "node:crypto";
import { mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Ms, minutes, seconds } from "../farm/ids.ts";
import type { FoundCommit } from "../store/commits.ts";
import { LOG_ARGS, readCommitLog } from "./commit-log.ts";
import { type Git, GitError, LOCAL_UPLOAD_PACK } from "./git.ts";
import type { RemoteRefs, WatchedBranch } from "./remote.ts";
import { readRefs } from "./remote.ts";

/** Where to fetch from, and with which settings. */
export interface Remote {
  readonly url: string;
  /** The repository is a folder on this computer: git's own child must be told what is allowed. */
  readonly isFolder: boolean;
  /** The environment of git, with the token if there is one. */
  readonly env: Readonly<Record<string, string>>;
}

export interface MirrorLimits {
  /** How long a remote may take to list its branches. */
  readonly list: Ms;
  readonly fetch: Ms;
  /** How long one reading of the mirror may take. */
  readonly read: Ms;
}

export const MIRROR_LIMITS: MirrorLimits = { list: seconds(60), fetch: minutes(60), read: minutes(10) };

export class Mirror {
  readonly #git: Git;
  readonly #folder: string;
  readonly #limits: MirrorLimits;

  constructor(git: Git, folder: string, limits: MirrorLimits) {
    this.#git = git;
    this.#folder = folder;
    this.#limits = limits;
  }

  /** The branches that the remote has now. Throws GitError. */
  async list(remote: Remote, signal: AbortSignal): Promise<RemoteRefs> {
    const args = ["ls-remote", "--symref", ...uploadPack(remote), "--", remote.url, "HEAD", "refs/heads/*"];
    const output = await this.#git.run(args, { kind: "remote", limit: this.#limits.list, env: remote.env }, signal);
    return readRefs(output.toString("utf8"));
  }

  /**
   * Fetches `branches`: of new ones the newest `depth` commits at least. Returns them with the commits that are here
   * now, which may be newer than those that were listed. Throws GitError.
   */
  async fetch(
    remote: Remote,
    branches: readonly WatchedBranch[],
    depth: number,
    signal: AbortSignal,
  ): Promise<WatchedBranch[]> {
    await this.#ready(branches[0]?.head.length === 64 ? "sha256" : "sha1", signal);
    const had = await this.#heads(signal);
    const stale = branches.filter((b) => had.get(refOf(b.name)) !== b.head);
    const fresh = stale.filter((b) => !had.has(refOf(b.name)));
    const known = stale.filter((b) => had.has(refOf(b.name)));
    if (stale.length > 0) await this.#removeLocks();
    // One more than wanted: the parents of the last one are only told when it is not the last.
    if (fresh.length > 0) await this.#fetchNew(remote, fresh, depth + 1, signal);
    if (known.length > 0) await this.#fetchRefs(remote, known, [], signal);
    if (stale.length === 0) return [...branches];
    const has = await this.#heads(signal);
    return branches.map((b) => ({ ...b, head: has.get(refOf(b.name)) ?? b.head }));
  }

  /** Fetches one commit, even if no watched branch has it any more. Throws GitError. */
  async fetchCommit(remote: Remote, commit: string, signal: AbortSignal): Promise<void> {
    await this.#ready(commit.length === 64 ? "sha256" : "sha1", signal);
    await this.#removeLocks();
    const args = [
      ...this.#here(),
      ...["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--depth=1"],
      ...uploadPack(remote),
      "--",
      remote.url,
      `+${commit}:refs/kept/${commit}`,
    ];
    await this.#git.run(args, { kind: "remote", limit: this.#limits.fetch, env: remote.env }, signal);
  }

  /** The newest `count` commits of the first-parent history that ends with `head`, newest first. */
  async commits(head: string, count: number, signal: AbortSignal): Promise<FoundCommit[]> {
    const args = [...this.#here(), "log", "--first-parent", `--max-count=${count}`, ...LOG_ARGS, head, "--"];
    return readCommitLog(this.#git.stream(args, this.#local(), signal));
  }

  /**
   * The commits that the merge `hash` brought: the newest `count` that its first parent does not have, newest first,
   * without itself. None: the commit is no merge, or its history is not here.
   */
  async merged(hash: string, count: number, signal: AbortSignal): Promise<FoundCommit[]> {
    const args = [...this.#here(), "log", `--max-count=${count + 1}`, ...LOG_ARGS, hash, `^${hash}^1`, "--"];
    try {
      const commits = await readCommitLog(this.#git.stream(args, this.#local(), signal));
      return commits.filter((commit) => commit.hash !== hash);
    } catch (error) {
      if (error instanceof GitError && error.why === "exit") return [];
      throw error;
    }
  }

  /** Whether the history of `head`, as far as it is here, has `commit`. */
  async isAncestor(commit: string, head: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#git.run([...this.#here(), "merge-base", "--is-ancestor", commit, head], this.#local(), signal);
      return true;
    } catch (error) {
      if (error instanceof GitError && error.why === "exit") return false;
      throw error;
    }
  }

  async has(commit: string, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#git.run([...this.#here(), "cat-file", "-e", `${commit}^{commit}`], this.#local(), signal);
      return true;
    } catch (error) {
      if (error instanceof GitError && error.why === "exit") return false;
      throw error;
    }
  }

  /** The tree of `commit` as a tar, with its symbolic links. */
  archive(commit: string, signal: AbortSignal): AsyncGenerator<Buffer, void> {
    return this.#git.stream([...this.#here(), "archive", "--format=tar", commit], this.#local(), signal);
  }

  /** Packs the objects that have gathered, if there are many. */
  async tidy(signal: AbortSignal): Promise<void> {
    const args = [...this.#here(), "gc", "--auto", "--quiet"];
    await this.#git.run(args, { kind: "local", limit: this.#limits.fetch }, signal);
  }

  async #fetchNew(
    remote: Remote,
    branches: readonly WatchedBranch[],
    depth: number,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#fetchRefs(remote, branches, [`--depth=${depth}`], signal);
    } catch (error) {
      // A plain file server cannot cut a history short.
      if (!(error instanceof GitError) || !/shallow/.test(error.stderr)) throw error;
      await this.#fetchRefs(remote, branches, [], signal);
    }
  }

  async #fetchRefs(
    remote: Remote,
    branches: readonly WatchedBranch[],
    more: readonly string[],
    signal: AbortSignal,
  ): Promise<void> {
    const args = [
      ...this.#here(),
      ...[
        "fetch",
        "--quiet",
        "--stdin",
        "--no-tags",
        "--no-write-fetch-head",
        "--no-auto-maintenance",
        "--update-shallow",
      ],
      ...more,
      ...uploadPack(remote),
      "--",
      remote.url,
    ];
    const input = branches.map((b) => `+${b.ref}:${refOf(b.name)}\n`).join("");
    await this.#git.run(args, { kind: "remote", limit: this.#limits.fetch, env: remote.env, input }, signal);
  }

  async #heads(signal: AbortSignal): Promise<Map<string, string>> {
    const args = [...this.#here(), "for-each-ref", "--format=%(refname) %(objectname)", "refs/watched"];
    const output = await this.#git.run(args, this.#local(), signal);
    const pairs = output
      .toString("utf8")
      .split("\n")
      .map((line) => line.split(" "));
    return new Map(pairs.map(([ref = "", hash = ""]) => [ref, hash]));
  }

  /** Makes sure that the folder has a usable repository. */
  async #ready(format: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#git.run([...this.#here(), "rev-parse", "--is-bare-repository"], this.#local(), signal);
      return;
    } catch (error) {
      if (!(error instanceof GitError) || error.why !== "exit") throw error;
    }
    const made = `${this.#folder}.new`;
    await rm(made, { recursive: true, force: true });
    await mkdir(this.#folder, { recursive: true });
    await this.#git.run(
      ["init", "--quiet", "--bare", "--template=", `--object-format=${format}`, made],
      this.#local(),
      signal,
    );
    // An archive has all that a checkout has: the commit's own attributes cannot leave anything out.
    await mkdir(join(made, "info"), { recursive: true });
    await writeFile(join(made, "info", "attributes"), "* -export-ignore -export-subst -filter\n");
    const keepForEver = {
      "core.logAllRefUpdates": "always",
      "gc.reflogExpire": "never",
      "gc.reflogExpireUnreachable": "never",
    };
    for (const [key, value] of Object.entries(keepForEver)) {
      await this.#git.run(["--git-dir", made, "config", key, value], this.#local(), signal);
    }
    await rm(this.#folder, { recursive: true, force: true });
    await rename(made, this.#folder);
  }

  /** Removes the locks of a git that was killed. No other git is at work here. */
  async #removeLocks(): Promise<void> {
    const entries = await readdir(this.#folder, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      if (entry.isFile() && (entry.name.endsWith(".lock") || entry.name.startsWith("tmp_"))) {
        await rm(join(entry.parentPath, entry.name), { force: true });
      }
    }
  }

  #here(): readonly string[] {
    return ["--git-dir", this.#folder];
  }

  #local(): { readonly kind: "local"; readonly limit: Ms } {
    return { kind: "local", limit: this.#limits.read };
  }
}

function refOf(branch: string): string {
  return `refs/watched/${createHash("sha256").update(branch).digest("hex").slice(0, 40)}`;
}

function uploadPack(remote: Remote): readonly string[] {
  return remote.isFolder ? [`--upload-pack=${LOCAL_UPLOAD_PACK}`] : [];
}

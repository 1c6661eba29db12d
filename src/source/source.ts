/**
 * Source: commits in, source trees out.
 *
 * Each configured repository has a mirror (mirror.ts) below the data folder and is watched (repo-watch.ts): new commits
 * on watched branches are recorded and planned. A machine receives a commit's tree as a tarball (tarballs.ts) and needs
 * no git.
 *
 * A repository that leaves the configuration is not watched any more. Its mirror stays, since its builds do.
 */
import { mkdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { BlobCache, type Cached } from "../blobs/blob-cache.ts";
import type { Blobs } from "../blobs/blobs.ts";
import type { RepoConfig } from "../config/effective.ts";
import { urlKind } from "../config/urls.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import type { FoundCommit } from "../store/commits.ts";
import type { Sql } from "../store/sql.ts";
import { Git } from "./git.ts";
import { MIRROR_LIMITS, Mirror, type MirrorLimits, type Remote } from "./mirror.ts";
import { type Planned, type RepoStanding, RepoWatch } from "./repo-watch.ts";
import { type ReadSecret, secretReader } from "./secrets.ts";
import { tarball } from "./tarballs.ts";

export interface SourceOptions {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly log: Log;
  readonly clock: Clock;
  readonly random: () => number;
  readonly blobs: Blobs;
  /** The farm's data folder, which has the mirrors in a folder below it. */
  readonly data: string;
  /** The folder to which folders and secret files of the configuration are relative. */
  readonly base: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly limits?: MirrorLimits;
  /** How many bytes all kept tarballs may take together. */
  readonly cacheBytes?: number;
  /** How many bytes a tarball may have. A larger one is refused. */
  readonly maxTarballBytes?: number;
}

const CACHE_BYTES = 4 * 2 ** 30;
const MAX_TARBALL_BYTES = 2 ** 30;
/** How many answers of `includes` are kept: enough for some hundred commits of some ten branches. */
const INCLUDED_KEPT = 10_000;

export class Source implements AsyncDisposable {
  readonly #options: SourceOptions;
  readonly #git: Git;
  readonly #cache: BlobCache;
  readonly #readSecret: ReadSecret;
  readonly #stop = new AbortController();
  readonly #mirrors = new Map<string, Mirror>();
  readonly #watches = new Map<string, RepoWatch>();
  #configuring: Promise<void> = Promise.resolve();
  /**
   * Repository, commit and a second commit -> whether the first one's history has the second. Kept, since a caller may
   * have to ask again from the beginning.
   */
  readonly #included = new Map<string, boolean>();

  private constructor(options: SourceOptions, cache: BlobCache) {
    this.#options = options;
    this.#git = new Git(options.clock, options.environment);
    this.#cache = cache;
    this.#readSecret = secretReader(options.base, options.environment);
  }

  /** Opens the source. It watches nothing before `configure`. */
  static async open(options: SourceOptions): Promise<Source> {
    const { blobs, clock } = options;
    await mkdir(join(options.data, "mirrors"), { recursive: true });
    const maxBytes = options.cacheBytes ?? CACHE_BYTES;
    return new Source(options, await BlobCache.open({ blobs, prefix: "tarballs", maxBytes, clock }));
  }

  /**
   * From now on watches `repos` and no others, and looks at each at once. The builds of their newest commits may have
   * changed, so `planned` is called for them. Resolves when the watching by the earlier configuration has stopped.
   */
  configure(repos: readonly RepoConfig[], planned: Planned): Promise<void> {
    // One after the other, so that no repository is ever watched twice.
    this.#configuring = this.#configuring.then(async () => {
      await this.#stopWatching();
      if (this.#stop.signal.aborted) return;
      for (const repo of repos) this.#watches.set(repo.name, this.#watch(repo, planned));
    });
    return this.#configuring;
  }

  /** Looks for commits of `repo` as soon as possible. False: it is not watched. */
  poke(repo: string): boolean {
    this.#watches.get(repo)?.poke();
    return this.#watches.has(repo);
  }

  /** Whether `branch` of `repo` is watched. True as long as that is not known. */
  watches(repo: string, branch: string): boolean {
    const standing = this.#watches.get(repo)?.standing;
    return standing === undefined || !standing.looked || standing.heads.has(branch);
  }

  /** Whether the history of `hash`, as far as it is here, has `needed`. True if the mirror does not know `needed`. */
  async includes(repo: string, hash: string, needed: string): Promise<boolean> {
    const mirror = this.#mirror(repo);
    const stop = this.#stop.signal;
    const key = `${repo}\n${hash}\n${needed}`;
    const known = this.#included.get(key);
    if (known !== undefined) return known;
    if (!(await mirror.has(needed, stop))) return true;
    const included = await mirror.isAncestor(needed, hash, stop);
    if (this.#included.size === INCLUDED_KEPT) this.#included.clear();
    this.#included.set(key, included);
    return included;
  }

  /** Where the watching of each repository stands. */
  standings(): readonly RepoStanding[] {
    return [...this.#watches.values()].map((watch) => watch.standing);
  }

  /** The tree of a commit as a gzipped tar, readable while it is being made. tarballs.ts says what it throws. */
  tarball(repo: string, hash: string, signal?: AbortSignal): Promise<Cached> {
    const stop = this.#stop.signal;
    const deps = {
      cache: this.#cache,
      mirror: (name: string) => this.#mirror(name),
      bring: async (name: string, commit: string) => this.#watches.get(name)?.bring(commit),
      maxBytes: this.#options.maxTarballBytes ?? MAX_TARBALL_BYTES,
      stop,
    };
    return tarball(deps, repo, hash, signal ? AbortSignal.any([stop, signal]) : stop);
  }

  /** At most `count` commits that a merge brought, newest first, as far as the mirror here has them. */
  merged(repo: string, hash: string, count: number): Promise<FoundCommit[]> {
    return this.#mirror(repo).merged(hash, count, this.#stop.signal);
  }

  /** The secret that pushes to `repo` are signed with. Throws FarmError `unavailable`. */
  webhookSecret(repo: RepoConfig): Promise<string | undefined> {
    return repo.webhook ? this.#readSecret(repo.webhook) : Promise.resolve(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("canceled", "Cannot pack a source tree: the coordinator is stopping"));
    await this.#configuring;
    await this.#stopWatching();
  }

  async #stopWatching(): Promise<void> {
    const watches = [...this.#watches.values()];
    this.#watches.clear();
    await Promise.all(watches.map((watch) => watch[Symbol.asyncDispose]()));
  }

  #watch(repo: RepoConfig, planned: Planned): RepoWatch {
    const { sql, bus, log, clock, random } = this.#options;
    const remote = (config: RepoConfig): Promise<Remote> => this.#remote(config);
    return new RepoWatch(repo, { sql, bus, log, clock, random, planned, remote, mirror: this.#mirror(repo.name) });
  }

  #mirror(repo: string): Mirror {
    let mirror = this.#mirrors.get(repo);
    if (!mirror) {
      const folder = join(this.#options.data, "mirrors", `${repo}.git`);
      mirror = new Mirror(this.#git, folder, this.#options.limits ?? MIRROR_LIMITS);
      this.#mirrors.set(repo, mirror);
    }
    return mirror;
  }

  async #remote(repo: RepoConfig): Promise<Remote> {
    const kind = urlKind(repo.url);
    if (kind === "path" || kind === "file") {
      const folder = kind === "path" ? resolve(this.#options.base, repo.url) : fileURLToPath(repo.url);
      const found = await stat(folder).catch(() => undefined);
      if (!found) {
        const what = `Cannot fetch ${JSON.stringify(repo.name)}`;
        throw new FarmError("not-found", `${what}: there is no folder ${JSON.stringify(folder)}`);
      }
      return { url: kind === "path" ? folder : repo.url, isFolder: true, env: {} };
    }
    const env = repo.token ? authorization(repo, await this.#readSecret(repo.token)) : {};
    return { url: repo.url, isFolder: false, env };
  }
}

/**
 * The token as a git setting in the environment, for its own host only. Arguments could be read by everybody on the
 * computer.
 */
function authorization(repo: RepoConfig, token: string): Record<string, string> {
  const basic = Buffer.from(`${repo.tokenUser}:${token}`).toString("base64");
  return {
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: `http.${new URL(repo.url).origin}/.extraHeader`,
    GIT_CONFIG_VALUE_0: `Authorization: Basic ${basic}`,
  };
}

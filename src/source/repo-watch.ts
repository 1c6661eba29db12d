/**
 * Watches one repository: looks, writes down what is new, waits, and looks again.
 *
 * A look asks the remote for its branches and fetches those that moved. It records each branch in one transaction
 * together with the builds that are planned for it. So a coordinator that dies at any point has done both, or will do
 * both. Looking twice is harmless.
 *
 * A branch that the remote does not have any more is gone. Its builds stay until retention ends them, and nobody builds
 * anything for its sake. Builds that wait for it are taken back by the planning. When it is pushed again, it is back,
 * and planned again.
 *
 * Every coordinator of the farm watches. If another coordinator moves a branch between our reading and our recording,
 * that branch is left to it, and looked at again at once. A commit that another coordinator found, and that a machine
 * of ours is to build, is brought here when it is asked for.
 *
 * The wait is the repository's `poll`, give or take a tenth so that repositories spread out. After a failure it doubles
 * each time, up to LONGEST_WAIT. `poke` cuts it short; pokes during a look make one more look.
 */
import type { RepoConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";
import * as commits from "../store/commits.ts";
import type { Sql } from "../store/sql.ts";
import { GitError } from "./git.ts";
import type { Mirror, Remote } from "./mirror.ts";
import { type Choice, chooseBranches, type WatchedBranch } from "./remote.ts";
import { remoteTrouble } from "./remote-trouble.ts";

export const LONGEST_WAIT: Ms = minutes(5);

/** Commits that appeared on a branch, newest first. None: the branch went back to a commit that it had, or is gone. */
export interface FoundCommits {
  readonly repo: string;
  readonly branch: string;
  readonly commits: readonly commits.KnownCommit[];
}

/**
 * Plans the builds of found commits, in the transaction that records them. Returns the topics to publish after the
 * transaction. It may be called again for the same commits, so planning twice must be harmless.
 */
export type Planned = (sql: Sql, found: FoundCommits) => Promise<readonly string[]>;

/** Where the watching of a repository stands in this process. */
export interface RepoStanding {
  readonly name: string;
  readonly url: string;
  /** Whether a look has ended: what was found is planned, or the look failed. */
  readonly looked: boolean;
  /** Why the last look failed; null: it did not fail. */
  readonly failure: string | null;
  /** What the remote lacks of what the configuration asks for; null: nothing. */
  readonly problem: string | null;
  /** Watched branches -> their heads. */
  readonly heads: ReadonlyMap<string, string>;
}

export interface RepoWatchDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly log: Log;
  readonly clock: Clock;
  /** Gives a number that is at least 0 and below 1. */
  readonly random: () => number;
  readonly mirror: Mirror;
  /** The remote of a repository, with its token. Throws FarmError when the token is not there. */
  readonly remote: (repo: RepoConfig) => Promise<Remote>;
  readonly planned: Planned;
}

export class RepoWatch implements AsyncDisposable {
  readonly config: RepoConfig;
  readonly #deps: RepoWatchDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  #poke = new AbortController();
  /** Commits that somebody waits for. */
  readonly #wanted: { readonly commit: string; readonly tried: () => void }[] = [];
  /** Branches whose newest commits were planned by the configuration in force. */
  readonly #planned = new Set<string>();
  #standing: RepoStanding;

  /** Begins to look, at once, and goes on until it is disposed of. */
  constructor(config: RepoConfig, deps: RepoWatchDeps) {
    this.config = config;
    this.#deps = deps;
    const { name, url } = config;
    this.#standing = { name, url, looked: false, failure: null, problem: null, heads: new Map() };
    this.#loop = this.#run();
  }

  get standing(): RepoStanding {
    return this.#standing;
  }

  /** Looks as soon as possible. */
  poke(): void {
    this.#poke.abort();
  }

  /** Fetches `commit`, which another coordinator found, into the mirror. Resolves when that was tried. */
  bring(commit: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wanted.push({ commit, tried: resolve });
    this.poke();
    if (this.#stop.signal.aborted) resolve();
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
    for (const { tried } of this.#wanted.splice(0)) tried();
  }

  async #run(): Promise<void> {
    const { clock, random } = this.#deps;
    const stop = this.#stop.signal;
    for (let failures = 0; !stop.aborted; ) {
      this.#poke = new AbortController();
      const wanted = this.#wanted.splice(0);
      failures = (await this.#look()) ? 0 : failures + 1;
      for (const { commit, tried } of wanted) await this.#bring(commit).finally(tried);
      const wait = waitAfter(this.config.pollMs, failures, random());
      await clock.sleep(wait, AbortSignal.any([stop, this.#poke.signal])).catch(() => {});
    }
  }

  /** Looks once. False: it failed. Never throws: the reason goes into the repository's row and the log. */
  async #look(): Promise<boolean> {
    const { sql, bus, log, clock } = this.#deps;
    const { name, url } = this.config;
    try {
      await commits.recordRepo(sql, name, url);
      const found = await this.#fetchAndRecord().catch((error: unknown) => {
        if (error instanceof GitError)
          return { failure: remoteTrouble(`fetch ${JSON.stringify(name)} from ${url}`, error) };
        if (error instanceof FarmError && error.code !== "internal") return { failure: error.message };
        throw error;
      });
      if ("failure" in found) {
        log.warn({ repo: name, error: found.failure }, "Could not look for commits");
        await commits.recordFailure(sql, name, found.failure, clock.now());
        this.#standing = { ...this.#standing, looked: true, failure: found.failure };
      } else {
        await commits.recordAnswer(sql, name, found.headBranch, found.problem, clock.now());
        this.#standing = { ...this.#standing, looked: true, failure: null, problem: found.problem };
      }
      bus.publish(`repo:${name}`);
      return !("failure" in found);
    } catch (error) {
      if (!this.#stop.signal.aborted)
        log.error({ repo: name, error: messageOf(error) }, "Could not record what was found");
      return false;
    }
  }

  /** Fetches and records what is new. Returns the branch of HEAD, and what the remote lacks. */
  async #fetchAndRecord(): Promise<Pick<Choice, "headBranch" | "problem">> {
    const { sql, bus, mirror } = this.#deps;
    const { name, url, branches, history } = this.config;
    const stop = this.#stop.signal;
    const remote = await this.#deps.remote(this.config);
    const refs = await mirror.list(remote, stop);
    const choice = chooseBranches(branches, refs);
    if (choice.watched.length > 0) {
      const here = await mirror.fetch(remote, choice.watched, history, stop);
      const heads = await commits.branchHeads(sql, name);
      const found = new Map(here.map((branch) => [branch.name, branch.head]));
      let moved = false;
      for (const branch of here) {
        const recorded = heads.get(branch.name);
        if (recorded === branch.head && this.#planned.has(branch.name)) continue;
        await this.#record(branch, recorded);
        moved ||= recorded !== branch.head;
      }
      this.#standing = { ...this.#standing, heads: found };
      if (moved) await mirror.tidy(stop).catch((error: unknown) => this.#untidy(error));
    }
    const present = new Set([...refs.branches.keys(), ...choice.watched.map((branch) => branch.name)]);
    for (const branch of this.#planned) if (!present.has(branch)) this.#planned.delete(branch);
    for (const topic of await this.#recordPresent([...present])) bus.publish(topic);
    const { headBranch, problem } = choice;
    const words = `Cannot find everything in ${JSON.stringify(name)} at ${url}: ${problem}`;
    return { headBranch, problem: problem === null ? null : words };
  }

  /** Records which branches the remote has. Returns the topics of what changed. */
  #recordPresent(present: readonly string[]): Promise<readonly string[]> {
    const { sql, clock, planned } = this.#deps;
    const { name: repo } = this.config;
    return sql.tx(async (tx) => {
      const { news, gone } = await commits.recordPresent(tx, repo, present, clock.now());
      const topics = news ? [`grid:${repo}`, `standing:${repo}`] : [];
      for (const branch of gone) topics.push(...(await planned(tx, { repo, branch, commits: [] })));
      return topics;
    });
  }

  async #record(branch: WatchedBranch, recorded: string | undefined): Promise<void> {
    const { sql, bus, log, clock, mirror, planned } = this.#deps;
    const { name: repo, history, depth } = this.config;
    const stop = this.#stop.signal;
    const found = await mirror.commits(branch.head, history, stop);
    const here = recorded !== undefined && (await mirror.has(recorded, stop));
    const keepTail = here && (await mirror.isAncestor(recorded, branch.head, stop));
    const done = await sql.tx(async (tx) => {
      const fresh = await commits.recordBranch(
        tx,
        { repo, branch: branch.name, was: recorded, commits: found, keepTail },
        clock.now(),
      );
      if (!fresh) return undefined;
      // The first look also plans what an earlier run recorded, whose configuration may have had other builders.
      const all = !this.#planned.has(branch.name);
      const wanted = all ? await commits.newestCommits(tx, repo, branch.name, depth) : fresh.slice(0, depth);
      const topics = await planned(tx, { repo, branch: branch.name, commits: wanted });
      return { topics, fresh };
    });
    if (!done) {
      this.poke();
      return;
    }
    const { topics, fresh } = done;
    this.#planned.add(branch.name);
    if (fresh.length > 0)
      log.info({ repo, branch: branch.name, head: branch.head, commits: fresh.length }, "Found commits");
    for (const topic of [...topics, `grid:${repo}`]) bus.publish(topic);
  }

  /** Fetches one commit by name, unless the look before has brought it: its branch may have moved meanwhile. */
  async #bring(commit: string): Promise<void> {
    const { mirror, log } = this.#deps;
    const stop = this.#stop.signal;
    try {
      if (await mirror.has(commit, stop)) return;
      await mirror.fetchCommit(await this.#deps.remote(this.config), commit, stop);
    } catch (error) {
      log.warn(
        { repo: this.config.name, commit, error: messageOf(error) },
        "Could not get a commit that another coordinator found",
      );
    }
  }

  #untidy(error: unknown): void {
    if (!this.#stop.signal.aborted)
      this.#deps.log.warn({ repo: this.config.name, error: messageOf(error) }, "Could not pack a mirror");
  }
}

/** How long to wait after a look. `random` is at least 0 and below 1. */
export function waitAfter(poll: Ms, failures: number, random: number): Ms {
  const backedOff = Math.min(poll * 2 ** failures, Math.max(poll, LONGEST_WAIT));
  return ms(backedOff * (0.9 + 0.2 * random));
}

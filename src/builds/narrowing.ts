/**
 * Red after green: finding the commit that did it.
 *
 * A line is one builder's answers about one branch. It is looked at when a build of it has ended, when its branch moved, when the configuration
 * changed, and every SWEEP for what got lost; each look asks culprit.ts where the line stands, keeps that in the table `standing`, wants the
 * builds that make its range smaller and takes back those that do not any more. Only what the configuration in force builds is narrowed, by
 * the recipe in force, and no builder whose failures are known, nor a branch that is gone. Where a few tests fail it is done for each
 * (test-edges.ts). What is tested with another repository has a line for each branch of that, and may go on along that one's commits
 * (pair-edges.ts); while that one moves, what was begun is brought to its end first (views.ts).
 *
 *   background   one build at a time, for machines that have nothing else to do (the class sees to that)
 *   batch        two at a time and in the class of the builds that were skipped: without them a busy farm would never know
 *
 * In either class all of them together take turns at the machines as if they were one repository's, and among themselves as repositories
 * do, what was wanted first before the rest. So newer commits, which go first among those of a repository, never keep them waiting, and
 * however much is red, they take no more than one repository's share.
 *
 * Every coordinator looks at everything: what is to be written is decided again in one transaction that holds the branch's row, from
 * what the database has then, so that two who decide at once decide the same once. Two whose configurations differ for a while do not
 * undo each other's work in a circle: what only the configuration speaks against is taken back in the looks at everything, once a SWEEP.
 */
import type { BuilderConfig, FarmConfig } from "../config/effective.ts";
import { buildsPostSubmit } from "../config/policy.ts";
import type { Recipe } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type BuildId, buildId, type Ms, ms, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { starvesAt } from "../schedule/order.ts";
import { recipeDigest } from "../store/builds.ts";
import { isGone } from "../store/commits.ts";
import {
  allBranches,
  insertNarrowing,
  keepStandings,
  type LineBuild,
  type LineCommit,
  type LineName,
  linesOfBuilds,
  linesToLookAt,
  lockBranch,
  readLine,
  standingLines,
  toldBy,
} from "../store/lines.ts";
import type { Sql } from "../store/sql.ts";
import { skipBuilds } from "../store/superseded.ts";
import { type Edge, lineOfPair, type Pair, pairsOf, standingOf } from "./culprit.ts";
import { alongOther, type OtherEdge } from "./pair-edges.ts";
import { isRelease, plan, type Tips } from "./plan.ts";
import { publishBuild, publishEnded } from "./publish.ts";
import { redEdges } from "./test-edges.ts";
import { type Decision, decisionOf, type View, wantedOf } from "./views.ts";

const SWEEP: Ms = seconds(60);
/** What ends close together is looked at together. */
const GATHER: Ms = seconds(1);
/** Commits that a line goes back, if none is known that was green before it turned red. */
export const LOOK_BACK = 300;
/** A builder that said nothing about so many of the newest commits says nothing about the branch. */
const NEWEST = 50;

export interface NarrowingDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  /** The configuration in force. */
  readonly config: () => FarmConfig;
}

export class Narrowing implements AsyncDisposable {
  readonly #deps: NarrowingDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  /** Builds that changed since the last look. */
  #changed = new Set<BuildId>();
  /** Anything may have changed. */
  #all = true;
  readonly #wake: Wake;

  /** Looks at everything at once, and from then on at what changes, until it is disposed of. */
  constructor(deps: NarrowingDeps) {
    this.#deps = deps;
    const { bus, clock } = deps;
    this.#wake = new Wake(clock, this.#stop.signal);
    bus.subscribe("build:", (topic) => this.#note(topic.slice("build:".length)), this.#stop.signal);
    bus.subscribe("config:", () => this.#note(""), this.#stop.signal);
    this.#loop = this.#run();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** `id` is "" when words got lost: then anything may have changed. */
  #note(id: string): void {
    if (id === "") this.#all = true;
    else this.#changed.add(buildId(Number(id)));
    this.#wake.call();
  }

  async #run(): Promise<void> {
    const { sql, clock, log } = this.#deps;
    const stop = this.#stop.signal;
    let sweepAt = clock.monotonic();
    while (!stop.aborted) {
      const [all, changed] = [this.#all || clock.monotonic() >= sweepAt, [...this.#changed]];
      this.#all = false;
      this.#changed = new Set();
      try {
        await look(this.#deps, all ? "everything" : await linesOfBuilds(sql, changed));
        if (all) sweepAt = clock.monotonic() + SWEEP;
      } catch (error) {
        this.#note("");
        log.warn({ error: messageOf(error) }, "Could not look for culprits");
        await clock.sleep(SWEEP, stop).catch(() => {});
      }
      await this.#wake.sleep(ms(Math.max(0, sweepAt - clock.monotonic())), GATHER);
    }
  }
}

/** All lines of the configuration, and those that it does not have any more but that something is kept of. */
async function everyLine(sql: Sql, config: FarmConfig): Promise<LineName[]> {
  const lines = await standingLines(sql);
  for (const { repo, branch } of await allBranches(sql)) {
    if (!config.repos.some(({ name }) => name === repo)) continue;
    for (const builder of config.builders) {
      if (buildsPostSubmit(config, builder, repo, branch)) lines.push({ repo, branch, builder: builder.name });
    }
  }
  const known = new Map(lines.map((line) => [`${line.repo}\n${line.branch}\n${line.builder}`, line]));
  return [...known.values()];
}

/** Brings each of `lines` a step further: its standing is kept, what it needs is wanted, what it does not need is taken back. */
export async function look(deps: NarrowingDeps, lines: readonly LineName[] | "everything"): Promise<void> {
  const { sql, config } = deps;
  const all = lines === "everything";
  const named = all ? await everyLine(sql, config()) : lines;
  if (named.length === 0) return;
  for (const line of await linesToLookAt(sql, named, NEWEST)) {
    await act(deps, line, all, await decide(sql, config(), line, all));
  }
}

/** What is to be done about a line, whoever asks, of what is tested with each branch of another repository by itself (views.ts). */
async function decide(sql: Sql, config: FarmConfig, line: LineName, tidy: boolean): Promise<Decision> {
  const [all, told] = [await readLine(sql, line, LOOK_BACK), await toldBy(sql, line)];
  const parts: Decision[] = [];
  for (const commits of pairsOf(all).map((pair) => lineOfPair(all, pair))) {
    parts.push(await decisionOf(commits, told, tidy, (build) => viewBy(sql, config, line, commits, build)));
  }
  return {
    standings: parts.flatMap(({ standings }) => standings),
    unneeded: parts.flatMap(({ unneeded }) => unneeded),
    wanted: parts.flatMap(({ wanted }) => wanted),
  };
}

/** What the recipe of `build` says about the line. */
async function viewBy(
  sql: Sql,
  config: FarmConfig,
  line: LineName,
  commits: readonly LineCommit[],
  build: LineBuild,
): Promise<View> {
  const builder = config.builders.find(({ name }) => name === line.builder);
  const inForce = await recipeInForce(sql, config, line, build.pair);
  const edges = await edgesOf(sql, commits, build.recipe, inForce?.tests !== undefined);
  const moved = new Map<Edge, OtherEdge>();
  for (const edge of edges) {
    const other = await alongOther(sql, line.builder, build.recipe, edge, LOOK_BACK);
    if (other) moved.set(edge, other);
  }
  const so = inForce !== undefined && build.recipe === recipeDigest(inForce).digest && worthwhile(builder);
  const batch = builder?.superseded === "batch";
  return {
    recipe: build.recipe,
    edges: edges.map((edge) => moved.get(edge) ?? edge),
    wanted: so ? wantedOf(commits, edges, moved, inForce, { stride: batch, atOnce: batch ? 2 : 1 }) : [],
    configured: so ? "so" : inForce ? "otherwise" : "no",
  };
}

/** How the configuration would build the line now, tested with the commit of `pair`; undefined: not at all. */
async function recipeInForce(
  sql: Sql,
  config: FarmConfig,
  { repo, branch, builder }: LineName,
  [other, otherBranch, hash]: Pair,
): Promise<Recipe | undefined> {
  if (await isGone(sql, repo, branch)) return undefined;
  if (other !== null && otherBranch !== null && (await isGone(sql, other, otherBranch))) return undefined;
  const tips: Tips = (name) => (name === other ? [{ branch: otherBranch ?? "", hash: hash ?? "" }] : []);
  const recipes = plan(config, repo, branch, tips);
  return recipes.find((recipe) => recipe.builder === builder && (recipe.with?.repo ?? null) === other);
}

/** Of the tests that fail, or of the builder as a whole. */
async function edgesOf(sql: Sql, line: readonly LineCommit[], recipe: string, tests: boolean): Promise<Edge[]> {
  const standing = standingOf(line, recipe);
  const edges = tests && standing.kind !== "green" ? await redEdges(sql, line, recipe) : [];
  return edges.length > 0 ? edges : [{ test: null, line, standing }];
}

function worthwhile(builder: BuilderConfig | undefined): boolean {
  return builder !== undefined && builder.knownIssues.length === 0;
}

async function act(deps: NarrowingDeps, line: LineName, tidy: boolean, seen: Decision): Promise<void> {
  const { sql, bus, clock, log } = deps;
  const now = clock.now();
  const done = await sql.tx(async (tx) => {
    if (seen.wanted.length === 0 && seen.unneeded.length === 0) {
      return { news: await keepStandings(tx, line, seen.standings, now), skipped: [], made: [] };
    }
    await lockBranch(tx, line.repo, line.branch);
    const config = deps.config();
    const decision = await decide(tx, config, line, tidy);
    const batch = config.builders.find(({ name }) => name === line.builder)?.superseded === "batch";
    const skipped = await skipBuilds(tx, decision.unneeded, "not needed any more to find the culprit", now);
    const made = [];
    for (const { commitId, recipe } of decision.wanted) {
      const leaseClass = batch ? "post-submit" : "background";
      const wish = {
        line,
        commitId,
        recipe,
        class: leaseClass,
        release: isRelease(config, line.repo, line.branch, recipe.with),
        starvesAt: starvesAt(leaseClass, now),
      } as const;
      made.push((await insertNarrowing(tx, wish, now)) ?? []);
    }
    const news = await keepStandings(tx, line, decision.standings, now);
    return { news, skipped, made: made.flat() };
  });
  for (const build of done.made) {
    log.info({ ...line, build: build.id }, "Builds a commit to find the culprit");
    publishBuild(bus, build, true);
  }
  for (const build of done.skipped) publishEnded(bus, build);
  if (done.news) bus.publish(`grid:${line.repo}`);
  if (done.news || done.made.length > 0 || done.skipped.length > 0) bus.publish(`standing:${line.repo}`);
}

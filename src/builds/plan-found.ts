/**
 * Commits that source/ found become builds, in the transaction that records them: killed at any point, the farm has both or none.
 *
 * The newest commit of a branch is built anew when a builder's recipe changed; what then waits by an older recipe is skipped. What waits
 * and is overtaken by it is skipped where the builder's policy says so (overtaken.ts). Either way what is wanted instead starves when the
 * skipped one would have. What narrows a range of commits that a forced push took away is canceled, begun or not. What waits for the sake
 * of a branch that is gone is skipped. Nothing that somebody asked for is taken back.
 *
 * Where a repository is tested with another one (builder `against`), a build is of a pair: whichever of the two moves, the newest commit of the
 * one is planned with the newest of the other. A pair that waits is skipped when there is a newer one, like an older recipe.
 */
import type { FarmConfig } from "../config/effective.ts";
import { testedWith, testsWith } from "../config/policy.ts";
import type { Recipe } from "../farm/build.ts";
import type { Bus } from "../farm/deps.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { FoundCommits } from "../source/repo-watch.ts";
import { type BuildRef, cancelBuild, recipeDigest } from "../store/builds.ts";
import { type BranchTip, isGone, type KnownCommit, lockedTips } from "../store/commits.ts";
import { narrowingOfGone } from "../store/lines.ts";
import type { Sql } from "../store/sql.ts";
import {
  buildsOfGone,
  inheritWait,
  outdatedBuilds,
  overtakenBuilds,
  skipBuilds,
  spareMachines,
} from "../store/superseded.ts";
import { insertPlanned, type PlannedBuild } from "./insert.ts";
import { toSkip } from "./overtaken.ts";
import { isRelease, plan, type Tips } from "./plan.ts";
import { publishBuild, publishEnded } from "./publish.ts";

/** Who cancels a build whose commit the branch has no more. */
const FORCED_PUSH = "a forced push that took its commit away";

/** What the mirrors know. */
export interface Known {
  /** Whether a branch that the database has is still watched. */
  readonly watches: (repo: string, branch: string) => boolean;
  /** Whether the history of `hash` has `needed`; true where nobody can tell. */
  readonly includes: (repo: string, hash: string, needed: string) => Promise<boolean>;
}

/** What commits are planned with. */
interface Planning {
  readonly sql: Sql;
  readonly farm: FarmConfig;
  /** Of all repositories that are part of pairs. */
  readonly tips: readonly BranchTip[];
  readonly known: Known;
  readonly bus: Pick<Bus, "publish">;
  readonly now: EpochMs;
}

const EVERYTHING: Known = { watches: () => true, includes: async () => true };

/** Plans what was `found`, newest first; returns the topics to publish once the transaction is in. */
export async function planFound(
  sql: Sql,
  farm: FarmConfig,
  found: FoundCommits,
  now: EpochMs,
  known: Known = EVERYTHING,
): Promise<readonly string[]> {
  const { repo, branch } = found;
  const topics = new Set<string>();
  const bus = { publish: (topic: string) => void topics.add(topic) };
  if (found.commits.length === 0 && (await isGone(sql, repo, branch))) {
    const reason = `branch ${JSON.stringify(branch)} of ${repo} was deleted before it began`;
    const waiting = await buildsOfGone(sql, repo, branch);
    for (const build of await skipBuilds(sql, waiting, reason, now)) publishEnded(bus, build);
    return [...topics];
  }
  const all = await tipsOf(sql, farm, repo, known);
  const tips: Tips = (other) =>
    all.filter((tip) => tip.repo === other).map((tip) => ({ branch: tip.branch, hash: tip.commit.hash }));
  const planning: Planning = { sql, farm, tips: all, known: remembering(known), bus, now };
  await planCommits(planning, found, plan(farm, repo, branch, tips), "a changed configuration");
  for (const tip of all) {
    if (tip.repo === repo) continue;
    const pairs = plan(farm, tip.repo, tip.branch, tips).filter((recipe) => recipe.with?.repo === repo);
    await planCommits(planning, { ...tip, commits: [tip.commit] }, pairs, `a newer commit of "${repo}"`);
  }
  const [head] = found.commits;
  if (head) {
    const overtaken = await skipOvertaken(sql, farm, found, head, now);
    for (const build of overtaken) publishEnded(bus, build);
    await inheritWait(sql, head.id, overtaken);
  }
  for (const id of await narrowingOfGone(sql, repo, branch)) {
    publishEnded(bus, (await cancelBuild(sql, id, FORCED_PUSH, now)).build);
  }
  return [...topics];
}

/** Each question once, whichever builders have it: they are answered in the middle of a transaction, which must not stand still for long. */
function remembering(known: Known): Known {
  const answers = new Map<string, Promise<boolean>>();
  return {
    watches: (repo, branch) => known.watches(repo, branch),
    includes: (repo, hash, needed) => {
      const key = `${repo}\n${hash}\n${needed}`;
      const answer = answers.get(key) ?? known.includes(repo, hash, needed);
      answers.set(key, answer);
      return answer;
    },
  };
}

/** Tips of the repositories that `repo` is tested with, and of those that are tested with it; none where there are no pairs. */
async function tipsOf(sql: Sql, farm: FarmConfig, repo: string, known: Known): Promise<BranchTip[]> {
  const others = new Set(testedWith(farm, repo));
  for (const other of testsWith(farm, repo)) others.add(other);
  if (others.size === 0) return [];
  const tips = await lockedTips(sql, [...others, repo]);
  return tips.filter((tip) => known.watches(tip.repo, tip.branch));
}

async function planCommits(
  { sql, farm, tips, known, bus, now }: Planning,
  { repo, branch, commits }: FoundCommits,
  recipes: readonly Recipe[],
  instead: string,
): Promise<void> {
  const [head] = commits;
  const outdated = head ? await skipOutdated(sql, head, recipes, instead, now) : [];
  for (const build of outdated) publishEnded(bus, build);
  const wanted: PlannedBuild[] = [];
  for (const commit of commits) {
    for (const recipe of recipes) {
      if (!(await hasNeeded(farm, recipe, { repo, hash: commit.hash }, known))) continue;
      const other = tips.find((tip) => tip.repo === recipe.with?.repo && tip.branch === recipe.with.branch);
      wanted.push({
        repo,
        branch,
        release: isRelease(farm, repo, branch, recipe.with),
        head: commit === head,
        commitId: commit.id,
        committedAt: laterOf(commit.committedAt, other?.commit.committedAt ?? commit.committedAt),
        recipe,
        provenance: "submitted",
        class: "post-submit",
      });
    }
  }
  for (const build of await insertPlanned(sql, wanted, now)) publishBuild(bus, build, true);
  if (head) await inheritWait(sql, head.id, outdated);
}

function laterOf(a: EpochMs, b: EpochMs): EpochMs {
  return a > b ? a : b;
}

/** Ends what waits to build `head` by a recipe that is not among `recipes` any more, since `instead` is wanted. */
async function skipOutdated(
  sql: Sql,
  head: KnownCommit,
  recipes: readonly Recipe[],
  instead: string,
  now: EpochMs,
): Promise<BuildRef[]> {
  const builders = recipes.map((recipe) => recipe.builder);
  const digests = recipes.map((recipe) => recipeDigest(recipe).digest);
  const outdated = await outdatedBuilds(sql, head.id, builders, digests);
  return skipBuilds(sql, outdated, `overtaken by ${instead} before it began`, now);
}

/** Whether the commit has what its builder needs; of a pair, the other one. */
async function hasNeeded(
  farm: FarmConfig,
  recipe: Recipe,
  own: { readonly repo: string; readonly hash: string },
  known: Known,
): Promise<boolean> {
  const { repo, hash } = recipe.with ?? own;
  for (const needed of farm.builders.find(({ name }) => name === recipe.builder)?.needs ?? []) {
    if (!(await known.includes(repo, hash, needed))) return false;
  }
  return true;
}

/** Ends what waits behind `head` on the branch, as far as the policies of its builders want that. */
async function skipOvertaken(
  sql: Sql,
  farm: FarmConfig,
  { repo, branch }: FoundCommits,
  head: KnownCommit,
  now: EpochMs,
): Promise<BuildRef[]> {
  const policies = new Map(farm.builders.map(({ name, superseded }) => [name, superseded]));
  const choosy = farm.builders.filter(({ superseded }) => superseded !== "every");
  if (choosy.length === 0) return [];
  const waiting = await overtakenBuilds(
    sql,
    repo,
    branch,
    choosy.map(({ name }) => name),
  );
  if (waiting.length === 0) return [];
  const hosts = [...new Set(waiting.map(({ hostType }) => hostType))];
  const spare = await spareMachines(
    sql,
    hosts,
    waiting.map(({ id }) => id),
  );
  const skipped = toSkip(waiting, (builder) => policies.get(builder) ?? "every", spare);
  const reason = `overtaken by ${head.hash.slice(0, 8)} before it began`;
  return skipBuilds(
    sql,
    skipped.map(({ id }) => id),
    reason,
    now,
  );
}

/**
 * Commits that source/ found become builds, in the transaction that records them: killed at any point, the farm has both or none.
 *
 * The newest commit of a branch is built anew when a builder's recipe changed; what then waits by an older recipe is canceled.
 */
import type { FarmConfig } from "../config/effective.ts";
import { matches } from "../config/globs.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { FoundCommits } from "../source/repo-watch.ts";
import { cancelBuild, outdatedBuilds, recipeDigest } from "../store/builds.ts";
import type { Sql } from "../store/sql.ts";
import { publishBuild } from "./builds.ts";
import { insertPlanned } from "./insert.ts";
import { plan } from "./plan.ts";

/** Who cancels what nobody wants any more. */
const FARM = "a changed configuration";

/** Plans what was `found`, newest first; returns the topics to publish once the transaction is in. */
export async function planFound(
  sql: Sql,
  farm: FarmConfig,
  found: FoundCommits,
  now: EpochMs,
): Promise<readonly string[]> {
  const { repo, branch, commits } = found;
  const recipes = plan(farm, repo, branch);
  const release = matches(farm.repos.find((r) => r.name === repo)?.releaseBranches ?? [], branch);
  const topics = new Set<string>();
  const bus = { publish: (topic: string) => void topics.add(topic) };
  const [head] = commits;
  if (head) {
    const builders = recipes.map((recipe) => recipe.builder);
    const digests = recipes.map((recipe) => recipeDigest(recipe).digest);
    for (const id of await outdatedBuilds(sql, head.id, builders, digests)) {
      publishBuild(bus, (await cancelBuild(sql, id, FARM, now)).build, false);
    }
  }
  const wanted = commits.flatMap((commit) =>
    recipes.map((recipe) => ({
      repo,
      branch,
      release,
      head: commit === head,
      commitId: commit.id,
      committedAt: commit.committedAt,
      recipe,
      provenance: "submitted" as const,
      class: "post-submit" as const,
    })),
  );
  for (const build of await insertPlanned(sql, wanted, now)) publishBuild(bus, build, true);
  return [...topics];
}

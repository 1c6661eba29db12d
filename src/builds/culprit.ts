/**
 * Which commit broke a builder, and which commit to build next to find out. Pure: a line (store/lines.ts) in, an answer out.
 *
 *   green   a build of the commit passed, whatever else its builds did: code that passes now and then (flaky) did not break there
 *   red     none passed and one failed by the recipe that is asked about
 *   unknown nothing ran to a verdict: never planned, skipped, canceled, or failed for the farm's own reasons
 *
 * From the newest known commit back, as long as no green one is met, everything is `the red run`; its oldest red commit and the green one
 * before it are the two ends of the range. With nothing unknown between them the red end is the culprit: it is red and its first parent is
 * green. A merge is one step of that history, so a merge can be the culprit, with all that it brought. Where the branch has a gap (more
 * commits came at once than are kept) the range stays one.
 *
 * Only builds by one recipe compare, and of a repository that is tested with another one only those with the same branch of it. What is red by
 * another recipe is unknown: something else may have broken it. A commit that is green by another one only is an end of the range all the
 * same, `unverified`: its successor is accused once it is green by the recipe of the red end as well. When it is red then, the configuration did
 * it, and no commit; when the farm cannot build it, the range stays one.
 *
 * What is built next (`wanted`) is the middle of the range. With `stride` it is first the commits 1, 2, 4, 8 ... back from where the range
 * began, so that a break just before the red is found after a few builds however old the green is. Before both, the commit beside the green end
 * when another recipe has found that it broke there: most likely it still does. A commit that the farm could not build is passed over, and tried
 * once more when nothing else is left. The walk ends: each build either makes the range smaller, or uses up one of the TRIES of its commit.
 *
 * A test that fails has a line of its own (lineOfKey): the same builds, asked about that test. One build answers for all tests, so the
 * ranges of several are narrowed together (wantedForAll).
 */
import type { BuildId } from "../farm/ids.ts";
import type { LineBuild, LineCommit, StandingRow } from "../store/lines.ts";

/** So often a commit within a range is built for the sake of the range, when the farm itself fails. */
export const TRIES = 2;

export interface End {
  /** In the line: 0 is its newest commit. */
  readonly at: number;
  readonly commitId: number;
  readonly hash: string;
  readonly build: BuildId;
}

export type Standing =
  /** The newest commit that is known is green, or none is known. */
  | { readonly kind: "green" }
  /** Red as far back as is known. */
  | { readonly kind: "never green"; readonly red: End }
  /** Somewhere in it. `unverified`: green was only seen by another recipe. */
  | {
      readonly kind: "range";
      readonly red: End;
      readonly green: End;
      readonly between: number;
      readonly unverified: boolean;
      /** Open builds of commits in it. */
      readonly open: readonly BuildId[];
    }
  /** `red` is the culprit. */
  | { readonly kind: "commit"; readonly red: End; readonly green: End }
  /** The same commit was green by an earlier recipe. */
  | { readonly kind: "recipe"; readonly red: End; readonly green: End };

/** The other repository and its branch; null twice: there is none. */
export type Pair = readonly [repo: string | null, branch: string | null, hash?: string | null];

/** The pairs that the line has builds of, each once. */
export function pairsOf(line: readonly LineCommit[]): Pair[] {
  const pairs = line.flatMap(({ builds }) => builds.map(({ pair: [repo, branch] }): Pair => [repo, branch]));
  return [...new Map(pairs.map((pair) => [JSON.stringify(pair), pair])).values()];
}

/** The line as those builds tell it that are tested with the same branch of the same other repository, or with none. */
export function lineOfPair(line: readonly LineCommit[], pair: Pair): LineCommit[] {
  const same = (build: LineBuild): boolean => build.pair[0] === pair[0] && build.pair[1] === pair[1];
  return line.map((commit) => ({ ...commit, builds: commit.builds.filter(same) }));
}

/**
 * The newest build that says something about the code, of the newest commit that has one; undefined when none has. What only narrows is
 * passed over.
 */
export function newestBuild(line: readonly LineCommit[]): LineBuild | undefined {
  const settled = ({ outcome }: LineBuild): boolean => outcome === "success" || outcome === "failure";
  for (const { builds } of line) {
    const build = builds.findLast((each) => settled(each) && !each.narrows) ?? builds.findLast(settled);
    if (build) return build;
  }
  return undefined;
}

/** Where the line stands, by what `recipe` says about it. */
export function standingOf(line: readonly LineCommit[], recipe: string): Standing {
  let red: End | undefined;
  for (const [at, commit] of line.entries()) {
    const verdict = verdictOf(commit, recipe);
    const end = (build: LineBuild): End => ({ at, commitId: commit.commitId, hash: commit.hash, build: build.id });
    if (verdict === undefined) continue;
    if (verdict.green) {
      if (red === undefined) return { kind: "green" };
      const green = end(verdict.build);
      const inside = line.slice(red.at + 1, at);
      const unverified = verdict.build.recipe !== recipe;
      const next = line[red.at]?.parent === commit.hash;
      if (next && !unverified) return { kind: "commit", red, green };
      const open = (unverified ? line.slice(red.at + 1, at + 1) : inside).flatMap((each) => openOf(each, recipe));
      return { kind: "range", red, green, between: inside.length, unverified, open: open.map((build) => build.id) };
    }
    red = end(verdict.build);
    if (verdict.earlier) return { kind: "recipe", red, green: end(verdict.earlier) };
  }
  return red === undefined ? { kind: "green" } : { kind: "never green", red };
}

/** Where a line stands that is asked about one test, or about everything. */
export interface Edge {
  /** null: everything that the builder does. */
  readonly test: string | null;
  readonly line: readonly LineCommit[];
  readonly standing: Standing;
}

/** The build that says that the newest known commit is red; undefined when it is green. */
export function newestRed(line: readonly LineCommit[], recipe: string): BuildId | undefined {
  for (const commit of line) {
    const verdict = verdictOf(commit, recipe);
    if (verdict !== undefined) return verdict.green ? undefined : verdict.build.id;
  }
  return undefined;
}

export interface Wish {
  /** Strides of 1, 2, 4, 8 first. */
  readonly stride: boolean;
  /** Open builds within one range at most. */
  readonly atOnce: number;
  /** A green end that only another recipe has seen is built before anything else. */
  readonly greenFirst?: boolean;
}

/** The commits to build next so that the range gets smaller, in the order of their use. */
export function wanted(line: readonly LineCommit[], standing: Standing, recipe: string, wish: Wish): LineCommit[] {
  if (standing.kind !== "range") return [];
  const free = wish.atOnce - standing.open.length;
  if (free <= 0) return [];
  const { red, green } = standing;
  const end = line.slice(green.at, green.at + 1).filter((commit) => tries(commit, recipe) < TRIES);
  if (standing.unverified && end.length > 0 && (wish.greenFirst || standing.between === 0)) {
    return end.filter((commit) => openOf(commit, recipe).length === 0);
  }
  const candidates = line
    .map((commit, at) => ({ commit, at, tries: tries(commit, recipe) }))
    .slice(red.at + 1, green.at)
    .filter(({ commit, tries }) => tries < TRIES && openOf(commit, recipe).length === 0);
  const strides = wish.stride ? stridesOf(line, red, recipe) : [];
  const fresh = candidates.filter(({ tries }) => tries === 0);
  const known = fresh.filter(({ at }) => at + 1 === green.at && brokeBefore(line, at));
  const planned = known.length > 0 ? known : fresh.filter(({ at }) => strides.includes(at));
  const middle = (red.at + green.at) / 2;
  const rest = candidates.toSorted(
    (a, b) => a.tries - b.tries || Math.abs(a.at - middle) - Math.abs(b.at - middle) || a.at - b.at,
  );
  const chosen = planned.length > 0 ? planned.slice(0, free) : standing.open.length > 0 ? [] : rest.slice(0, 1);
  return chosen.map(({ commit }) => commit);
}

/** The same for several edges of one line: the first ones first, a commit that lies in the ranges of several once, `atOnce` for all together. */
export function wantedForAll(edges: readonly Edge[], recipe: string, wish: Wish): LineCommit[] {
  const open = openIn(edges);
  const chosen: { readonly at: number; readonly commit: LineCommit }[] = [];
  for (const { line, standing } of edges) {
    const free = wish.atOnce - open.length - chosen.length;
    if (standing.kind !== "range" || free <= 0) continue;
    if (chosen.some(({ at }) => standing.red.at < at && at <= standing.green.at)) continue;
    for (const commit of wanted(line, standing, recipe, { ...wish, atOnce: standing.open.length + free })) {
      chosen.push({ at: line.indexOf(commit), commit });
    }
  }
  return chosen.map(({ commit }) => commit);
}

/** Open builds within the ranges of `edges`. */
export function openIn(edges: readonly Edge[]): BuildId[] {
  return [...new Set(edges.flatMap(({ standing }) => (standing.kind === "range" ? standing.open : [])))];
}

/** Of our builds that narrow a range: those that wait and are not `needed`, for they are outside of every range, or by another recipe. */
export function unneeded(line: readonly LineCommit[], needed: readonly BuildId[]): BuildId[] {
  return line
    .flatMap(({ builds }) => builds)
    .filter((build) => build.narrows && build.ours && !build.requested && build.state === "scheduled")
    .filter(({ id }) => !needed.includes(id))
    .map(({ id }) => id);
}

/** As the database keeps it; undefined: not red. */
export function standingRow({ test, standing }: Pick<Edge, "test" | "standing">): StandingRow | undefined {
  if (standing.kind === "green") return undefined;
  const { kind, red } = standing;
  const green = standing.kind === "never green" ? null : standing.green;
  return {
    test,
    kind,
    redBuild: red.build,
    redCommit: red.commitId,
    greenBuild: green?.build ?? null,
    greenCommit: green?.commitId ?? null,
    between: standing.kind === "range" ? standing.between : 0,
  };
}

/** What a build says that says nothing about a test: it counts like one that somebody canceled, since another build of the commit says the same. */
const SAYS_NOTHING = { outcome: "canceled", narrows: true } as const;

/** The line of one test, or of whatever else has a name and fails. `says` is asked about builds that passed or failed. */
export function lineOfKey(
  line: readonly LineCommit[],
  says: (build: LineBuild) => "passed" | "failed" | "nothing",
): LineCommit[] {
  return line.map((commit) => ({
    ...commit,
    builds: commit.builds.map((build): LineBuild => {
      if (build.outcome !== "success" && build.outcome !== "failure") return build;
      const said = says(build);
      if (said === "nothing") return { ...build, ...SAYS_NOTHING };
      return { ...build, outcome: said === "passed" ? "success" : "failure" };
    }),
  }));
}

type Verdict =
  | { readonly green: true; readonly build: LineBuild }
  /** `earlier`: before that, the same commit was green by another recipe. */
  | { readonly green: false; readonly build: LineBuild; readonly earlier: LineBuild | undefined };

/** What `recipe` says about a commit, else that another one passed; undefined: nothing. */
function verdictOf({ builds }: LineCommit, recipe: string): Verdict | undefined {
  const own = builds.filter((build) => build.recipe === recipe);
  const others = builds.filter((build) => build.recipe !== recipe);
  const last = (list: readonly LineBuild[], outcome: LineBuild["outcome"]) =>
    list.findLast((build) => build.outcome === outcome);
  const passed = last(own, "success");
  if (passed) return { green: true, build: passed };
  const failed = last(own, "failure");
  if (failed) {
    const before = builds.slice(
      0,
      builds.findIndex((build) => build.recipe === recipe),
    );
    return { green: false, build: failed, earlier: last(before, "success") };
  }
  const passedOtherwise = last(others, "success");
  return passedOtherwise && { green: true, build: passedOtherwise };
}

/** Whether by some recipe the commit at `at` is red and the one before it green. */
function brokeBefore(line: readonly LineCommit[], at: number): boolean {
  const by = (place: number, outcome: LineBuild["outcome"]): string[] =>
    (line[place]?.builds ?? []).filter((build) => build.outcome === outcome).map(({ recipe }) => recipe);
  const [passed, passedBefore] = [by(at, "success"), by(at + 1, "success")];
  return by(at, "failure").some((recipe) => passedBefore.includes(recipe) && !passed.includes(recipe));
}

function openOf({ builds }: LineCommit, recipe: string): LineBuild[] {
  return builds.filter((build) => build.state !== "ended" && build.recipe === recipe);
}

/** How much of its TRIES a commit has used. Somebody who canceled such a build does not want to see it again. */
function tries({ builds }: LineCommit, recipe: string): number {
  let used = 0;
  for (const { outcome, narrows, recipe: by } of builds) {
    if (by !== recipe) continue;
    if (outcome === "infra_failure") used++;
    if (outcome === "canceled" && narrows) used += TRIES;
  }
  return used;
}

/**
 * Places 1, 2, 4, 8 ... back from the red commit that the range began with: the oldest that was not built for the sake of a range, else, as along
 * the other repository's commits, the newest.
 */
function stridesOf(line: readonly LineCommit[], red: End, recipe: string): number[] {
  const run = line.slice(0, red.at + 1).map((commit) => verdictOf(commit, recipe)?.build);
  const began = run.findLastIndex((build) => build?.narrows === false);
  const from = began === -1 ? run.findIndex((build) => build !== undefined) : began;
  const strides: number[] = [];
  for (let stride = 1; from + stride < line.length; stride *= 2) strides.push(from + stride);
  return strides;
}

/**
 * By which recipe a red line is narrowed, and by which it is told since when it is red. Pure.
 *
 * Each recipe has a view of a line of its own (culprit.ts). For a pair each commit of the other repository makes
 * another recipe, so the newest recipe may change faster than a range gets smaller. Therefore
 *
 *   narrowed  one view at a time: the one that was narrowed before, as long as there is something to build for it,
 *             whatever is pushed meanwhile; then the newest one, whose walk is short if it has the same end (culprit.ts
 *             `wanted`)
 *   told      what is red, by the newest view; since when, by the newest view that knows
 *
 * So a commit that was named stays named while it is asked whether it still is the culprit. A commit whose fault was
 * mended meanwhile goes when the newest view knows better.
 */
import type { Recipe } from "../farm/build.ts";
import type { BuildId } from "../farm/ids.ts";
import { recipeDigest } from "../store/builds.ts";
import type { LineBuild, LineCommit, StandingRow, ToldBy } from "../store/lines.ts";
import { type Edge, newestBuild, openIn, standingRow, unneeded, type Wish, wantedForAll } from "./culprit.ts";
import { type OtherEdge, withOther } from "./pair-edges.ts";

/** A build that makes a range smaller. */
export interface Wanted {
  readonly commitId: number;
  readonly recipe: Recipe;
}

/** What one recipe says about a line. */
export interface View {
  /** The digest of the recipe. */
  readonly recipe: string;
  /** The edges, each along the commits of the repository that broke it. */
  readonly edges: readonly Edge[];
  /** What to build next, if the configuration asks for it. */
  readonly wanted: readonly Wanted[];
  /**
   * What the present configuration does with the line: builds and narrows it by this recipe, by another one, or does
   * not build it.
   */
  readonly configured: "so" | "otherwise" | "no";
}

export interface Decision {
  readonly standings: readonly (StandingRow & ToldBy)[];
  readonly unneeded: readonly BuildId[];
  readonly wanted: readonly Wanted[];
}

/**
 * What to do about a line. `told`: what was told about it until now. `tidy`: builds that only the present configuration
 * does not want are unneeded, too.
 */
export async function decisionOf(
  line: readonly LineCommit[],
  told: readonly ToldBy[],
  tidy: boolean,
  viewBy: (build: LineBuild) => Promise<View>,
): Promise<Decision> {
  const build = newestBuild(line);
  if (build === undefined) return { standings: [], unneeded: unneeded(line, []), wanted: [] };
  const newest = await viewBy(build);
  const before = new Map<string, View>();
  for (const recipe of isKnown(newest) ? [] : told.flatMap((by) => [by.looking, by.recipe])) {
    const own = line.flatMap(({ builds }) => builds).find((each) => each.recipe === recipe);
    if (own && recipe !== newest.recipe && !before.has(recipe)) before.set(recipe, await viewBy(own));
  }
  const looking = told.map((by) => before.get(by.looking)).find((view) => view !== undefined);
  const mayStay = ({ configured }: View): boolean => configured === "so" || !tidy;
  const narrowed = looking && mayStay(looking) && isGoingOn(looking) ? looking : newest;
  return {
    standings: newest.configured === "no" ? [] : standingsOf(newest, narrowed, [...before.values()]),
    unneeded: unneeded(line, mayStay(narrowed) ? openIn(narrowed.edges) : []),
    wanted: narrowed.wanted,
  };
}

/**
 * The rows of a line: what is red by `newest`, and since when by the view of `before` that knows, else by the one that
 * is narrowed.
 */
function standingsOf(newest: View, narrowed: View, before: readonly View[]): Decision["standings"] {
  return tellersOf(newest, before).flatMap(({ recipe, edge }) => {
    const nearer = isRange(edge) ? alike(narrowed, edge).find((each) => isRange(each.edge)) : undefined;
    const teller = nearer ?? { recipe, edge };
    const row = standingRow(teller.edge);
    return row ? [{ ...row, recipe: teller.recipe, looking: narrowed.recipe }] : [];
  });
}

type Edges = Pick<View, "recipe" | "edges">;

/** An edge, and the recipe by which it is told. */
interface Teller {
  readonly recipe: string;
  readonly edge: Edge;
}

/**
 * For each edge of `newest` the edge that is told: the same one, or if that is still a range, that of the first view of
 * `before` that has found the culprit.
 */
export function tellersOf(newest: Edges, before: readonly Edges[]): Teller[] {
  return newest.edges.map((edge) => {
    const found = isRange(edge)
      ? before.flatMap((by) => alike(by, edge)).find((each) => isFound(each.edge))
      : undefined;
    return found ?? { recipe: newest.recipe, edge };
  });
}

function alike({ recipe, edges }: Edges, { test }: Edge): Teller[] {
  return edges.filter((edge) => edge.test === test).map((edge) => ({ recipe, edge }));
}

/** Whether no edge of the view needs narrowing. */
export function isKnown({ edges }: Pick<View, "edges">): boolean {
  return !edges.some(isRange);
}

function isRange({ standing }: Edge): boolean {
  return standing.kind === "range";
}

function isFound({ standing }: Edge): boolean {
  return standing.kind === "commit" || standing.kind === "recipe";
}

function isGoingOn({ wanted, edges }: View): boolean {
  return wanted.length > 0 || openIn(edges).length > 0;
}

/**
 * The builds to want next: along the line's own commits, then along the other repository's. `atOnce` is the limit for
 * all together.
 */
export function wantedOf(
  commits: readonly LineCommit[],
  edges: readonly Edge[],
  moved: ReadonlyMap<Edge, OtherEdge>,
  recipe: Recipe,
  wish: Wish,
): Wanted[] {
  const { digest } = recipeDigest(recipe);
  const stayed = edges.filter((edge) => !moved.has(edge));
  const others = [...moved.values()];
  let free = wish.atOnce - openIn([...stayed, ...others]).length;
  const wishFor = (asked: readonly Edge[]): Wish => {
    return { ...wish, atOnce: openIn(asked).length + free, greenFirst: recipe.with !== undefined };
  };
  const wanted = wantedForAll(stayed, digest, wishFor(stayed)).map((commit): Wanted => ({ ...commit, recipe }));
  free -= wanted.length;
  for (const edge of others) {
    const own = commits.find(({ commitId }) => commitId === edge.own);
    const found = own ? wantedForAll([edge], digest, wishFor([edge])) : [];
    free -= found.length;
    for (const { hash } of found) if (own) wanted.push({ ...own, recipe: withOther(recipe, hash) });
  }
  return wanted;
}

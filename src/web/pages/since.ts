/**
 * Since when a builder or a test is red, and which commit did it, in words for people: the sentences of a build's page,
 * the marks of the grid, the list of the front page.
 */
import { type Edge, lineOfPair, type Standing, standingOf } from "../../builds/culprit.ts";
import { LOOK_BACK } from "../../builds/narrowing.ts";
import { alongOther } from "../../builds/pair-edges.ts";
import { MOST_EDGES, MOST_FAILED, testEdges } from "../../builds/test-edges.ts";
import { isKnown, tellersOf } from "../../builds/views.ts";
import { type LineCommit, readLine, toldBy } from "../../store/lines.ts";
import type { BuildFacts } from "../../store/pages-build.ts";
import { type CommitName, commitNames, otherHashes, type RedRow } from "../../store/pages-culprits.ts";
import type { Sql } from "../../store/sql.ts";
import type { Since } from "../../ui/since.tsx";
import { plural, subject, visible } from "../../ui/text.ts";
import type { WebDeps } from "../deps.ts";

/** How many commits of a merge are listed. git shows the others. */
export const MERGED = 50;

/** What the page of a failed build says about when it broke. */
export interface Story {
  /**
   * Since when the first failing test is red, where few fail, else since when the builder is. Null: the commit is green
   * by another try, or no longer on its branch.
   */
  readonly since: Since | null;
  /** Test -> since when it is red. Only the tests that were asked for and are red are in it. */
  readonly tests: ReadonlyMap<string, Since>;
}

/**
 * The story of a failed build. `tests` are names of its failed tests, in their order; `failed` is how many there are in
 * all.
 */
export async function storyOf(
  sql: Sql,
  build: BuildFacts,
  tests: readonly string[],
  failed: number,
  merged: WebDeps["merged"],
): Promise<Story> {
  const nothing = { since: null, tests: new Map() };
  const line = await readLine(sql, build, LOOK_BACK, build.commitId);
  const own = line[0]?.builds.find(({ id }) => id === build.id);
  if (own === undefined) return nothing;
  const commits = lineOfPair(line, own.pair);
  const edgesBy = async (recipe: string): Promise<[Edge, ...Edge[]]> => {
    const whole: Edge = { test: null, line: commits, standing: standingOf(commits, recipe) };
    const edges = failed > MOST_FAILED ? [] : await testEdges(sql, commits, recipe, tests);
    const along = async (edge: Edge): Promise<Edge> =>
      (await alongOther(sql, build.builder, recipe, edge, LOOK_BACK)) ?? edge;
    const all: [Edge, ...Edge[]] = [await along(whole)];
    for (const edge of edges) all.push(await along(edge));
    return all;
  };
  const newest = { recipe: build.recipe, edges: await edgesBy(build.recipe) };
  if (newest.edges[0].standing.kind === "green") return nothing;
  const before = [];
  for (const { recipe } of isKnown(newest) ? [] : await toldBy(sql, build)) {
    const known = commits.some(({ builds }) => builds.some((each) => each.recipe === recipe));
    if (known) before.push({ recipe, edges: await edgesBy(recipe) });
  }
  const [whole = newest.edges[0], ...edges] = tellersOf(newest, before).map(({ edge }) => edge);
  const first = failed > MOST_EDGES ? undefined : edges.find(({ standing }) => "green" in standing);
  const told = await tellerOf(sql, build, own.pair[0], [whole, ...edges]);
  const head = told(first ?? whole);
  const alike = new Set(edges.map(({ standing }) => ("red" in standing ? standing.red.build : 0))).size < 2;
  return {
    since: head && {
      ...head,
      test: alike ? null : head.test,
      merged: await mergedBy(head.first.repo ?? build.repo, head, merged),
    },
    tests: new Map(
      edges.flatMap((edge) => {
        const since = told(edge);
        return edge.test === null || since === null ? [] : [[edge.test, since]];
      }),
    ),
  };
}

/** Returns the function that words the edges of a build's line as a page shows them. */
async function tellerOf(
  sql: Sql,
  build: BuildFacts,
  other: string | null,
  edges: readonly Edge[],
): Promise<(edge: Edge) => Since | null> {
  const reds = edges.flatMap(({ standing }) => ("red" in standing ? [standing] : []));
  const ends = reds.flatMap((standing) => [standing.red.build, ..."green" in standing ? [standing.green.build] : []]); // biome-ignore format: one thought
  const [names, hashes] = await Promise.all([
    commitNames(sql, [...new Set(reds.map(({ red }) => red.commitId))]),
    other === null ? new Map<number, string>() : otherHashes(sql, ends),
  ]);
  const nameOf = new Map(names.map((name) => [name.id, name]));
  return ({ test, line, standing }) => {
    if (standing.kind === "green") return null;
    const { kind, red } = standing;
    const name: CommitName | undefined = nameOf.get(red.commitId);
    return {
      test,
      kind,
      other: other === null || name?.repo === other ? null : { repo: other, ...otherMoved(line, standing, hashes) },
      first: {
        repo: name?.repo === other ? other : null,
        hash: red.hash,
        build: red.build,
        here: red.commitId === build.commitId,
        subject: subject(name?.message ?? ""),
        author: name?.author ?? "",
        merge: (name?.parents.length ?? 0) > 1,
      },
      green: kind === "never green" ? null : { hash: standing.green.hash, build: standing.green.build },
      between: kind === "range" ? standing.between : 0,
      looking: kind === "range" ? standing.open : [],
      merged: null,
    };
  };
}

/**
 * From which commit to which the other repository moved between the two ends. Null: the move is known not to matter, or
 * there was none.
 */
function otherMoved(
  line: readonly LineCommit[],
  standing: Exclude<Standing, { readonly kind: "green" }>,
  hashes: ReadonlyMap<number, string>,
): { readonly from: string | null; readonly to: string | null } {
  if (!("green" in standing)) return { from: null, to: null };
  const { red, green } = standing;
  const greenRecipe = line[green.at]?.builds.find(({ id }) => id === green.build)?.recipe;
  const stayed = line[red.at]?.builds.some(({ outcome, recipe }) => outcome === "failure" && recipe === greenRecipe);
  const [from, to] = [hashes.get(green.build), hashes.get(red.build)];
  if (stayed || from === undefined || to === undefined || from === to) return { from: null, to: null };
  return { from, to };
}

/** How many commits the merge that did it brought. */
async function mergedBy(repo: string, { kind, first }: Since, merged: WebDeps["merged"]): Promise<number | null> {
  return kind === "commit" && first.merge ? (await merged(repo, first.hash, MERGED)).length : null;
}

/**
 * The sentence "red since a1b2c3d4 Fix the parser by A. Author, green before at 9f8e7d6c". The test that it is about
 * stands before it, and the repository when it is another one.
 */
export function redSentence(red: RedRow): string {
  return `${red.test === null ? "" : `${visible(red.test)} `}${sentenceOf(red)}`;
}

function sentenceOf(red: RedRow): string {
  const of = red.otherRepo === null ? "" : `${visible(red.otherRepo)} `;
  const commit = `${of}${red.hash.slice(0, 8)} ${visible(subject(red.message))} by ${visible(red.author)}`;
  const green = red.greenHash?.slice(0, 8) ?? "";
  switch (red.kind) {
    case "commit":
      return `red since ${commit}, green before at ${green}`;
    case "recipe":
      return `red since the configuration changed, green before at ${green}`;
    case "range":
      return red.between > 0
        ? `red since ${of}${red.hash.slice(0, 8)} or one of ${plural(red.between, "commit")} before it, green at ${green}`
        : `red since ${of}${red.hash.slice(0, 8)} at the latest, green at ${green}`;
    default:
      return `red since ${red.hash.slice(0, 8)}, no green is known before`;
  }
}

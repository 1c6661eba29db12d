/**
 * Since when each failing test of a builder fails.
 *
 *   failed   it is among the tests that failed in the build
 *   passed   the build passed, or failed by other tests
 *   nothing  the build failed before its tests had ended, or does not have the test, or left it out, or lost the
 *            machines that ran it
 *
 * Only tests that failed are read, since a build may have 10^5 of them. So a build in which a test did not fail is
 * first taken to have passed it. Where a range would end at such a build, the database is asked. If the build says
 * nothing about the test, the end is looked for further back, ROUNDS times in all. A test that is new where it fails
 * has no green end.
 */
import type { BuildId } from "../farm/ids.ts";
import { failedIn, failedOf, passedIn } from "../store/failed-tests.ts";
import type { LineBuild, LineCommit } from "../store/lines.ts";
import type { Sql } from "../store/sql.ts";
import { type Edge, lineOfKey, newestRed, type Standing, standingOf } from "./culprit.ts";

/** When more tests fail at once, they are not looked at one by one. */
export const MOST_EDGES = 10;
/** In a build with more failed tests all tests count as failed. */
export const MOST_FAILED = 200;
const ROUNDS = 3;

/**
 * The edges of the tests that are red now and were green. None: there are no such tests, or too many, and the builder
 * as a whole is red.
 */
export async function redEdges(sql: Sql, line: readonly LineCommit[], recipe: string): Promise<Edge[]> {
  const red = newestRed(line, recipe);
  const tests = red === undefined ? [] : await failedIn(sql, red, MOST_EDGES);
  const edges = await testEdges(sql, line, recipe, tests);
  return edges.filter(({ standing }) => standing.kind !== "green" && standing.kind !== "never green");
}

/** Where the line stands by each of `tests`, in their order. */
export async function testEdges(
  sql: Sql,
  line: readonly LineCommit[],
  recipe: string,
  tests: readonly string[],
): Promise<TestEdge[]> {
  if (tests.length === 0) return [];
  const builds = line.flatMap((commit) => commit.builds.filter(({ outcome }) => outcome === "failure"));
  const failed = await failedOf(sql, builds.map(({ id }) => id), tests, MOST_FAILED); // biome-ignore format: one thought
  const silent = new Map(tests.map((test) => [test, new Set<BuildId>()]));
  const says = (test: string, { id, outcome }: LineBuild): "passed" | "failed" | "nothing" => {
    if (silent.get(test)?.has(id)) return "nothing";
    if (outcome === "success") return "passed";
    const told = failed.get(id);
    if (told === undefined || told.lost.has(test)) return "nothing";
    if (told.names === "many" || told.names.has(test)) return "failed";
    return told.whole ? "passed" : "nothing";
  };
  const edgeOf = (test: string): TestEdge => {
    const own = lineOfKey(line, (build) => says(test, build));
    return { test, line: own, standing: standingOf(own, recipe) };
  };
  const edges = new Map(tests.map((test) => [test, edgeOf(test)]));
  for (let round = 1; ; round++) {
    const unheard = await unheardOf(sql, [...edges.values()]);
    if (unheard.length === 0) return [...edges.values()];
    for (const { edge, red, green } of unheard) {
      silent.get(edge.test)?.add(green);
      edges.set(edge.test, round < ROUNDS ? edgeOf(edge.test) : { ...edge, standing: { kind: "never green", red } });
    }
  }
}

export interface TestEdge extends Edge {
  readonly test: string;
}

type Red = Extract<Standing, { readonly kind: "never green" }>["red"];

/** The edges whose green end says nothing about the test. */
async function unheardOf(
  sql: Sql,
  edges: readonly TestEdge[],
): Promise<{ readonly edge: TestEdge; readonly red: Red; readonly green: BuildId }[]> {
  const ends = edges.flatMap((edge) => {
    const { standing } = edge;
    return "green" in standing ? [{ edge, red: standing.red, green: standing.green.build }] : [];
  });
  if (ends.length === 0) return [];
  const passed = await passedIn(sql, [...new Set(ends.map(({ green }) => green))], ends.map(({ edge }) => edge.test)); // biome-ignore format: one thought
  return ends.filter(({ edge, green }) => !passed.get(green)?.has(edge.test));
}

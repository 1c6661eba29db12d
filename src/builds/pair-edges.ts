/**
 * Red after green of a pair: which of the two repositories did it, and which of its commits.
 *
 *   own    the builder's repository moved while the other one stood still: its line with that commit of the other, as of any builder
 *   other  a commit of its own was green with one commit of the other repository and is red with a newer one: the line of the other
 *          repository, each commit of it tested with this one
 *
 * Where both moved, the last green commit is first built with the other repository's new commit: green, its own line has the culprit; red, the
 * other one's has. So one axis stands still while the other is narrowed, and the commit that is named is red beside its green parent, nothing
 * else having changed.
 */
import type { Recipe } from "../farm/build.ts";
import { readOtherLine } from "../store/lines.ts";
import type { Sql } from "../store/sql.ts";
import { type Edge, standingOf } from "./culprit.ts";
import { testEdges } from "./test-edges.ts";

/** An edge along the other repository's commits. */
export interface OtherEdge extends Edge {
  /** The commit that all of them are tested with. */
  readonly own: number;
}

/**
 * Where the other repository did what `edge` says, by what `recipe` (the digest of the red end's) has it tested with; undefined where it
 * did not, or nobody can tell.
 */
export async function alongOther(
  sql: Sql,
  builder: string,
  recipe: string,
  edge: Edge,
  limit: number,
): Promise<OtherEdge | undefined> {
  const { test, standing } = edge;
  if (standing.kind !== "recipe") return undefined;
  const own = standing.red.commitId;
  const line = await readOtherLine(sql, { own, builder, recipe }, limit);
  if (line.length === 0) return undefined; // of no pair
  const [moved] =
    test === null ? [{ test, line, standing: standingOf(line, recipe) }] : await testEdges(sql, line, recipe, [test]);
  return moved && ofOther(moved, own);
}

/** An edge of the other repository's line, which is tested with `own`, if it tells who did it. */
export function ofOther(edge: Edge, own: number): OtherEdge | undefined {
  const { kind } = edge.standing;
  return kind === "commit" || kind === "range" ? { ...edge, own } : undefined;
}

/** The recipe of the same pair with another commit of the other repository. */
export function withOther(recipe: Recipe, hash: string): Recipe {
  return recipe.with ? { ...recipe, with: { ...recipe.with, hash } } : recipe;
}

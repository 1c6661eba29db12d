/**
 * Red after green of a pair: which of the two repositories did it, and which of its commits.
 *
 *   own    the builder's repository moved while the other one stood still: its line with that commit of the other, as
 *          of any builder
 *   other  a commit of its own was green with one commit of the other repository and is red with a newer one: the line
 *          of the other repository, each commit of it tested with this one
 *
 * Where both moved, the last green commit is first built with the other repository's new commit. If that is green, the
 * culprit is in its own line; if it is red, in the other repository's. So one line stands still while the other is
 * narrowed. The commit that is named is red beside its green parent, and nothing else changed between the two.
 */
import type { Recipe } from "../farm/build.ts";
import { readOtherLine } from "../store/lines.ts";
import type { Sql } from "../store/sql.ts";
import { type Edge, standingOf } from "./culprit.ts";
import { testEdges } from "./test-edges.ts";

/** An edge along the other repository's commits. */
export interface OtherEdge extends Edge {
  /** The commit of the builder's own repository that all of them are tested with. */
  readonly own: number;
}

/**
 * The same edge along the other repository's commits. `recipe`: the digest of the red end's recipe. Undefined: the
 * other repository did not break it, or that cannot be told.
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
  if (line.length === 0) return undefined; // the build is no pair
  const [moved] =
    test === null ? [{ test, line, standing: standingOf(line, recipe) }] : await testEdges(sql, line, recipe, [test]);
  return moved && ofOther(moved, own);
}

/**
 * An edge of the other repository's line, whose commits are tested with `own`. Undefined: the edge does not tell who
 * did it.
 */
export function ofOther(edge: Edge, own: number): OtherEdge | undefined {
  const { kind } = edge.standing;
  return kind === "commit" || kind === "range" ? { ...edge, own } : undefined;
}

/** The recipe of the same pair with another commit of the other repository. */
export function withOther(recipe: Recipe, hash: string): Recipe {
  return recipe.with ? { ...recipe, with: { ...recipe.with, hash } } : recipe;
}

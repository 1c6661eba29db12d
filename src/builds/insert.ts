/** Planned builds become rows: who may build where, and in which order they will be taken. */
import type { Provenance, Recipe } from "../farm/build.ts";
import { FarmError } from "../farm/errors.ts";
import type { EpochMs } from "../farm/ids.ts";
import type { LeaseClass } from "../farm/lease.ts";
import { rankOf, starvesAt } from "../schedule/order.ts";
import { type BuildRef, communityHostTypes, insertBuilds } from "../store/builds.ts";
import type { Sql } from "../store/sql.ts";

export interface PlannedBuild {
  readonly repo: string;
  readonly commitId: number;
  /** The commit's own time, of a pair that of the later commit: it orders post-submit work. */
  readonly committedAt: EpochMs;
  readonly branch: string;
  /** The branch, or that of the other commit of a pair, is a release branch. Default false. */
  readonly release?: boolean;
  /** The newest commit of the branch. */
  readonly head: boolean;
  readonly recipe: Recipe;
  readonly provenance: Provenance;
  readonly class: LeaseClass;
}

/**
 * Inserts those that are not there yet, each wanted from now on, and returns these: planning twice is harmless.
 * Throws `forbidden` when code that was not submitted would need a community machine; the claim would not hand it out either.
 */
export async function insertPlanned(sql: Sql, planned: readonly PlannedBuild[], now: EpochMs): Promise<BuildRef[]> {
  if (planned.length === 0) return [];
  const unsubmitted = planned.filter((build) => build.provenance !== "submitted");
  if (unsubmitted.length > 0) {
    const community = await communityHostTypes(sql, [...new Set(unsubmitted.map((build) => build.recipe.hostType))]);
    const refused = unsubmitted.find((build) => community.includes(build.recipe.hostType));
    if (refused) throw submittedOnly(refused);
  }
  const builds = planned.map((build) => ({
    ...build,
    rank: rankOf(build.class, now, build.committedAt),
    starvesAt: starvesAt(build.class, now),
  }));
  return insertBuilds(sql, builds, now);
}

function submittedOnly(build: PlannedBuild): FarmError {
  const { builder, hostType } = build.recipe;
  return new FarmError(
    "forbidden",
    `Cannot build ${build.provenance} code on "${builder}": machines of host type "${hostType}" are run by the community and ` +
      "build submitted code only; take a builder whose host type has trust: team",
  );
}

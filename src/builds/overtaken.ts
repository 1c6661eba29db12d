/**
 * Which builds a newer commit overtook. Pure: from the builds that wait and the policies of their builders to the
 * builds that are skipped.
 *
 *   every    none
 *   newest   all
 *   batch    all that no machine is free for: while machines idle every commit is built, under load only the newest
 *
 * A skipped build that is needed to narrow a range is made later (culprit.ts).
 */
import type { Superseded } from "../farm/build.ts";
import type { WaitingBuild } from "../store/superseded.ts";

/**
 * The builds to skip. `waiting`: builds of commits that a newer one follows, newest first. `spare`: how many machines
 * of each host type are free.
 */
export function toSkip<Build extends WaitingBuild>(
  waiting: readonly Build[],
  policyOf: (builder: string) => Superseded,
  spare: ReadonlyMap<string, number>,
): Build[] {
  const left = new Map(spare);
  return waiting.filter(({ builder, hostType }) => {
    const policy = policyOf(builder);
    if (policy !== "batch") return policy === "newest";
    const free = left.get(hostType) ?? 0;
    left.set(hostType, free - 1);
    return free <= 0;
  });
}

/**
 * Which builds a newer commit overtook. Pure: the builds that wait and the policies of their builders in, those to skip out.
 *
 *   every    none
 *   newest   all
 *   batch    all that no machine is free for: while machines idle every commit is built, under load only the newest
 *
 * What a range of `batch` or any other policy needs of the skipped ones is built later (culprit.ts).
 */
import type { Superseded } from "../farm/build.ts";
import type { WaitingBuild } from "../store/superseded.ts";

/** `waiting`: overtaken by their place, newest first. `spare`: free machines of each host type. */
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

/** What stands before a build in the queue, counted, and why nobody can say when the build begins. */
import type { Queued } from "../store/queue-line.ts";
import type { Ahead, Wait } from "../ui/data.ts";
import { nobodyServes } from "../ui/parts.tsx";

/** How many builds ahead are named. */
const NAMED = 3;

/** What stands before place `place` (0: the first) of `line`. */
export function aheadOf(line: readonly Queued[], place: number, starving: (lease: Queued) => boolean): Ahead {
  const own = line[place]?.repo;
  const before = line.slice(0, place);
  const late = before.filter(starving);
  const rest = before.filter((lease) => !starving(lease));
  const others = new Map<string, number>();
  for (const lease of rest) {
    if (lease.repo === own) continue;
    const name = lease.kind === "helper" ? `${lease.class} helpers` : lease.class;
    others.set(name, (others.get(name) ?? 0) + 1);
  }
  return {
    starving: late.length,
    same: rest.filter((lease) => lease.repo === own).length,
    others: [...others].map(([name, count]) => ({ class: name, count })),
    builds: before.flatMap((lease) => lease.build ?? []).slice(0, NAMED),
  };
}

export interface Doubts extends Pick<Wait, "known" | "aside" | "resting"> {
  readonly drained: boolean;
  readonly machines: number;
  /** Whether people have borrowed some of the machines. */
  readonly lent: boolean;
  /** The builders, of running builds and of those ahead, that have never ended with a verdict. */
  readonly untried: readonly string[];
}

/** Why there is no estimate, in words. */
export function whyUnknown(doubts: Doubts): string {
  if (doubts.drained) return "drained";
  if (doubts.machines === 0) return nobodyServes(doubts, "no machine");
  const [first, ...more] = new Set(doubts.untried);
  if (first === undefined && doubts.lent) return "nobody knows how long people keep what is lent to them";
  if (first === undefined) return "nobody knows how long other work on its machines takes";
  return more.length === 0 ? `${first} never ran before` : `${first} and ${more.length} more never ran before`;
}

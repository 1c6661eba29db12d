/** What stands before a build in the queue, counted, and why nobody can say when the build begins. */
import type { EpochMs } from "../farm/ids.ts";
import type { ConnectedRow } from "../store/pages-pools.ts";
import type { Queued } from "../store/queue-line.ts";
import type { Ahead, Avoiding, Estimate, Wait } from "../ui/data.ts";
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

/** The idle machines of `serving`, when none of them may take the lease yet, since they failed it. Null: nothing to say. */
export function avoidedBy(
  { avoid, avoidUntil }: Pick<Queued, "avoid" | "avoidUntil">,
  serving: readonly Pick<ConnectedRow, "machineId" | "name" | "heldAt">[],
  now: EpochMs,
): Avoiding | null {
  if (avoidUntil === null || avoidUntil <= now) return null;
  const avoided = new Set<number>(avoid);
  const idle = serving.filter(({ heldAt }) => heldAt === null);
  if (idle.length === 0 || idle.some(({ machineId }) => !avoided.has(machineId))) return null;
  const others = serving.some(({ machineId }) => !avoided.has(machineId));
  return { machines: idle.map(({ name }) => name), until: avoidUntil, others };
}

/** The estimate for what no idle machine may take yet. One that is busy may become free sooner. */
export function heldBack(estimate: Estimate | null, avoiding: Avoiding | null, now: EpochMs): Estimate | null {
  if (estimate === null || avoiding === null) return estimate;
  const left = avoiding.until - now;
  return {
    earliestMs: avoiding.others ? estimate.earliestMs : Math.max(estimate.earliestMs, left),
    aboutMs: Math.max(estimate.aboutMs, left),
    latestMs: Math.max(estimate.latestMs, left),
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

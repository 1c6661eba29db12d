/**
 * When waiting builds may begin: the queue of one host type played forward.
 *
 * Machines free up when what they run has taken its usual time; the first in line takes the first that is free. An estimate exists only while all
 * that goes before is of known duration; a machine that is over its usual time is taken to be free in a moment.
 */
import type { MachineRef } from "../ui/data.ts";

export interface Serving {
  readonly machine: MachineRef;
  readonly build: number | null;
  readonly startedAt: number | null;
  readonly usualMs: number | null;
}

/** Milliseconds until each of `queue` (in its order) may begin; null where nobody can say. */
export function estimates(
  serving: readonly Serving[],
  queue: readonly (number | null)[],
  now: number,
): (number | null)[] {
  const free: (number | null)[] = serving.map((s) => {
    if (s.build === null) return 0;
    if (s.usualMs === null || s.startedAt === null) return null;
    return Math.max(0, s.startedAt + s.usualMs - now);
  });
  return queue.map((usualMs) => {
    // Machines of unknown end may be free earlier, so what is known is an upper bound; without a known one nothing can be said.
    let first = -1;
    for (let i = 0; i < free.length; i++) {
      const at = free[i];
      if (typeof at === "number" && (first < 0 || at < (free[first] ?? Number.POSITIVE_INFINITY))) first = i;
    }
    if (first < 0) return null;
    const begins = free[first] ?? 0;
    free[first] = usualMs === null ? null : begins + usualMs;
    return begins;
  });
}

/**
 * Who goes next: the order of the leases that wait in one queue, and who may take them, without a database.
 *
 * The claim (store/leases.ts) is the same rules as one SQL statement; a test holds the two together. Words:
 *
 *   rank      within a class the lower goes first: the time of asking for people, so they are served in turn (a release
 *             branch does not pass a master branch); minus the commit time after submission, so the newest commit goes first
 *   starving  waited past `starvesAt`: goes before everything that does not starve, oldest first, so nothing waits for ever
 *   avoid     machines that failed this work; they do not take it again before `avoidUntil`, to let another machine do it
 *
 * Always: a community machine takes `submitted` code only, a drained machine takes nothing.
 */
import type { Provenance, Trust } from "../farm/build.ts";
import { type EpochMs, type MachineId, type Ms, minutes, plus } from "../farm/ids.ts";
import { LEASE_CLASSES, type LeaseClass } from "../farm/lease.ts";

/** How long a lease waits before it starves. People wait on the other end of the first two. */
export const STARVES_AFTER: Readonly<Record<LeaseClass, Ms>> = {
  gomote: minutes(20),
  try: minutes(30),
  "post-submit": minutes(6 * 60),
  background: minutes(24 * 60),
};

/** A lease as the order sees it. */
export interface Waiting {
  readonly id: number;
  readonly class: LeaseClass;
  readonly rank: number;
  readonly provenance: Provenance;
  readonly starvesAt: EpochMs;
  readonly avoid: readonly MachineId[];
  readonly avoidUntil: EpochMs | null;
}

/** A machine as the order sees it. */
export interface Taker {
  readonly machineId: MachineId;
  readonly trust: Trust;
  readonly drained: boolean;
}

/** `committedAt` is the commit's own time; only post-submit and background work is ordered by it. */
export function rankOf(leaseClass: LeaseClass, wantedAt: EpochMs, committedAt: EpochMs): number {
  return leaseClass === "gomote" || leaseClass === "try" ? wantedAt : -committedAt;
}

export function starvesAt(leaseClass: LeaseClass, wantedAt: EpochMs): EpochMs {
  return plus(wantedAt, STARVES_AFTER[leaseClass]);
}

/** Negative when `a` goes before `b` at `now`. Never 0 for two different leases. */
export function compare(a: Waiting, b: Waiting, now: EpochMs): number {
  const starving = Number(b.starvesAt <= now) - Number(a.starvesAt <= now);
  if (starving !== 0) return starving;
  if (a.starvesAt <= now) return a.starvesAt - b.starvesAt || a.id - b.id;
  return LEASE_CLASSES[a.class] - LEASE_CLASSES[b.class] || a.rank - b.rank || a.id - b.id;
}

export function mayTake(taker: Taker, lease: Waiting, now: EpochMs): boolean {
  if (taker.drained) return false;
  if (taker.trust !== "team" && lease.provenance !== "submitted") return false;
  return lease.avoidUntil === null || lease.avoidUntil <= now || !lease.avoid.includes(taker.machineId);
}

/** What `taker` takes at `now` out of one queue, or undefined when nothing there is for it. */
export function next(queue: readonly Waiting[], taker: Taker, now: EpochMs): Waiting | undefined {
  return queue.filter((lease) => mayTake(taker, lease, now)).toSorted((a, b) => compare(a, b, now))[0];
}

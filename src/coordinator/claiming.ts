/** Leases: idle machines ask for them once there is somebody to work them off. */
import type { Builds } from "../builds/builds.ts";
import type { Bus } from "../farm/deps.ts";
import type { LeaseKind } from "../farm/lease.ts";
import type { Instances } from "../gomote/instances.ts";
import type { Probes } from "../machines/probes.ts";
import { Claims, type StartLease } from "../schedule/claims.ts";
import { claimLease } from "../store/leases.ts";
import type { Common } from "./storage.ts";

/** Topic: work waits in the queue of this host type, or in any queue when none is named. */
const QUEUE = "queue:";
/** Topic: this session was given a lease that only it may claim. */
const GIVEN = "given:";

/** The parts that work leases off. */
export interface Workers {
  readonly builds: Builds;
  readonly instances: Instances;
  readonly probes: Probes;
}

/** The claim loop. Machines may be offered to it at once. They wait until claiming begins. */
export function makeClaims({ sql, clock, log }: Common, stopping: AbortSignal): Claims {
  return new Claims({ clock, log, claim: (session) => claimLease(sql, session, clock.now()) }, stopping);
}

/** Lets idle machines claim leases from now on. Each lease goes to the part that works off its kind. */
export function beginClaiming(
  claims: Claims,
  { builds, instances, probes }: Workers,
  bus: Bus,
  stopping: AbortSignal,
): void {
  const starters: Readonly<Record<LeaseKind, StartLease>> = {
    build: (lease) => builds.start(lease),
    helper: (lease) => builds.start(lease),
    gomote: (lease) => instances.start(lease),
    probe: (lease) => probes.start(lease),
  };
  claims.begin((lease) => starters[lease.kind](lease));
  bus.subscribe(QUEUE, (topic) => claims.wake(topic.slice(QUEUE.length) || undefined), stopping);
  bus.subscribe(GIVEN, (topic) => claims.summon(topic.slice(GIVEN.length)), stopping);
}

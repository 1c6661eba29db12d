/**
 * A lease: a claim on one machine. A build, a test helper, a gomote instance and a probe all hold leases.
 *
 *   wanted  somebody needs a machine of `queue`
 *   held    one session has it; no session ever holds two (a unique index says so)
 *   parked  held, and driven by nobody: its machine's connection or its coordinator is gone, its commands may still run
 *   ended   given back, given up, or lost with its machine
 *
 *   wanted -claim-> held -> ended;  wanted -> ended when nobody needs it any more. Nothing leaves ended.
 *   held -connection lost, coordinator ended-> parked -adopted-> held;  parked -nobody came back in time-> ended
 *
 * Only the agent process that held a lease can adopt it. It asks for work as always, over a session of the same
 * machine, at any coordinator. Each claim and each adoption begins an epoch, and the driver of the epoch before cannot
 * write any more.
 *
 * schedule/order.ts has the order within a queue.
 */
import type { Provenance } from "./build.ts";
import { type EpochMs, type LeaseId, type MachineId, type Ms, minutes, type SessionId } from "./ids.ts";

/**
 * How long the commands on a machine go on, and are waited for, after its connection or its coordinator was lost. A
 * host type may say otherwise.
 */
export const RECONNECT_WITHIN: Ms = minutes(5);

/** What a lease is for. This selects who works on it when it is claimed. */
export type LeaseKind =
  /** An attempt of a build. */
  | "build"
  /** A further machine for the tests of a build. */
  | "helper"
  /** A machine that a person has to themselves for a while. */
  | "gomote"
  /** A check whether a machine that was set aside is well again, on that machine. */
  | "probe";

/** The classes in their order. The number is stored. */
export const LEASE_CLASSES = { gomote: 0, try: 1, "post-submit": 2, background: 3 } as const;
export type LeaseClass = keyof typeof LEASE_CLASSES;

export interface Lease {
  readonly id: LeaseId;
  readonly kind: LeaseKind;
  readonly class: LeaseClass;
  /** The queue of machines that can do this work. For now a queue is a host type. */
  readonly queue: string;
  readonly provenance: Provenance;
  readonly wantedAt: EpochMs;
  readonly sessionId: SessionId;
  readonly machineId: MachineId;
  /**
   * Counts the claims and adoptions of the lease. A driver can write only while this is the lease's epoch in the
   * database.
   */
  readonly epoch: number;
  /** The lease was wanted until this claim: nobody has driven it, and nothing runs for it. */
  readonly anew: boolean;
}

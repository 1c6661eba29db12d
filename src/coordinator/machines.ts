/**
 * The machines that dial in: which keys are valid, the pool of their sessions, and trials of machines that are set
 * aside.
 */
import { shellOf } from "../config/check.ts";
import type { FarmConfig, HostConfig } from "../config/effective.ts";
import { RECONNECT_WITHIN } from "../farm/lease.ts";
import { Keys } from "../machines/keys.ts";
import { Probes } from "../machines/probes.ts";
import { ReversePool } from "../machines/reverse/reverse-pool.ts";
import type { Claims } from "../schedule/claims.ts";
import type { Neighbours } from "./peers.ts";
import type { Common } from "./storage.ts";

export interface MachinesDeps {
  readonly common: Common;
  readonly config: () => FarmConfig;
  readonly neighbours: Neighbours;
  /** The claims, to which idle machines are offered. */
  readonly claims: Claims;
  readonly masterKey: string;
  readonly allowDevKey: boolean;
  /** The SHA-256 of the agent program that is served now. */
  readonly agentDigest: () => string | undefined;
}

export interface Machines {
  readonly pool: ReversePool;
  readonly probes: Probes;
}

export function openMachines(stack: AsyncDisposableStack, deps: MachinesDeps): Machines {
  const { common, config, claims, masterKey, allowDevKey, agentDigest } = deps;
  const { peers, forwarder } = deps.neighbours;
  const hostOf = (hostType: string): HostConfig | undefined =>
    config().hosts.find((host) => host.hostType === hostType);
  const keys = new Keys({
    ...common,
    masterKey,
    allowDevKey,
    sharedKey: (hostType) => hostOf(hostType)?.sharedKey ?? true,
  });
  const pool = stack.use(
    new ReversePool({
      ...common,
      random: Math.random,
      check: (claimant) => keys.check(claimant),
      owner: (hostType) =>
        hostOf(hostType)
          ?.owners.map((owner) => owner.name)
          .join(", ") || null,
      agentDigest,
      aloneFor: (hostType) => hostOf(hostType)?.reconnectMs ?? RECONNECT_WITHIN,
      forward: (pickUp) => forwarder.forward(pickUp),
      peers,
      idle: (session, holds) => claims.offer({ id: session.id, queue: session.hostType, holds }),
      gone: (session) => claims.withdraw(session),
    }),
  );
  const probes = stack.use(
    new Probes({
      ...common,
      withdraw: (session) => claims.withdraw(session),
      machine: (session) => pool.take(session),
      release: (session, how) => pool.release(session, how),
      shell: (hostType) => shellOf(hostOf(hostType)?.hostArch ?? ""),
    }),
  );
  return { pool, probes };
}

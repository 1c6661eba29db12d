/**
 * Looks again at machines that are set aside (store/set-aside.ts), when their time has come.
 *
 * Each coordinator probes the machines that are connected to it. A probe holds a lease, so that nobody else uses the
 * session, and takes the session from the claims. The machine is given back afterwards, whatever the result. A probe
 * that the coordinator itself breaks off says nothing about the machine.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { every } from "../farm/every.ts";
import { type CoordinatorId, type LeaseId, type Ms, minutes, ms, plus, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { heldLeases } from "../store/leases.ts";
import { patiently } from "../store/patience.ts";
import { dropProbe, endProbe, wantProbes } from "../store/set-aside.ts";
import type { Sql } from "../store/sql.ts";
import { type Probed, probe } from "./probe.ts";

export const PROBE_EVERY: Ms = seconds(10);
/** After this time another coordinator may try. It is longer than a probe can take. */
const TAKEN_FOR: Ms = minutes(5);

export interface ProbesDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  /** Stops offering the session to the claims. */
  readonly withdraw: (session: SessionId) => void;
  readonly machine: (session: SessionId) => Probed | undefined;
  readonly release: (session: SessionId, how: "clean" | "broken") => Promise<void>;
  /** The program and flags that run a command's text on machines of a host type. */
  readonly shell: (hostType: string) => readonly string[];
}

export class Probes implements AsyncDisposable {
  readonly #deps: ProbesDeps;
  readonly #stop = new AbortController();
  readonly #running = new Map<LeaseId, Promise<void>>();
  readonly #loop: Promise<void>;

  constructor(deps: ProbesDeps) {
    this.#deps = deps;
    this.#loop = every(PROBE_EVERY, () => this.look(), "Could not look for machines to probe", deps, this.#stop.signal);
  }

  /** Begins the probes that are due. */
  async look(): Promise<void> {
    const { sql, clock, coordinator } = this.#deps;
    await wantProbes(sql, coordinator, TAKEN_FOR, clock.now());
    for (const lease of await heldLeases(sql, coordinator, ["probe"], plus(clock.now(), ms(1)))) this.start(lease);
  }

  /** Works off a lease of kind `probe`. A second call for the same lease changes nothing. */
  start(lease: Lease): void {
    if (this.#running.has(lease.id) || this.#stop.signal.aborted) return;
    const done = this.#probe(lease)
      .catch((error: unknown) => {
        this.#deps.log.warn({ lease: lease.id, error: messageOf(error) }, "Could not write down how a probe went");
      })
      .finally(() => this.#running.delete(lease.id));
    this.#running.set(lease.id, done);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "the coordinator was stopped"));
    await Promise.all([this.#loop, ...this.#running.values()]);
  }

  async #probe(lease: Lease): Promise<void> {
    const { sql, bus, clock, log } = this.#deps;
    const { sessionId, machineId, queue } = lease;
    this.#deps.withdraw(sessionId);
    const machine = this.#deps.machine(sessionId);
    if (!machine) {
      await dropProbe(sql, lease.id, machineId, "the machine went away", clock.now());
      return;
    }
    let error: string | null = null;
    let ours = false;
    try {
      const took = await probe(machine, this.#deps.shell(queue), clock, this.#stop.signal);
      log.info({ machine: machine.name, tookMs: Math.round(took) }, "A machine that was set aside is well again");
    } catch (caught) {
      error = messageOf(caught);
      ours = this.#stop.signal.aborted;
      log.info({ machine: machine.name, error, ours }, "A machine that was set aside failed its probe");
    }
    try {
      const now = clock.now();
      await patiently(
        () =>
          ours
            ? dropProbe(sql, lease.id, machineId, "the coordinator was stopped", now)
            : endProbe(sql, lease.id, machineId, error, now),
        clock,
        this.#stop.signal,
      );
    } finally {
      await this.#deps.release(sessionId, error === null ? "clean" : "broken");
    }
    bus.publish(`machine:${machineId}`);
    bus.publish(`queue:${queue}`);
  }
}

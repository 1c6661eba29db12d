/**
 * Leases of kind `gomote` that this coordinator holds, each from the claim or the adoption to the machine given back.
 *
 *   ready?    the machine took the lease: it is emptied (unless it is kept as a failed build left it) and asked for its work dir; one that
 *             cannot is given up for another, MOST_LEASES times
 *   up        the person's, until the instance is over
 *   parked    the machine's connection or this coordinator is gone; our agent comes back with it, to whichever coordinator
 *   let go    what runs there is stopped, the machine emptied and given back
 *
 * Always: a machine is given back exactly once per epoch of its lease, and never with anything of the person's on it. What the database says
 * ended (topic `gomote-ended:ID`, or `look`) is let go; nothing here ends an instance but its machine's end.
 */
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type LeaseId, type Ms, minutes, ms, plus, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { within } from "../farm/within.ts";
import type { MachineSession } from "../machines/machine-session.ts";
import { type Instance, instanceOfLease, instancesById, instanceUp, tryAnotherMachine } from "../store/gomote.ts";
import { endLease, goesOnElsewhere, heldLeases, lostLeases, parkLease } from "../store/leases.ts";
import { patiently } from "../store/patience.ts";
import type { Sql } from "../store/sql.ts";
import { cleanedUp } from "./work-dir.ts";

/** To empty a machine and to ask it for its work dir, before and after somebody had it. */
const READY_LIMIT: Ms = minutes(10);
/** A machine that could not be made ready waits so long before it takes the same instance again. */
const ELSEWHERE_FIRST: Ms = seconds(60);
const LOST_AFTER: Ms = seconds(20);

/** An instance that is up, whose machine is connected here. */
export interface HeldInstance {
  readonly instance: Instance;
  readonly machine: MachineSession;
  /** Aborts when it ends or its machine or this coordinator goes away; the reason is a FarmError for whoever uses it. */
  readonly over: AbortSignal;
}

interface Running {
  readonly lease: Lease;
  readonly stop: AbortController;
  /** Once it is up. */
  held?: HeldInstance;
  /** The instance's, once it is known. */
  id?: number;
  done: Promise<void>;
}

export interface HoldingsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly config: () => Pick<FarmConfig, "gomote" | "hosts" | "builders">;
  readonly machine: (session: SessionId) => MachineSession | undefined;
  /** Whether `machine` gives it to nobody, since somebody has it. */
  readonly inUse: (session: SessionId) => boolean;
  readonly release: (session: SessionId, how: "clean" | "broken" | "elsewhere") => Promise<void>;
  /** Ends an instance in the database, and tells everybody. */
  readonly end: (id: number, reason: string) => Promise<void>;
}

export class Holdings implements AsyncDisposable {
  readonly #deps: HoldingsDeps;
  readonly #running = new Map<LeaseId, Running>();
  readonly #stop = new AbortController();

  constructor(deps: HoldingsDeps) {
    this.#deps = deps;
    const call = (topic: string) => this.#ended(topic.slice("gomote-ended:".length));
    deps.bus.subscribe("gomote-ended:", call, this.#stop.signal);
  }

  /** Works off a lease of kind `gomote` that was just claimed or adopted; as Builds.start() does. */
  start(lease: Lease): void {
    const earlier = this.#running.get(lease.id);
    if (earlier && earlier.lease.epoch >= lease.epoch) return;
    const running: Running = { lease, stop: new AbortController(), done: Promise.resolve() };
    this.#running.set(lease.id, running);
    if (this.#stop.signal.aborted) running.stop.abort(stopping());
    earlier?.stop.abort(new FarmError("lease-lost", "its machine came back over another connection"));
    running.done = (earlier ? earlier.done.then(() => this.#run(running)) : this.#run(running))
      .catch((error: unknown) => this.#warn(error))
      .finally(() => {
        if (this.#running.get(lease.id) === running) this.#running.delete(lease.id);
      });
  }

  /** The machine of an instance, where it is up and connected here. */
  machineOf({ lease, epoch }: Pick<Instance, "lease" | "epoch">): HeldInstance | undefined {
    const running = this.#running.get(lease);
    return running?.lease.epoch === epoch && !running.held?.over.aborted ? running.held : undefined;
  }

  /** The one of this number, when it is up and its machine is connected here. */
  instance(id: number): HeldInstance | undefined {
    for (const running of this.#running.values()) {
      if (running.id === id && running.held && !running.held.over.aborted) return running.held;
    }
    return undefined;
  }

  /** Lets go of what was lost or has ended, and takes up what got lost on its way here. */
  async look(): Promise<void> {
    const { sql, clock, coordinator, inUse } = this.#deps;
    const running = [...this.#running.values()];
    const leases = running.map(({ lease }) => lease);
    const lost = new Set(leases.length === 0 ? [] : await lostLeases(sql, leases));
    for (const { lease, stop } of running) {
      if (lost.has(lease.id)) stop.abort(new FarmError("gone", "The instance has ended."));
    }
    for (const lease of await heldLeases(sql, coordinator, ["gomote"], plus(clock.now(), ms(-LOST_AFTER)))) {
      // Whoever drove the build that failed on it may need longer to give it back; then it is claimed.
      if (!inUse(lease.sessionId)) this.start(lease);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(stopping());
    const running = [...this.#running.values()];
    for (const each of running) each.stop.abort(stopping());
    await Promise.all(running.map((each) => each.done));
  }

  async #run(running: Running): Promise<void> {
    const { machine, release } = this.#deps;
    const { sessionId, machineId } = running.lease;
    let back: "clean" | "broken" | "elsewhere" | "parked" = "elsewhere";
    try {
      back = await this.#work(running, machine(sessionId));
    } finally {
      if (back !== "parked") await release(sessionId, back).catch((error: unknown) => this.#warn(error));
      this.#deps.bus.publish(`machine:${machineId}`);
    }
  }

  async #work(
    running: Running,
    machine: MachineSession | undefined,
  ): Promise<"clean" | "broken" | "elsewhere" | "parked"> {
    const { sql, clock, bus } = this.#deps;
    const { lease } = running;
    const found = await this.#patiently(() => instanceOfLease(sql, lease));
    if (!found) {
      if (await this.#patiently(() => goesOnElsewhere(sql, lease))) return "elsewhere";
      // It ended on its way here. An instance always has a row; should it be gone, nobody needs the lease.
      await this.#patiently(() => endLease(sql, lease, clock.now(), "nobody needs it any more"));
      return machine ? await this.#emptied(machine) : "clean";
    }
    running.id = found.id;
    if (!machine) {
      if (isReplaceable(found)) await this.#another(running, found, "it hung up before it could be made ready");
      else await this.#parkOrEnd(running, found, "its machine hung up");
      return "parked";
    }
    const over = AbortSignal.any([running.stop.signal, machine.gone]);
    let instance = found;
    if (found.upAt === null) {
      try {
        instance = await this.#ready(running, found, machine, over);
      } catch (error) {
        const { signal } = running.stop;
        if (signal.aborted && !isStopping(signal)) return await this.#emptied(machine);
        if (over.aborted && !isReplaceable(found)) {
          await this.#parkOrEnd(running, found, `its machine went away: ${messageOf(over.reason)}`);
          return "parked";
        }
        await this.#another(running, found, messageOf(error));
        return "broken";
      }
    }
    running.held = { instance, machine, over };
    bus.publish(`gomote:${instance.id}`);
    bus.publish(`machine:${machine.machineId}`);
    await aborted(over);
    return await this.#letGo(running, instance, machine);
  }

  /** Makes a machine the person's own. Throws why it cannot be. */
  async #ready(running: Running, found: Instance, machine: MachineSession, over: AbortSignal): Promise<Instance> {
    const { sql, clock, config } = this.#deps;
    const { lease } = running;
    const workingDir = await within(
      clock,
      READY_LIMIT,
      [over],
      `making ${machine.name} ready`,
      async (limited: AbortSignal) => {
        if (!found.keeps) await cleanedUp(machine, limited);
        return machine.client.workDir(limited);
      },
    );
    const { idleMs, longestMs } = config().gomote;
    const now = clock.now();
    const up = { workingDir, expiresAt: plus(now, ms(Math.min(idleMs, longestMs))), limitAt: plus(now, longestMs) };
    if (!(await this.#patiently(() => instanceUp(sql, lease, up, now)))) {
      running.stop.abort(new FarmError("gone", "The instance has ended."));
      throw running.stop.signal.reason;
    }
    return { ...found, ...up, upAt: now };
  }

  /** What becomes of a machine whose instance is over, or which is itself away. */
  async #letGo(running: Running, instance: Instance, machine: MachineSession) {
    const { lease, stop } = running;
    if (await this.#patiently(() => goesOnElsewhere(this.#deps.sql, lease))) return "elsewhere";
    if (machine.gone.aborted) {
      await this.#parkOrEnd(running, instance, `its machine is gone: ${messageOf(machine.gone.reason)}`);
      return "parked";
    }
    if (isStopping(stop.signal)) {
      await this.#parkOrEnd(running, instance, "its coordinator was stopped, and an original buildlet cannot go on");
      return "parked";
    }
    return await this.#emptied(machine);
  }

  /** A machine whose agent comes back is waited for; for any other the instance is over. */
  async #parkOrEnd({ lease }: Running, { id }: Instance, reason: string): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    if (await this.#patiently(() => parkLease(sql, lease, clock.now()))) {
      bus.publish(`gomote:${id}`);
      return;
    }
    const [left] = await this.#patiently(() => instancesById(sql, [id]));
    if (left?.lease !== lease.id || left.epoch !== lease.epoch || left.parked) return; // it ended, or goes on elsewhere
    await this.#patiently(() => this.#deps.end(id, reason));
  }

  async #another({ lease }: Running, instance: Instance, why: string): Promise<void> {
    const { sql, bus, clock, log } = this.#deps;
    const now = clock.now();
    const reason = `the machine could not be made ready: ${why}`;
    const again = await this.#patiently(() => tryAnotherMachine(sql, lease, reason, plus(now, ELSEWHERE_FIRST), now));
    log.info({ instance: instance.name, reason, again }, "A machine could not be made ready for a person");
    if (again) bus.publish(`queue:${instance.hostType}`);
    else await this.#patiently(() => this.#deps.end(instance.id, reason));
    bus.publish(`gomote:${instance.id}`);
  }

  /** Nothing of the person's stays, neither files nor commands. */
  async #emptied(machine: MachineSession): Promise<"clean" | "broken"> {
    // The original is halted after it served one; what it leaves is its owner's to keep or remove.
    if (machine.agent === "original") return "clean";
    try {
      await within(this.#deps.clock, READY_LIMIT, [machine.gone], `emptying ${machine.name}`, (limited) =>
        machine.client.cleanUp(limited),
      );
      return "clean";
    } catch (error) {
      this.#deps.log.info({ machine: machine.name, error: messageOf(error) }, "Could not empty a machine");
      return "broken";
    }
  }

  #ended(id: string): void {
    for (const running of this.#running.values()) {
      if (id === "" || String(running.id) === id) void this.#endedHere(running).catch((error) => this.#warn(error));
    }
  }

  /** A topic is a hint: the database knows. */
  async #endedHere({ id = 0, lease, stop }: Running): Promise<void> {
    const [instance] = await instancesById(this.#deps.sql, [id]);
    if (instance?.lease === lease.id && instance.state !== "ended") return;
    const why = instance?.endReason ?? "it has ended";
    stop.abort(new FarmError("gone", `The instance ${JSON.stringify(instance?.name ?? id)} has ended: ${why}.`));
  }

  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#deps.clock, this.#stop.signal);
  }

  #warn(error: unknown): void {
    this.#deps.log.warn({ error: messageOf(error) }, "Could not look after an instance; trying again");
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** It has no machine of its own yet, and any other will do. */
function isReplaceable({ upAt, keeps }: Instance): boolean {
  return upAt === null && !keeps;
}

function isStopping({ aborted: is, reason }: AbortSignal): boolean {
  return is && reason instanceof FarmError && reason.code === "unavailable";
}

function stopping(): FarmError {
  return new FarmError("unavailable", "The coordinator was stopped; the instance goes on, at another or the next one.");
}

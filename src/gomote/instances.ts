/**
 * Instances: machines that people have to themselves for a while, from a held lease to the machine given back.
 *
 *   wanted    somebody waits (waiting-room.ts); the lease stands in the line like any other work
 *   ready?    a machine took the lease: it is emptied and asked for its work dir; one that cannot is given up for another, MOST_LEASES times
 *   up        the person's, until it is over
 *   parked    its machine's connection or its coordinator is gone; our agent comes back with it, to whichever coordinator
 *   ended     destroyed, idle for too long, at its limit, its person removed, its machine gone, or taken back by the machine's owner
 *
 *   wanted -claim-> ready? -> up -> ended;  up -connection lost-> parked -adopted-> up;  any -> ended
 *
 * The database decides (store/gomote.ts): whoever ends an instance ends its lease there and says so (topic `gomote-ended:ID`); the coordinator that
 * holds the machine then stops what runs, empties the machine and gives it back. It looks by itself every CHECK_EVERY, too.
 *
 * Only its owner's use renews an instance: `use` by whoever calls for the owner, and `keep` for as long as something of theirs runs.
 * Always: a machine is given back exactly once per epoch of its lease, and never with anything of the person's on it.
 */
import { CHECK_EVERY, PARK_FOR } from "../builds/builds.ts";
import { within } from "../builds/within.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import {
  type CoordinatorId,
  type LeaseId,
  type Ms,
  minutes,
  ms,
  type PersonId,
  plus,
  type SessionId,
  seconds,
} from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import type { Person } from "../farm/person.ts";
import type { MachineSession } from "../machines/machine-session.ts";
import { recordAudit } from "../store/audit.ts";
import {
  type EndedInstance,
  endInstances,
  endOverdueInstances,
  type Instance,
  instanceNamed,
  instanceOfLease,
  instancesById,
  instanceUp,
  liveInstances,
  renewInstances,
  tryAnotherMachine,
} from "../store/gomote.ts";
import { endLease, goesOnElsewhere, heldLeases, lostLeases, parkLease } from "../store/leases.ts";
import { patiently } from "../store/patience.ts";
import type { Sql } from "../store/sql.ts";

/** What is in use is renewed this often. */
export const RENEW_EVERY: Ms = seconds(60);
/** To empty a machine and to ask it for its work dir, before and after somebody had it. */
const READY_LIMIT: Ms = minutes(10);
/** A machine that could not be made ready waits so long before it takes the same instance again. */
const ELSEWHERE_FIRST: Ms = seconds(60);
const LOST_AFTER: Ms = seconds(20);

export interface InstancesDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly config: () => Pick<FarmConfig, "gomote" | "hosts" | "builders">;
  readonly machine: (session: SessionId) => MachineSession | undefined;
  readonly release: (session: SessionId, how: "clean" | "broken" | "elsewhere") => Promise<void>;
  /** Who of these people is there no more. */
  readonly removed: (people: readonly PersonId[]) => Promise<readonly PersonId[]>;
  readonly parkFor?: Ms;
}

/** An instance that is up, whose machine is connected here. */
export interface HeldInstance {
  readonly instance: Instance;
  readonly machine: MachineSession;
  /** Aborts when it ends or its machine or this coordinator goes away; the reason is a FarmError for whoever uses it. */
  readonly over: AbortSignal;
}

/** Its machine is connected to another coordinator. */
export class HeldElsewhere extends Error {
  override readonly name = "HeldElsewhere";
  readonly coordinator: CoordinatorId;

  constructor(coordinator: CoordinatorId) {
    super(`The instance's machine is connected to coordinator ${coordinator}`);
    this.coordinator = coordinator;
  }
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

export class Instances implements AsyncDisposable {
  readonly #deps: InstancesDeps;
  readonly #running = new Map<LeaseId, Running>();
  /** Instance -> how many things of its owner's are going on. */
  readonly #kept = new Map<string, number>();
  readonly #stop = new AbortController();
  readonly #checks: Promise<void>;
  #renewedAt: number;

  constructor(deps: InstancesDeps) {
    this.#deps = deps;
    this.#renewedAt = deps.clock.monotonic();
    const { signal } = this.#stop;
    deps.bus.subscribe("gomote-ended:", (topic) => this.#ended(topic.slice("gomote-ended:".length)), signal);
    deps.bus.subscribe("person:", () => void this.#endOfRemoved().catch((error) => this.#warn(error)), signal);
    this.#checks = this.#check();
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

  /** The instance of this name, which is `person`'s. Throws FarmError `not-found` or `forbidden`; nothing is renewed. */
  async find(person: Person, name: string): Promise<Instance> {
    const found = name === "" ? undefined : await instanceNamed(this.#deps.sql, name);
    const given = JSON.stringify(name.slice(0, 200));
    if (!found) throw new FarmError("not-found", `There is no instance ${given}. "gomote list" shows yours.`);
    if (found.owner !== person.id) throw new FarmError("forbidden", `The instance ${given} is somebody else's.`);
    return found;
  }

  /** The same, and it is renewed. Throws `conflict` while it is still waited for. */
  async use(person: Person, name: string): Promise<Instance> {
    const found = await this.find(person, name);
    if (found.upAt === null)
      throw new FarmError("conflict", `The instance ${JSON.stringify(name)} still waits for a machine.`);
    const expiresAt = plus(this.#deps.clock.now(), this.#deps.config().gomote.idleMs);
    await renewInstances(this.#deps.sql, [name], person.id, expiresAt);
    return { ...found, expiresAt };
  }

  /**
   * The same, with its machine. Throws HeldElsewhere when that is connected to another coordinator, `unavailable` when it is away for the
   * moment.
   */
  async held(person: Person, name: string): Promise<HeldInstance> {
    const instance = await this.use(person, name);
    const running = this.#running.get(instance.lease);
    if (running?.held && running.lease.epoch === instance.epoch && !running.held.over.aborted) {
      return { ...running.held, instance };
    }
    const { coordinator, parked, machine } = instance;
    if (coordinator !== null && coordinator !== this.#deps.coordinator && !parked) throw new HeldElsewhere(coordinator);
    throw new FarmError(
      "unavailable",
      `The machine ${machine} of ${JSON.stringify(name)} lost its connection and is waited for; try again in a moment.`,
    );
  }

  /** While it is not disposed of, the instance is in use by its owner. */
  keep(instance: Pick<Instance, "name">): Disposable {
    const { name } = instance;
    this.#kept.set(name, (this.#kept.get(name) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#kept.get(name) ?? 1) - 1;
        if (left === 0) this.#kept.delete(name);
        else this.#kept.set(name, left);
      },
    };
  }

  /** Those of `person`, in the order of their names; null: everybody's. */
  async list(person: Person | null): Promise<Instance[]> {
    return liveInstances(this.#deps.sql, person?.id ?? null);
  }

  /** Its owner gives it back, also while they still wait for it. */
  async destroy(person: Person, name: string): Promise<void> {
    const { id } = await this.find(person, name);
    await this.end([id], person.email, "destroy", "its owner destroyed it");
  }

  /** Ends instances for `who`; those that have ended already are passed over. */
  async end(ids: readonly number[], who: string, action: string, reason: string): Promise<void> {
    const { sql, clock } = this.#deps;
    const ended = await sql.tx(async (tx) => {
      const now = clock.now();
      const rows = await endInstances(tx, ids, reason, now);
      for (const row of rows) await audit(tx, row, who, action, now);
      return rows;
    });
    this.#publishEnded(ended);
  }

  /** Looks after what is overdue, what was lost, and whose owner is gone. */
  async look(): Promise<void> {
    const { sql, clock, coordinator, config } = this.#deps;
    if (this.#kept.size > 0 && clock.monotonic() - this.#renewedAt >= RENEW_EVERY) {
      this.#renewedAt = clock.monotonic();
      await renewInstances(sql, [...this.#kept.keys()], null, plus(clock.now(), config().gomote.idleMs));
    }
    const overdue = await sql.tx(async (tx) => {
      const rows = await endOverdueInstances(tx, clock.now());
      for (const row of rows) await audit(tx, row, "the farm", "end", clock.now());
      return rows;
    });
    this.#publishEnded(overdue);
    await this.#endOfRemoved();
    const running = [...this.#running.values()];
    const leases = running.map(({ lease }) => lease);
    const lost = new Set(leases.length === 0 ? [] : await lostLeases(sql, leases));
    for (const { lease, stop } of running) {
      if (lost.has(lease.id)) stop.abort(new FarmError("gone", "The instance has ended."));
    }
    for (const lease of await heldLeases(sql, coordinator, ["gomote"], plus(clock.now(), ms(-LOST_AFTER)))) {
      this.start(lease);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(stopping());
    const running = [...this.#running.values()];
    for (const each of running) each.stop.abort(stopping());
    await Promise.all([this.#checks, ...running.map((each) => each.done)]);
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
      if (found.upAt === null) await this.#another(running, found, "it hung up before it could be made ready");
      else await this.#parkOrEnd(running, found, "its machine hung up");
      return "parked";
    }
    const over = AbortSignal.any([running.stop.signal, machine.gone]);
    let instance = found;
    if (found.upAt === null) {
      try {
        instance = await this.#ready(running, found, machine, over);
      } catch (error) {
        if (running.stop.signal.aborted && !isStopping(running.stop.signal)) return await this.#emptied(machine);
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
        await machine.client.removeAll(["."], limited);
        return machine.client.workDir(limited);
      },
    );
    const { idleMs, longestMs } = config().gomote;
    const now = clock.now();
    const up = { workingDir, expiresAt: plus(now, idleMs), limitAt: plus(now, longestMs) };
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
    const { sql, bus, clock, parkFor = PARK_FOR } = this.#deps;
    if (await this.#patiently(() => parkLease(sql, lease, plus(clock.now(), parkFor)))) {
      bus.publish(`gomote:${id}`);
      return;
    }
    const [left] = await this.#patiently(() => instancesById(sql, [id]));
    if (left?.lease !== lease.id || left.epoch !== lease.epoch || left.parked) return; // it ended, or goes on elsewhere
    await this.#patiently(() => this.end([id], "the farm", "end", reason));
  }

  async #another({ lease }: Running, instance: Instance, why: string): Promise<void> {
    const { sql, bus, clock, log } = this.#deps;
    const now = clock.now();
    const reason = `the machine could not be made ready: ${why}`;
    const again = await this.#patiently(() => tryAnotherMachine(sql, lease, reason, plus(now, ELSEWHERE_FIRST), now));
    log.info({ instance: instance.name, reason, again }, "A machine could not be made ready for a person");
    if (again) bus.publish(`queue:${instance.hostType}`);
    else await this.#patiently(() => this.end([instance.id], "the farm", "end", reason));
    bus.publish(`gomote:${instance.id}`);
  }

  /** Nothing of the person's stays, neither files nor commands. */
  async #emptied(machine: MachineSession): Promise<"clean" | "broken"> {
    // The original is halted after it served one; what it leaves is its owner's to keep or remove.
    if (machine.agent === "original") return "clean";
    try {
      await within(this.#deps.clock, READY_LIMIT, [machine.gone], `emptying ${machine.name}`, (limited) =>
        machine.client.removeAll(["."], limited),
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

  #publishEnded(ended: readonly EndedInstance[]): void {
    const { bus, log } = this.#deps;
    for (const { id, name, hostType, machineId, reason } of ended) {
      log.info({ instance: name, reason }, "An instance ended");
      bus.publish(`gomote-ended:${id}`);
      bus.publish(`gomote:${id}`);
      bus.publish(`queue:${hostType}`);
      if (machineId !== null) bus.publish(`machine:${machineId}`);
    }
  }

  async #endOfRemoved(): Promise<void> {
    const live = await this.list(null);
    if (live.length === 0) return;
    const gone = new Set(await this.#deps.removed([...new Set(live.map(({ owner }) => owner))]));
    const ids = live.filter(({ owner }) => gone.has(owner)).map(({ id }) => id);
    if (ids.length > 0) await this.end(ids, "the farm", "end", "its owner was removed");
  }

  async #check(): Promise<void> {
    const { clock } = this.#deps;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(CHECK_EVERY, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      await this.look().catch((error: unknown) => this.#warn(error));
    }
  }

  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#deps.clock, this.#stop.signal);
  }

  #warn(error: unknown): void {
    this.#deps.log.warn({ error: messageOf(error) }, "Could not look after instances; trying again");
  }
}

function audit(
  tx: Sql,
  { name, email, reason }: EndedInstance,
  who: string,
  action: string,
  at: Parameters<typeof recordAudit>[1]["at"],
) {
  const of = who === email ? "" : `of ${email}: `;
  return recordAudit(tx, { at, who, action: `gomote ${action}`, subject: `gomote:${name}`, detail: `${of}${reason}` });
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

function isStopping({ aborted: is, reason }: AbortSignal): boolean {
  return is && reason instanceof FarmError && reason.code === "unavailable";
}

function stopping(): FarmError {
  return new FarmError("unavailable", "The coordinator was stopped; the instance goes on, at another or the next one.");
}

/**
 * Leases of kind `gomote` that this coordinator holds, each from the claim or the adoption until the machine is given
 * back.
 *
 *   ready?    the machine took the lease: it is emptied (unless it keeps what a failed build left) and asked for its
 *             work dir; a machine that cannot do this is given up for another, until MOST_LEASES were tried
 *   up        the person has the machine, until the instance is over
 *   parked    the machine lost its connection, or this coordinator stopped; our agent comes back with the instance, to
 *             any coordinator
 *   let go    what runs there is stopped, and the machine is emptied and given back
 *
 * Always: a machine is given back exactly once per epoch of its lease, and never with anything of the person's on it.
 * An instance that has ended in the database (topic `gomote-ended:ID`, or `look`) is let go. This class ends an
 * instance only when its machine is lost.
 */
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, minutes, ms, plus, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { within } from "../farm/within.ts";
import type { MachineSession } from "../machines/machine-session.ts";
import { type LeaseWork, LeaseWorks } from "../schedule/lease-works.ts";
import { type Instance, instanceOfLease, instancesById, instanceUp, tryAnotherMachine } from "../store/gomote.ts";
import { endLease, goesOnElsewhere, heldLeases, lostLeases } from "../store/leases.ts";
import { parkLease } from "../store/parked-leases.ts";
import { patiently } from "../store/patience.ts";
import type { Sql } from "../store/sql.ts";
import { cleanedUp } from "./work-dir.ts";

/** How long a machine may take to be emptied and to say its work dir, before and after a person had it. */
const READY_LIMIT: Ms = minutes(10);
/** How long a machine that could not be made ready waits before it takes the same instance again. */
const ELSEWHERE_FIRST: Ms = seconds(60);
const LOST_AFTER: Ms = seconds(20);

/** An instance that is up, whose machine is connected here. */
export interface HeldInstance {
  readonly instance: Instance;
  readonly machine: MachineSession;
  /**
   * Aborts when the instance ends, or its machine or this coordinator goes away. The reason is a FarmError for callers.
   */
  readonly over: AbortSignal;
}

/** The instance that a lease is for, once it is known. */
interface About {
  readonly id: number;
  /** The instance with its machine, once it is up. */
  readonly held?: HeldInstance;
}

type Work = LeaseWork<About>;

export interface HoldingsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly config: () => Pick<FarmConfig, "gomote" | "hosts" | "builders">;
  readonly machine: (session: SessionId) => MachineSession | undefined;
  /** Whether a machine is taken already, so that `machine` gives it to nobody. */
  readonly inUse: (session: SessionId) => boolean;
  readonly release: (session: SessionId, how: "clean" | "broken" | "elsewhere") => Promise<void>;
  /** Ends an instance in the database, and publishes that. */
  readonly end: (id: number, reason: string) => Promise<void>;
}

export class Holdings implements AsyncDisposable {
  readonly #deps: HoldingsDeps;
  readonly #works: LeaseWorks<About>;

  constructor(deps: HoldingsDeps) {
    this.#deps = deps;
    this.#works = new LeaseWorks({
      run: (work) => this.#run(work),
      failed: (_, error) => this.#warn(error),
      stopping: () =>
        new FarmError("unavailable", "The coordinator was stopped; the instance goes on, at another or the next one."),
    });
    const call = (topic: string) => this.#ended(topic.slice("gomote-ended:".length));
    deps.bus.subscribe("gomote-ended:", call, this.#works.stopping);
  }

  /** Works off a lease of kind `gomote` that was just claimed or adopted, as Builds.start() does for a build. */
  start(lease: Lease): void {
    this.#works.start(lease);
  }

  /** An instance with its machine, if it is up and its machine is connected here. */
  machineOf({ lease, epoch }: Pick<Instance, "lease" | "epoch">): HeldInstance | undefined {
    const work = this.#works.get(lease);
    return work?.lease.epoch === epoch ? heldBy(work) : undefined;
  }

  /** The instance with this number, if it is up and its machine is connected here. */
  instance(id: number): HeldInstance | undefined {
    const works = this.#works.all.filter(({ about }) => about?.id === id);
    return works.map(heldBy).find((held) => held !== undefined);
  }

  /** Lets go of instances that are lost or have ended, and takes up leases that got lost on their way here. */
  async look(): Promise<void> {
    const { sql, clock, coordinator, inUse } = this.#deps;
    const works = this.#works.all;
    const leases = works.map(({ lease }) => lease);
    const lost = new Set(leases.length === 0 ? [] : await lostLeases(sql, leases));
    for (const { lease, stop } of works) {
      if (lost.has(lease.id)) stop.abort(new FarmError("gone", "The instance has ended."));
    }
    for (const lease of await heldLeases(sql, coordinator, ["gomote"], plus(clock.now(), ms(-LOST_AFTER)))) {
      // The attempt whose build failed on it may need longer to give it back; the lease is claimed then.
      if (!inUse(lease.sessionId)) this.start(lease);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#works[Symbol.asyncDispose]();
  }

  async #run(work: Work): Promise<void> {
    const { machine, release } = this.#deps;
    const { sessionId, machineId } = work.lease;
    let back: "clean" | "broken" | "elsewhere" | "parked" = "elsewhere";
    try {
      back = await this.#work(work, machine(sessionId));
    } finally {
      if (back !== "parked") await release(sessionId, back).catch((error: unknown) => this.#warn(error));
      this.#deps.bus.publish(`machine:${machineId}`);
    }
  }

  async #work(work: Work, machine: MachineSession | undefined): Promise<"clean" | "broken" | "elsewhere" | "parked"> {
    const { sql, clock, bus } = this.#deps;
    const { lease } = work;
    const found = await this.#patiently(() => instanceOfLease(sql, lease));
    if (!found) {
      if (await this.#patiently(() => goesOnElsewhere(sql, lease))) return "elsewhere";
      // The instance ended before its lease came here. Should its row be gone, too, nobody needs the lease.
      await this.#patiently(() => endLease(sql, lease, clock.now(), "nobody needs it any more"));
      return machine ? await this.#emptied(machine) : "clean";
    }
    work.about = { id: found.id };
    if (!machine) {
      if (isReplaceable(found)) await this.#another(work, found, "it hung up before it could be made ready");
      else await this.#parkOrEnd(work, found, "its machine hung up");
      return "parked";
    }
    const over = AbortSignal.any([work.stop.signal, machine.gone]);
    let instance = found;
    if (found.upAt === null) {
      try {
        instance = await this.#ready(work, found, machine, over);
      } catch (error) {
        const { signal } = work.stop;
        if (signal.aborted && !isStopping(signal)) return await this.#emptied(machine);
        if (over.aborted && !isReplaceable(found)) {
          await this.#parkOrEnd(work, found, `its machine went away: ${messageOf(over.reason)}`);
          return "parked";
        }
        await this.#another(work, found, messageOf(error));
        return "broken";
      }
    }
    work.about = { id: instance.id, held: { instance, machine, over } };
    bus.publish(`gomote:${instance.id}`);
    bus.publish(`machine:${machine.machineId}`);
    await aborted(over);
    return await this.#letGo(work, instance, machine);
  }

  /** Makes a machine ready for the person. Throws the reason why it cannot. */
  async #ready(work: Work, found: Instance, machine: MachineSession, over: AbortSignal): Promise<Instance> {
    const { sql, clock, config } = this.#deps;
    const { lease } = work;
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
      work.stop.abort(new FarmError("gone", "The instance has ended."));
      throw work.stop.signal.reason;
    }
    return { ...found, ...up, upAt: now };
  }

  /** Decides what happens to a machine whose instance is over, or which is itself away. */
  async #letGo(work: Work, instance: Instance, machine: MachineSession) {
    const { lease, stop } = work;
    if (await this.#patiently(() => goesOnElsewhere(this.#deps.sql, lease))) return "elsewhere";
    if (machine.gone.aborted) {
      await this.#parkOrEnd(work, instance, `its machine is gone: ${messageOf(machine.gone.reason)}`);
      return "parked";
    }
    if (isStopping(stop.signal)) {
      await this.#parkOrEnd(work, instance, "its coordinator was stopped, and an original buildlet cannot go on");
      return "parked";
    }
    return await this.#emptied(machine);
  }

  /** Parks the lease of a machine whose agent comes back. With any other machine the instance ends, for `reason`. */
  async #parkOrEnd({ lease }: Work, { id }: Instance, reason: string): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    if (await this.#patiently(() => parkLease(sql, lease, clock.now()))) {
      bus.publish(`gomote:${id}`);
      return;
    }
    const [left] = await this.#patiently(() => instancesById(sql, [id]));
    if (left?.lease !== lease.id || left.epoch !== lease.epoch || left.parked) return; // it ended, or goes on elsewhere
    await this.#patiently(() => this.#deps.end(id, reason));
  }

  async #another({ lease }: Work, instance: Instance, why: string): Promise<void> {
    const { sql, bus, clock, log } = this.#deps;
    const now = clock.now();
    const reason = `the machine could not be made ready: ${why}`;
    const again = await this.#patiently(() => tryAnotherMachine(sql, lease, reason, plus(now, ELSEWHERE_FIRST), now));
    log.info({ instance: instance.name, reason, again }, "A machine could not be made ready for a person");
    if (again) bus.publish(`queue:${instance.hostType}`);
    else await this.#patiently(() => this.#deps.end(instance.id, reason));
    bus.publish(`gomote:${instance.id}`);
  }

  /** Removes all files and commands of the person from a machine. */
  async #emptied(machine: MachineSession): Promise<"clean" | "broken"> {
    // An original buildlet is halted after one instance; its owner keeps or removes what is left there.
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
    for (const work of this.#works.all) {
      if (id === "" || String(work.about?.id) === id) void this.#endedHere(work).catch((error) => this.#warn(error));
    }
  }

  /** Lets go of an instance if the database says that it has ended: a topic is only a hint. */
  async #endedHere({ about, lease, stop }: Work): Promise<void> {
    const id = about?.id ?? 0;
    const [instance] = await instancesById(this.#deps.sql, [id]);
    if (instance?.lease === lease.id && instance.state !== "ended") return;
    const why = instance?.endReason ?? "it has ended";
    stop.abort(new FarmError("gone", `The instance ${JSON.stringify(instance?.name ?? id)} has ended: ${why}.`));
  }

  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#deps.clock, this.#works.stopping);
  }

  #warn(error: unknown): void {
    this.#deps.log.warn({ error: messageOf(error) }, "Could not look after an instance; trying again");
  }
}

/** The instance that a lease holds up; undefined once that is over. */
function heldBy({ about }: Work): HeldInstance | undefined {
  return about?.held?.over.aborted ? undefined : about?.held;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Whether any other machine would do: the instance has none yet, and keeps none as a failed build left it. */
function isReplaceable({ upAt, keeps }: Instance): boolean {
  return upAt === null && !keeps;
}

function isStopping({ aborted: is, reason }: AbortSignal): boolean {
  return is && reason instanceof FarmError && reason.code === "unavailable";
}

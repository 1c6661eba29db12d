/**
 * Instances: machines that people have to themselves for a while.
 *
 *   wanted    somebody waits (waiting-room.ts); the lease stands in the line like any other work
 *   up        a machine was made ready (holdings.ts), and is the person's until it is over
 *   parked    the machine's connection or its coordinator is gone; our agent comes back with it, to whichever coordinator
 *   ended     destroyed, idle for too long, at its limit, its person removed or without the role for it, its machine gone, or taken back by the
 *             machine's owner
 *
 *   wanted -claim-> up -> ended;  up -connection lost-> parked -adopted-> up;  any -> ended
 *
 * The database decides (store/gomote.ts): whoever ends an instance ends its lease there and says so (topic `gomote-ended:ID`); the coordinator
 * that holds the machine lets go of it. Every CHECK_EVERY each coordinator looks by itself, too.
 *
 * Only its owner's use renews an instance: `use` by whoever calls for the owner, and `keep` for as long as something of theirs runs.
 */
import { CHECK_EVERY } from "../builds/builds.ts";
import type { HostConfig } from "../config/effective.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, epochMs, type Ms, type PersonId, plus, seconds } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { isLent, mayNotBorrow } from "../farm/lending.ts";
import type { Person } from "../farm/person.ts";
import { Batch } from "../machines/batch.ts";
import {
  type EndedInstance,
  endedInstance,
  endInstances,
  endOverdueInstances,
  type Instance,
  type InstanceEnd,
  instanceNamed,
  instancesAskedForAt,
  liveInstances,
  renewInstances,
} from "../store/gomote.ts";
import type { PersonOnce } from "../store/people.ts";
import { type HeldInstance, Holdings, type HoldingsDeps } from "./holdings.ts";

/** What was renewed so lately needs it no more. */
const RENEWED_MS = 2000;
/** What is in use is renewed this often. */
export const RENEW_EVERY: Ms = seconds(60);
const ENDED_AT_ONCE = 200;
/** In the audit, who ends what nobody asked to end. */
const FARM = "the farm";

export interface InstancesDeps extends Omit<HoldingsDeps, "end"> {
  /** What is known of these people. */
  readonly people: (ids: readonly PersonId[]) => Promise<readonly PersonOnce[]>;
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

/** Whose it must be. */
type Owner = Pick<Person, "id"> & Partial<Pick<Person, "roles">>;

export class Instances implements AsyncDisposable {
  readonly #deps: InstancesDeps;
  readonly #holdings: Holdings;
  /** Thousands may leave in one moment. */
  readonly #ends: Batch<InstanceEnd, void>;
  /** Instance -> how many things of its owner's are going on. */
  readonly #kept = new Map<number, number>();
  readonly #stop = new AbortController();
  readonly #checks: Promise<void>;
  #renewedAt: number;

  constructor(deps: InstancesDeps) {
    this.#deps = deps;
    this.#renewedAt = deps.clock.monotonic();
    this.#holdings = new Holdings({ ...deps, end: (id, reason) => this.end({ id, who: FARM, action: "end", reason }) });
    this.#ends = new Batch(ENDED_AT_ONCE, async (ends) => {
      this.#publishEnded(await endInstances(deps.sql, ends, deps.clock.now()));
    });
    const { signal } = this.#stop;
    deps.bus.subscribe("person:", () => void this.#endOfOwners().catch((error) => this.#warn(error)), signal);
    this.#checks = this.#check();
  }

  /** Works off a lease of kind `gomote` that was just claimed or adopted (holdings.ts). */
  start(lease: Lease): void {
    this.#holdings.start(lease);
  }

  /**
   * The instance of this name, which is `person`'s. Throws FarmError `not-found` or `forbidden`; nothing is renewed. To a stranger one that has ended
   * is one that never was.
   */
  async find(person: Owner, name: string): Promise<Instance> {
    const canBe = name !== "" && !name.includes("\0"); // which a database cannot be asked for
    const found = canBe ? await instanceNamed(this.#deps.sql, name) : undefined;
    const given = JSON.stringify(name.slice(0, 200));
    if (!found) {
      const mayKnowAll = person.roles?.includes("operator") === true;
      const ended = canBe ? await endedInstance(this.#deps.sql, name, mayKnowAll ? null : person.id) : undefined;
      const how = ended
        ? ` any more: it ended at ${new Date(ended.endedAt).toISOString()}: ${ended.reason ?? "nobody knows why"}`
        : "";
      throw new FarmError("not-found", `There is no instance ${given}${how}. "gomote list" shows yours.`);
    }
    if (found.owner !== person.id) throw new FarmError("forbidden", `The instance ${given} is somebody else's.`);
    return found;
  }

  /** The same, and it is renewed. Throws `conflict` while it is still waited for. */
  async use(person: Owner, name: string): Promise<Instance> {
    const found = await this.find(person, name);
    if (found.upAt === null)
      throw new FarmError("conflict", `The instance ${JSON.stringify(name)} still waits for a machine.`);
    const idle = plus(this.#deps.clock.now(), this.#deps.config().gomote.idleMs);
    const expiresAt = epochMs(Math.min(idle, found.limitAt ?? idle));
    // A command is several calls.
    if (expiresAt - found.expiresAt < RENEWED_MS) return found;
    await renewInstances(this.#deps.sql, [found.id], expiresAt);
    return { ...found, expiresAt };
  }

  /**
   * The same, with its machine. Throws HeldElsewhere when that is connected to another coordinator, `unavailable` when it is away for the
   * moment.
   */
  async held(person: Owner, name: string): Promise<HeldInstance> {
    const instance = await this.use(person, name);
    const here = this.#holdings.machineOf(instance);
    if (here) return { ...here, instance };
    const { coordinator, parked, machine } = instance;
    if (coordinator !== null && coordinator !== this.#deps.coordinator && !parked) throw new HeldElsewhere(coordinator);
    throw new FarmError(
      "unavailable",
      `The machine ${machine} of ${JSON.stringify(name)} lost its connection and is waited for; try again in a moment.`,
    );
  }

  /** The one of this number, when it is up and its machine is connected here. */
  here(id: number): HeldInstance | undefined {
    return this.#holdings.instance(id);
  }

  /** While it is not disposed of, the instance is in use by its owner. */
  keep({ id }: Pick<Instance, "id">): Disposable {
    this.#kept.set(id, (this.#kept.get(id) ?? 0) + 1);
    return {
      [Symbol.dispose]: () => {
        const left = (this.#kept.get(id) ?? 1) - 1;
        if (left === 0) this.#kept.delete(id);
        else this.#kept.set(id, left);
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
    await this.end({ id, who: person.email, action: "destroy", reason: "its owner destroyed it" });
  }

  /** Ends an instance, unless it has ended already. */
  async end(end: InstanceEnd): Promise<void> {
    await this.#ends.add(end);
  }

  /** Looks after what is overdue, what was lost, and whose owner is gone. */
  async look(): Promise<void> {
    const { sql, clock, config } = this.#deps;
    if (this.#kept.size > 0 && clock.monotonic() - this.#renewedAt >= RENEW_EVERY) {
      this.#renewedAt = clock.monotonic();
      await renewInstances(sql, [...this.#kept.keys()], plus(clock.now(), config().gomote.idleMs));
    }
    this.#publishEnded(await endOverdueInstances(sql, clock.now()));
    await this.#endOfOwners();
    await this.#holdings.look();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all([this.#checks, this.#holdings[Symbol.asyncDispose]()]);
    await this.#ends.settled();
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

  /**
   * Ends what belongs to people who are there no more, or who may not have it any more. Each coordinator looks at what it let in: another may not
   * have read yet the configuration by which it did.
   */
  async #endOfOwners(): Promise<void> {
    const live = await instancesAskedForAt(this.#deps.sql, this.#deps.coordinator);
    if (live.length === 0) return;
    const people = await this.#deps.people([...new Set(live.map(({ owner }) => owner))]);
    const known = new Map(people.map((person) => [person.id, person]));
    const { hosts } = this.#deps.config();
    await Promise.all(
      live.map(async ({ id, owner, hostType }) => {
        const reason = whyLost(
          known.get(owner),
          hosts.find((host) => host.hostType === hostType),
        );
        if (reason !== undefined) await this.end({ id, who: FARM, action: "end", reason });
      }),
    );
  }

  async #check(): Promise<void> {
    const { clock } = this.#deps;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(CHECK_EVERY, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      await this.look().catch((error: unknown) => this.#warn(error));
    }
  }

  #warn(error: unknown): void {
    this.#deps.log.warn({ error: messageOf(error) }, "Could not look after instances; trying again");
  }
}

/**
 * Why whoever has, or waits for, a machine of `host` loses it. What its owner agrees to counts, and what they themselves are: a host type that
 * the farm lends to nobody from now on, or that the configuration has no more, leaves to its borrowers what they have.
 */
function whyLost(owner: PersonOnce | undefined, host: HostConfig | undefined): string | undefined {
  if (!owner) return undefined;
  if (owner.removed) return "its owner was removed";
  if (!host) return undefined;
  if (!host.lend.gomote) return "the owner of its machine does not lend it to people any more";
  if (!isLent(host) || mayNotBorrow(owner, host) === undefined) return undefined;
  return "its owner has no role any more with which one borrows such machines";
}

/**
 * Instances: machines that people have to themselves for a while.
 *
 *   wanted    a person waits for a machine (waiting-room.ts); the lease stands in the queue like any other work
 *   up        a machine was made ready (holdings.ts); the person has it until the instance ends
 *   parked    the machine lost its connection, or its coordinator stopped; our agent comes back with the instance, to
 *             any coordinator
 *   ended     destroyed by its owner, idle for too long, at its time limit, or taken back by the machine's owner; or
 *             its owner was removed or lost the role for it; or its machine is gone
 *
 *   wanted -claim-> up -> ended;  up -connection lost-> parked -adopted-> up;  any -> ended
 *
 * The database decides (store/gomote.ts). A coordinator that ends an instance ends its lease there, and publishes the
 * topic `gomote-ended:ID`. The coordinator that holds the machine then lets go of it. A topic may get lost, so each
 * coordinator also looks every CHECK_EVERY.
 *
 * Only use by its owner renews an instance: each call for the owner (`use`), and whatever of theirs goes on (`keep`).
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
import type { Held } from "../store/leases.ts";
import type { PersonOnce } from "../store/people.ts";
import { type HeldInstance, Holdings, type HoldingsDeps } from "./holdings.ts";

/** An instance is not renewed again when that would add less than this. */
const RENEWED_MS = 2000;
/** How often instances in use are renewed. */
const RENEW_EVERY: Ms = seconds(60);
const ENDED_AT_ONCE = 200;
/** Who ended an instance, in the audit, when no person did. */
const FARM = "the farm";

export interface InstancesDeps extends Omit<HoldingsDeps, "end"> {
  /** What the database knows of these people. */
  readonly people: (ids: readonly PersonId[]) => Promise<readonly PersonOnce[]>;
}

/** Thrown when the machine of an instance is connected to another coordinator. */
export class HeldElsewhere extends Error {
  override readonly name = "HeldElsewhere";
  readonly coordinator: CoordinatorId;

  constructor(coordinator: CoordinatorId) {
    super(`The instance's machine is connected to coordinator ${coordinator}`);
    this.coordinator = coordinator;
  }
}

/** The person whose instance it must be. */
type Owner = Pick<Person, "id"> & Partial<Pick<Person, "roles">>;

export class Instances implements AsyncDisposable {
  readonly #deps: InstancesDeps;
  readonly #holdings: Holdings;
  /** Ends are written in batches: thousands of clients may leave in one moment. */
  readonly #ends: Batch<InstanceEnd, void>;
  /** Instance -> how many commands, shells and transfers of its owner go on. */
  readonly #kept = new Map<number, number>();
  readonly #stop = new AbortController();
  readonly #checks: Promise<void>;
  #renewedAt: number;

  constructor(deps: InstancesDeps) {
    this.#deps = deps;
    this.#renewedAt = deps.clock.monotonic();
    this.#holdings = new Holdings({ ...deps, end: (id, reason) => this.endByFarm(id, reason) });
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
   * The instance of this name, which must be `person`'s. Renews nothing. Throws FarmError `not-found` or `forbidden`.
   * Only its owner and operators learn that an instance has ended; anybody else is answered as if it had never been.
   */
  async find(person: Owner, name: string): Promise<Instance> {
    const canBe = name !== "" && !name.includes("\0"); // PostgreSQL's text holds no NUL
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

  /**
   * Finds an instance as `find` does, and renews it. Throws FarmError `conflict` while it still waits for a machine.
   */
  async use(person: Owner, name: string): Promise<Instance> {
    const found = await this.find(person, name);
    if (found.upAt === null)
      throw new FarmError("conflict", `The instance ${JSON.stringify(name)} still waits for a machine.`);
    const idle = plus(this.#deps.clock.now(), this.#deps.config().gomote.idleMs);
    const expiresAt = epochMs(Math.min(idle, found.limitAt ?? idle));
    // A command of the client is several calls: one renewal does for all.
    if (expiresAt - found.expiresAt < RENEWED_MS) return found;
    await renewInstances(this.#deps.sql, [found.id], expiresAt);
    return { ...found, expiresAt };
  }

  /**
   * Finds and renews an instance as `use` does, and gives its machine too. Throws HeldElsewhere when the machine is
   * connected to another coordinator, FarmError `unavailable` when it is away for the moment.
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

  /** The instance with this number, if it is up and its machine is connected here. */
  here(id: number): HeldInstance | undefined {
    return this.#holdings.instance(id);
  }

  /** Marks the instance as in use by its owner until the result is disposed of. */
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

  /** The instances of `person` that have not ended, sorted by name; null: of everybody. */
  async list(person: Person | null): Promise<Instance[]> {
    return liveInstances(this.#deps.sql, person?.id ?? null);
  }

  /** Ends an instance for its owner, also while they still wait for a machine. */
  async destroy(person: Person, name: string): Promise<void> {
    const { id } = await this.find(person, name);
    await this.end({ id, who: person.email, action: "destroy", reason: "its owner destroyed it" });
  }

  /** Ends an instance, unless it has ended already. */
  async end(end: InstanceEnd): Promise<void> {
    await this.#ends.add(end);
  }

  /** Ends an instance that no person ended. With `held`, only if its lease is still this one, in this epoch. */
  async endByFarm(id: number, reason: string, held?: Held): Promise<void> {
    const fence = held && { held: { id: held.id, epoch: held.epoch } };
    await this.end({ id, who: FARM, action: "end", reason, ...fence });
  }

  /**
   * Renews instances in use, ends those that are overdue or that their owner may not have, and updates what is held
   * here.
   */
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
   * Ends instances whose owner was removed, or may not have them any more. Each coordinator looks only at those that
   * were asked for at it: another may not have read the configuration yet that allowed them.
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
        if (reason !== undefined) await this.endByFarm(id, reason);
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
 * Why `owner` loses an instance on a machine of `host`, or their place in its queue; undefined: they keep it. Two
 * things count: whether the machine's owner still lends it, and the borrower's own roles. A host type that the farm
 * lends to nobody any more, or that left the configuration, leaves its borrowers what they have.
 */
function whyLost(owner: PersonOnce | undefined, host: HostConfig | undefined): string | undefined {
  if (!owner) return undefined;
  if (owner.removed) return "its owner was removed";
  if (!host) return undefined;
  if (!host.lend.gomote) return "the owner of its machine does not lend it to people any more";
  if (!isLent(host) || mayNotBorrow(owner, host) === undefined) return undefined;
  return "its owner has no role any more with which one borrows such machines";
}

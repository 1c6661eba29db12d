/**
 * Held leases that nobody drives: those of coordinators that ended, and those that lost their machine.
 *
 *   heartbeat   each coordinator moves its `seen_at` every HEARTBEAT, whatever else there is to do here, and whatever
 *               locks the others hold
 *   dead        a `seen_at` that stood still for DEAD_AFTER of *our* time, while we read it every HEARTBEAT or so. So
 *               neither a wall clock that jumps nor a database that was away for all makes anybody dead. Beside an
 *               embedded database there is only one coordinator, so all others are dead when it starts
 *   parked      what a dead one drove on a machine that resumes, and what anybody drove on a machine that was lost. The
 *               machine may come back, to any coordinator, and is then given its lease again by the claim
 *               (store/leases.ts)
 *   given up    what the dead drove on other machines; what was parked and has waited for as long as its host type has,
 *               by *our* time; and what ran on a machine that came back as another process. The attempt ends with the
 *               reason, and a new one is wanted. It is not charged when its coordinator ended
 *
 * The sessions of the dead are closed at each look. A statement of theirs that waited for a lock, or for the database,
 * may open a session long after they ended. A machine that seems to be connected is not missed, and is not known to
 * have come back as another process.
 *
 * A lease that cannot be given up holds up no other: the failure is logged, and the next look tries again.
 *
 * A build that was ended while nobody drove it, for example canceled, has logs that nobody ends: they are ended here
 * too. Tests of a build whose machine is waited for are given to a helper, when nobody else works at them (help.ts).
 *
 * A coordinator that was declared dead and is not learns it at its next heartbeat and must stop: `lost` is called.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { durationText } from "../farm/duration-text.ts";
import { messageOf } from "../farm/errors.ts";
import { every } from "../farm/every.ts";
import { type CoordinatorId, type EpochMs, type LeaseId, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import { giveUpAttempt, type RetryPolicy } from "../store/attempts.ts";
import { coordinatorSeen, declareDead, otherCoordinators } from "../store/coordinators.ts";
import { endLease, type Held } from "../store/leases.ts";
import { endLeftLogs } from "../store/logs.ts";
import { closeLeftSessions } from "../store/machines.ts";
import { type Left, leftLeases, parkOrphans } from "../store/parked-leases.ts";
import { endHelper } from "../store/set-aside.ts";
import type { Sql } from "../store/sql.ts";
import { endLeftTestLogs } from "../store/test-lines.ts";
import { RETRY_POLICY } from "./builds.ts";
import { helpThoseLeftAlone } from "./help.ts";
import { publishBuild, publishEnded } from "./publish.ts";

export const HEARTBEAT: Ms = seconds(10);
export const DEAD_AFTER: Ms = seconds(45);
/** The longest time between two looks at the others. After a longer one, what was seen before proves nothing. */
const BLIND_AFTER: Ms = ms(2 * HEARTBEAT);
/** How long after the end of a build its logs are ended here. A driver that is alive ends them within moments. */
const LOG_LEFT_AFTER: Ms = minutes(1);
/** How long the word of one machine waits for those of others, since a whole farm may come back at once. */
const TOGETHER: Ms = seconds(1);

export interface RecoveryDeps {
  readonly sql: Sql;
  /** The database over a connection of its own, for our sign of life. */
  readonly heart: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  /** No other coordinator can be alive: the database is embedded and the data folder is ours. */
  readonly alone: boolean;
  /** Ends the instance of a lease, unless somebody drives the lease again. */
  readonly endInstance: (id: number, reason: string, held: Held) => Promise<void>;
  /** Called when others have declared this coordinator dead. */
  readonly lost: () => void;
  readonly policy?: RetryPolicy;
  /** How long a machine is waited for before its tests are given to a helper, when nobody else works at them. */
  readonly aloneFor?: Ms;
}

export class Recovery implements AsyncDisposable {
  readonly #deps: RecoveryDeps;
  readonly #stop = new AbortController();
  /** Other coordinators -> the sign of life that we saw last, and when we first saw that one. */
  readonly #seen = new Map<CoordinatorId, { readonly seenAt: EpochMs; readonly since: number }>();
  /** When we last saw the others. */
  #sawAt = Number.NEGATIVE_INFINITY;
  /** Leases that nobody drives -> since when we know of it, on the monotonic clock. */
  #left: ReadonlyMap<LeaseId, { readonly epoch: number; readonly since: number }> = new Map();
  /** The last of the passes over the leases that nobody drives: they run one after the other. Never rejects. */
  #takingBack: Promise<unknown> = Promise.resolve();
  #woken = Promise.withResolvers<void>();
  readonly #loops: Promise<void>[] = [];

  constructor(deps: RecoveryDeps) {
    this.#deps = deps;
  }

  /** Takes one look, and goes on watching after that. The coordinator's own row must be in the database. */
  async start(): Promise<void> {
    this.#loops.push(this.#beat());
    await this.look();
    this.#deps.bus.subscribe("machine:", () => this.#woken.resolve(), this.#stop.signal);
    this.#loops.push(
      every(HEARTBEAT, () => this.look(), "Could not look after the other coordinators", this.#deps, this.#stop.signal),
      this.#follow(),
    );
  }

  /**
   * Looks at the other coordinators once, and at the leases that nobody drives. Returns how many attempts were given
   * up.
   */
  async look(): Promise<number> {
    const { sql, bus, clock, coordinator, alone, aloneFor = HEARTBEAT } = this.#deps;
    await this.#findDead();
    await closeLeftSessions(sql, coordinator, alone, clock.now());
    await parkOrphans(sql, clock.now());
    const before = plus(clock.now(), ms(-LOG_LEFT_AFTER));
    const ended = [...(await endLeftTestLogs(sql, before)), ...(await endLeftLogs(sql, before))];
    for (const id of ended) bus.publish(`log:${id}`);
    const taken = await this.#takeBack();
    const now = clock.monotonic();
    await helpThoseLeftAlone(this.#deps, (lease) => now - (this.#left.get(lease)?.since ?? now) >= aloneFor);
    return taken;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops);
  }

  async #findDead(): Promise<void> {
    const { sql, clock, log, coordinator, alone } = this.#deps;
    const others = await otherCoordinators(sql, coordinator);
    const now = clock.monotonic();
    if (now - this.#sawAt > BLIND_AFTER) this.#seen.clear();
    this.#sawAt = now;
    for (const { id, seenAt } of others) {
      const known = this.#seen.get(id);
      if (known?.seenAt !== seenAt) this.#seen.set(id, { seenAt, since: now });
      const still = known?.seenAt === seenAt ? now - known.since : 0;
      if (!alone && still < DEAD_AFTER) continue;
      log.warn({ coordinator: id }, "A coordinator died; taking over what it ran");
      await declareDead(sql, id, seenAt, clock.now());
      this.#seen.delete(id);
    }
  }

  /** Runs #giveUpLeft() when the pass before it has ended, since it goes on from what that one knew. */
  #takeBack(): Promise<number> {
    const taken = this.#takingBack.then(() => this.#giveUpLeft());
    this.#takingBack = taken.catch(() => {}); // the caller receives the failure
    return taken;
  }

  /** Gives up the leases that nobody has driven for long enough. Returns how many of them were attempts. */
  async #giveUpLeft(): Promise<number> {
    const { sql, clock, log } = this.#deps;
    const known = this.#left;
    const now = clock.monotonic();
    const found = await leftLeases(sql);
    const waiting = found.map(({ id, epoch }) => {
      const before = known.get(id);
      return [id, { epoch, since: before?.epoch === epoch ? before.since : now }] as const;
    });
    this.#left = new Map(waiting);
    let taken = 0;
    for (const left of found) {
      const { id, attempt } = left;
      const reason = this.#whyGivenUp(left, now - (this.#left.get(id)?.since ?? now));
      if (reason === undefined) continue;
      try {
        if (await this.#giveUp(left, reason)) taken++;
      } catch (error) {
        log.warn({ lease: id, attempt, error: messageOf(error) }, "Could not give up what nobody drives; trying again");
      }
    }
    return taken;
  }

  /** Gives up one lease. Returns whether it was that of an attempt, and still open. */
  async #giveUp(left: Left, reason: string): Promise<boolean> {
    const { sql, bus, clock, endInstance, policy = RETRY_POLICY } = this.#deps;
    const { attempt, epoch, instance } = left;
    const charged = !left.orphaned;
    if (attempt === null) {
      if (left.kind === "helper") await endHelper(sql, left, charged ? "machine" : undefined, reason, clock.now());
      else if (instance !== null) await endInstance(instance, reason, left);
      else await endLease(sql, left, clock.now(), reason);
      return false;
    }
    const why = { reason, counts: charged, machineFault: charged, end: undefined };
    const given = await giveUpAttempt(sql, { attempt, epoch, by: "recovery", ...why }, policy, clock.now());
    if (!given) return false;
    if (given.again) publishBuild(bus, given.build, true);
    else publishEnded(bus, given.build);
    return true;
  }

  /** Why a lease that nobody has driven for `waited` is given up; undefined: it is waited for. */
  #whyGivenUp(
    { resumes, restarted, orphaned, coordinator, machine, waitFor }: Left,
    waited: number,
  ): string | undefined {
    const ended = `coordinator ${coordinator} ended while it ran this`;
    if (!resumes) return ended;
    if (restarted) return `machine gone: ${machine} came back as another process, without what it ran`;
    if (waited < waitFor) return undefined;
    const late = `machine gone: waited ${durationText(waitFor)} in vain for ${machine} to come back`;
    return orphaned ? `${ended}; ${late}` : late;
  }

  /**
   * Looks after the leases each time machines have registered: one that came back as another process need not be waited
   * for.
   */
  async #follow(): Promise<void> {
    const { clock, log } = this.#deps;
    const { signal } = this.#stop;
    signal.addEventListener("abort", () => this.#woken.resolve(), { once: true });
    for (;;) {
      await this.#woken.promise;
      await clock.sleep(TOGETHER, signal).catch(() => {});
      if (signal.aborted) return;
      this.#woken = Promise.withResolvers();
      try {
        await this.#takeBack();
      } catch (error) {
        log.warn({ error: messageOf(error) }, "Could not look after leases that nobody drives");
      }
    }
  }

  /** Gives our sign of life every HEARTBEAT. It waits for nothing but the database. */
  async #beat(): Promise<void> {
    const { heart, clock, log, coordinator, lost } = this.#deps;
    while (!this.#stop.signal.aborted) {
      try {
        if (!(await coordinatorSeen(heart, coordinator, clock.now()))) {
          if (!this.#stop.signal.aborted) lost();
          return;
        }
      } catch (error) {
        log.warn({ error: messageOf(error) }, "Could not give a sign of life");
      }
      await clock.sleep(HEARTBEAT, this.#stop.signal).catch(() => {});
    }
  }
}

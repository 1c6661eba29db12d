/**
 * Held leases that nobody drives: what coordinators leave behind when they end, and what lost its machine.
 *
 *   heartbeat   each coordinator moves its `seen_at` every HEARTBEAT, whatever else there is to do here, and whatever locks the others hold
 *   dead        a `seen_at` that stood still for DEAD_AFTER of *our* time, while we read it every HEARTBEAT or so: neither a jump of
 *               somebody's wall clock nor a database that was away for all kills anybody. Beside an embedded database there is only
 *               one, so all others are dead when it starts
 *   parked      what a dead one drove on a machine that resumes, and what anybody drove on one that was lost: the machine may come back,
 *               to whichever coordinator, and is then given its lease again by the claim (store/leases.ts)
 *   given up    what the dead drove on other machines; what was parked and has waited for as long as its host type has, by *our* time; and what a machine
 *               left that came back as another process. The attempt ends with the reason, and a new one is wanted; it is not charged
 *               when its coordinator ended
 *
 * The sessions of the dead are closed at each look: a statement of theirs that waited for a lock, or for the database to be back, may open one
 * when they are long gone, and a machine that seems to be connected is neither missed nor known to have come back as another process.
 *
 * One that cannot be given up keeps no other: the failure is logged, and the next look tries again.
 *
 * What was ended while nobody drove it (somebody canceled it) has a log that nobody ends: that is done here as well. Tests of a build whose
 * machine is waited for are given to a helper, when nobody else works at them (help.ts).
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
/** Between two looks at the others; after a longer time without one, what was seen before proves nothing. */
const BLIND_AFTER: Ms = ms(2 * HEARTBEAT);
/** Whoever drove what has ended stores the end of its log within moments, or not at all. */
const LOG_LEFT_AFTER: Ms = minutes(1);
/** Machines that register are heard of together: a whole farm may come back at once. */
const TOGETHER: Ms = seconds(1);

export interface RecoveryDeps {
  readonly sql: Sql;
  /** A connection of its own for our sign of life. */
  readonly heart: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  /** No other coordinator can be alive: the database is embedded and the data folder is ours. */
  readonly alone: boolean;
  /** Ends the instance of a lease, unless somebody drives the lease again. */
  readonly endInstance: (id: number, reason: string, held: Held) => Promise<void>;
  /** Others declared this coordinator dead. */
  readonly lost: () => void;
  readonly policy?: RetryPolicy;
  /** Tests whose machine has been waited for so long, and that nobody else works at, are given to a helper. */
  readonly aloneFor?: Ms;
}

export class Recovery implements AsyncDisposable {
  readonly #deps: RecoveryDeps;
  readonly #stop = new AbortController();
  /** Others -> the sign of life that we saw last, and when we first saw it. */
  readonly #seen = new Map<CoordinatorId, { readonly seenAt: EpochMs; readonly since: number }>();
  /** When we last saw the others. */
  #sawAt = Number.NEGATIVE_INFINITY;
  /** Leases that nobody drives -> since when we know. */
  #left: ReadonlyMap<LeaseId, { readonly epoch: number; readonly since: number }> = new Map();
  /** Settles when the leases that nobody drives have been looked after, as often as was asked for. Never rejects. */
  #takingBack: Promise<unknown> = Promise.resolve();
  #woken = Promise.withResolvers<void>();
  readonly #loops: Promise<void>[] = [];

  constructor(deps: RecoveryDeps) {
    this.#deps = deps;
  }

  /** Takes over what the dead left, once, and then goes on watching. The coordinator's own row must be there. */
  async start(): Promise<void> {
    this.#loops.push(this.#beat());
    await this.look();
    this.#deps.bus.subscribe("machine:", () => this.#woken.resolve(), this.#stop.signal);
    this.#loops.push(
      every(HEARTBEAT, () => this.look(), "Could not look after the other coordinators", this.#deps, this.#stop.signal),
      this.#follow(),
    );
  }

  /** One look at the others, and at what was left. Returns how many attempts were given up. */
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

  /** One after the other: each goes on from what the one before it knew. */
  #takeBack(): Promise<number> {
    const taken = this.#takingBack.then(() => this.#giveUpLeft());
    this.#takingBack = taken.catch(() => {}); // whoever asked for it hears
    return taken;
  }

  /** Gives up what nobody has driven for long enough. Returns how many attempts that were. */
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

  /** Returns whether it was an attempt. */
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

  /** Why a lease that nobody has driven for `waited` is waited for no longer; undefined: it is. */
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

  /** A machine that comes back as another process need not be waited for. */
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

  /** Waits for nothing but the database. */
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

/**
 * What coordinators leave behind when they die: held leases whose attempts nobody runs.
 *
 *   heartbeat   each coordinator moves its `seen_at` every HEARTBEAT
 *   dead        a `seen_at` that stood still for DEAD_AFTER of *our* time, while we could read the database: neither a jump of somebody's
 *               wall clock nor a database that was away for all kills anybody. Beside an embedded database there is only one, so
 *               all others are dead when it starts
 *   recovered   the attempts of the dead end (not charged) and new ones are wanted
 *
 * A coordinator that was declared dead and is not learns it at its next heartbeat and must stop: `lost` is called.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type EpochMs, type Ms, seconds } from "../farm/ids.ts";
import { giveUpAttempt, orphanedAttempts, type RetryPolicy } from "../store/attempts.ts";
import { coordinatorSeen, declareDead, otherCoordinators } from "../store/coordinators.ts";
import type { Sql } from "../store/sql.ts";
import { publishBuild, RETRY_POLICY } from "./builds.ts";

export const HEARTBEAT: Ms = seconds(10);
export const DEAD_AFTER: Ms = seconds(45);

export interface RecoveryDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  /** No other coordinator can be alive: the database is embedded and the data folder is ours. */
  readonly alone: boolean;
  /** Others declared this coordinator dead. */
  readonly lost: () => void;
  readonly policy?: RetryPolicy;
}

export class Recovery implements AsyncDisposable {
  readonly #deps: RecoveryDeps;
  readonly #stop = new AbortController();
  /** Others -> the sign of life that we saw last, and when we first saw it. */
  readonly #seen = new Map<CoordinatorId, { readonly seenAt: EpochMs; readonly since: number }>();
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: RecoveryDeps) {
    this.#deps = deps;
  }

  /** Takes over what the dead left, once, and then goes on watching. The coordinator's own row must be there. */
  async start(): Promise<void> {
    await this.look();
    this.#loop = this.#watch();
  }

  /** One look at the others. Returns how many attempts were taken back. */
  async look(): Promise<number> {
    const { sql, clock, log, coordinator, alone } = this.#deps;
    const others = await otherCoordinators(sql, coordinator);
    for (const { id, seenAt } of others) {
      const known = this.#seen.get(id);
      if (known?.seenAt !== seenAt) this.#seen.set(id, { seenAt, since: clock.monotonic() });
      const still = known?.seenAt === seenAt ? clock.monotonic() - known.since : 0;
      if (!alone && still < DEAD_AFTER) continue;
      log.warn({ coordinator: id }, "A coordinator died; taking over what it ran");
      await declareDead(sql, id, seenAt, clock.now());
      this.#seen.delete(id);
    }
    return this.#takeBack();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #takeBack(): Promise<number> {
    const { sql, bus, clock, policy = RETRY_POLICY } = this.#deps;
    let taken = 0;
    for (const { attempt, coordinator } of await orphanedAttempts(sql)) {
      const reason = `coordinator ${coordinator} ended while it ran this`;
      const giveUp = { attempt, reason, counts: false, machineFault: false, end: undefined };
      const given = await giveUpAttempt(sql, giveUp, policy, clock.now());
      if (!given) continue;
      taken++;
      publishBuild(bus, given.build, given.again);
    }
    return taken;
  }

  async #watch(): Promise<void> {
    const { sql, clock, log, coordinator, lost } = this.#deps;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(HEARTBEAT, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        if (!(await coordinatorSeen(sql, coordinator, clock.now()))) {
          lost();
          return;
        }
        await this.look();
      } catch (error) {
        // What we saw before the database went away proves nothing about the others.
        this.#seen.clear();
        log.warn({ error: messageOf(error) }, "Could not give a sign of life");
      }
    }
  }
}

/**
 * The database's view of the sessions of one coordinator: opened and closed in batches, each session closed exactly
 * once and never before it was opened.
 *
 * The end of a session is written however long the database is away: an open session counts as a machine that is there.
 * What a coordinator that stops leaves open is closed by another one (closeLeftSessions() of store/machines.ts).
 */
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import type { CoordinatorId, EpochMs, SessionId } from "../../farm/ids.ts";
import {
  type ClosedSession,
  closeSessions,
  type Known,
  type Registered,
  registerSessions,
} from "../../store/machines.ts";
import { patiently } from "../../store/patience.ts";
import type { Sql } from "../../store/sql.ts";
import { Batch } from "../batch.ts";

/** The most sessions in one statement. */
const MOST = 250;

export interface RegistryDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
}

export class Registry {
  readonly #deps: RegistryDeps;
  readonly #stopping: AbortSignal;
  readonly #opening: Batch<Registered, Map<SessionId, Known>>;
  readonly #closing: Batch<ClosedSession, void>;
  readonly #opened = new Map<SessionId, Promise<Known>>();
  readonly #ends = new Set<Promise<void>>();

  constructor(deps: RegistryDeps, stopping: AbortSignal) {
    this.#deps = deps;
    this.#stopping = stopping;
    this.#opening = new Batch(MOST, (given) => registerSessions(deps.sql, deps.coordinator, given, deps.clock.now()));
    this.#closing = new Batch(MOST, (closed) => closeSessions(deps.sql, closed));
  }

  open(registered: Registered): Promise<Known> {
    const opened = this.#open(registered);
    this.#opened.set(registered.session, opened);
    return opened;
  }

  async #open(registered: Registered): Promise<Known> {
    const known = (await this.#opening.add(registered)).get(registered.session);
    if (known === undefined) throw new FarmError("internal", "Cannot find the machine of a session just registered");
    this.#deps.bus.publish(`machine:${known.machine}`);
    return known;
  }

  /** Closes a session. Does nothing for one that was never opened. */
  close(session: SessionId, closedAt: EpochMs, reason: string): void {
    const opened = this.#opened.get(session);
    if (!opened) return;
    this.#opened.delete(session);
    const end = this.#close(opened, { session, closedAt, reason });
    this.#ends.add(end);
    void end.finally(() => this.#ends.delete(end));
  }

  async #close(opened: Promise<Known>, closed: ClosedSession): Promise<void> {
    const { bus, clock, log } = this.#deps;
    const known = await opened.catch(() => undefined);
    if (known === undefined) return; // the caller that opened it knows why
    try {
      await patiently(() => this.#closing.add(closed), clock, this.#stopping);
      bus.publish(`machine:${known.machine}`);
    } catch (error) {
      log.error({ session: closed.session, error: messageOf(error) }, "Could not record the end of a session");
    }
  }

  /** Resolves once everything that was asked for is written. */
  async settled(): Promise<void> {
    await Promise.all(this.#ends);
    await this.#opening.settled();
    await this.#closing.settled();
  }
}

/**
 * Coordinator processes: one row each, alive while `seen_at` moves.
 *
 * A coordinator that finds another one's `seen_at` stopped writes `ended_at` into that row, and takes over what the
 * other one held. One that was only slow learns of this at its next `coordinatorSeen`. It must then stop, since its
 * attempts were given to others.
 */
import { type CoordinatorId, coordinatorId, type EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export interface CoordinatorRow {
  readonly id: CoordinatorId;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  /** The name of the coordinator's data folder. */
  readonly folder?: string;
}

/** How other coordinators reach one. */
export interface Peer {
  readonly id: CoordinatorId;
  /** HOST:PORT */
  readonly address: string;
  /** SHA-256 of its TLS certificate, hex. */
  readonly certificate: string;
}

export async function coordinatorStarted(sql: Sql, row: CoordinatorRow, now: EpochMs): Promise<void> {
  await sql.query(
    `insert into coordinator (id, host, pid, version, folder, started_at, seen_at) values ($1, $2, $3, $4, $5, $6, $6)
     on conflict do nothing`,
    [row.id, row.host, row.pid, row.version, row.folder ?? null, at(now)],
  );
}

/** Stores how the others reach a coordinator. */
export async function coordinatorReachable(sql: Sql, { id, address, certificate }: Peer): Promise<void> {
  await sql.query("update coordinator set peer = $2, certificate = $3 where id = $1", [id, address, certificate]);
}

/** Stores names and fingerprints of what all coordinators must have alike. */
export async function coordinatorShares(
  sql: Sql,
  id: CoordinatorId,
  shared: Readonly<Record<string, string>>,
): Promise<void> {
  await sql.query("update coordinator set shared = $2 where id = $1", [id, JSON.stringify(shared)]);
}

/** Coordinators other than `self` that live and can be reached. */
export async function livingPeers(sql: Sql, self: CoordinatorId): Promise<Peer[]> {
  return sql.query(
    `select id, peer as address, certificate from coordinator
     where ended_at is null and id <> $1 and peer is not null and certificate is not null order by id`,
    [self],
  );
}

/**
 * Ends the coordinators that held `folder` before `self`. Only one process at a time holds it, so they are gone,
 * however lately they were seen.
 */
export async function endPredecessors(sql: Sql, self: CoordinatorId, folder: string, now: EpochMs): Promise<void> {
  await sql.query("update coordinator set ended_at = $3 where folder = $2 and id <> $1 and ended_at is null", [
    self,
    folder,
    at(now),
  ]);
}

/** A living coordinator, as an operator sees it. */
export interface LivingCoordinator {
  readonly id: CoordinatorId;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly peer: string | null;
  readonly startedAt: EpochMs;
  readonly seenAt: EpochMs;
  readonly machines: number;
  readonly builds: number;
  readonly shared: Readonly<Record<string, string>> | null;
}

/** All living coordinators, the oldest first. */
export async function livingCoordinators(sql: Sql): Promise<LivingCoordinator[]> {
  return sql.query(
    `select c.id, c.host, c.pid, c.version, c.peer, c.started_at as "startedAt", c.seen_at as "seenAt", c.shared,
       (select count(distinct s.machine_id)::int from session s where s.coordinator_id = c.id and s.closed_at is null) as machines,
       (select count(*)::int from session s join lease l on l.session_id = s.id and l.state = 'held' and l.kind = 'build'
        where s.coordinator_id = c.id and s.closed_at is null) as builds
     from coordinator c where c.ended_at is null order by c.started_at, c.id`,
  );
}

/** Notes a sign of life. False: others have declared this coordinator dead. */
export async function coordinatorSeen(sql: Sql, id: CoordinatorId, now: EpochMs): Promise<boolean> {
  const rows = await sql.query("update coordinator set seen_at = $2 where id = $1 and ended_at is null returning id", [
    id,
    at(now),
  ]);
  return rows.length > 0;
}

export async function coordinatorEnded(sql: Sql, id: CoordinatorId, now: EpochMs): Promise<void> {
  await sql.query("update coordinator set ended_at = $2 where id = $1 and ended_at is null", [id, at(now)]);
}

/** Coordinators other than `self` that have not ended, with their last sign of life. */
export async function otherCoordinators(
  sql: Sql,
  self: CoordinatorId,
): Promise<{ id: CoordinatorId; seenAt: EpochMs }[]> {
  const rows = await sql.query<{ id: string; seenAt: EpochMs }>(
    `select id, seen_at as "seenAt" from coordinator where ended_at is null and id <> $1`,
    [self],
  );
  return rows.map(({ id, seenAt }) => ({ id: coordinatorId(id), seenAt }));
}

/**
 * Ends a coordinator that gave no sign of life since `seenAt`, and closes its sessions. Does nothing when it gave one.
 */
export async function declareDead(sql: Sql, id: CoordinatorId, seenAt: EpochMs, now: EpochMs): Promise<void> {
  await sql.query(
    `with dead as (
       update coordinator set ended_at = $3 where id = $1 and ended_at is null and seen_at <= $2 returning id
     )
     update session set closed_at = $3, close_reason = 'its coordinator ended'
     from dead where session.coordinator_id = dead.id and session.closed_at is null`,
    [id, at(seenAt), at(now)],
  );
}

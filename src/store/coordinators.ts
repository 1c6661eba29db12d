/**
 * Coordinator processes: one row each, alive while `seen_at` moves.
 *
 * Whoever finds that another stopped moving writes `ended_at` into its row, and from then on takes over what it held. A coordinator
 * that was only slow learns of it at its next `coordinatorSeen` and must stop: its attempts were given to others.
 */
import { type CoordinatorId, coordinatorId, type EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export interface CoordinatorRow {
  readonly id: CoordinatorId;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
}

export async function coordinatorStarted(sql: Sql, row: CoordinatorRow, now: EpochMs): Promise<void> {
  await sql.query(
    `insert into coordinator (id, host, pid, version, started_at, seen_at) values ($1, $2, $3, $4, $5, $5)
     on conflict do nothing`,
    [row.id, row.host, row.pid, row.version, at(now)],
  );
}

/** False: others have declared this coordinator dead. */
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

/** Ends a coordinator that gave no sign of life since `seenAt`; nothing happens when it did. Its sessions are closed with it. */
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

/**
 * Snapshots in the database: which blob holds the tree of a commit, made by a builder in one way.
 *
 * There is at most one per key, and its row says what its bytes must be. A reader that finds other bytes deletes the
 * row, and the next attempt makes the snapshot again.
 */
import { type AttemptId, type BuildId, buildId, type CoordinatorId, type EpochMs, epochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export interface SnapshotKey {
  readonly commitId: number;
  readonly builder: string;
  /** The digest of everything in the recipe that decides what the tree contains. */
  readonly make: string;
}

export interface NewSnapshot extends SnapshotKey {
  /** The key in blobs/. */
  readonly blob: string;
  readonly bytes: number;
  /** In hex. */
  readonly sha256: string;
  /** The coordinator whose blobs/ it was written to. */
  readonly coordinator: CoordinatorId;
  readonly build: BuildId;
  /** The name of the machine that made it. */
  readonly machine: string;
  readonly expiresAt: EpochMs;
}

export interface Snapshot extends NewSnapshot {
  /** The coordinator that has these blobs/ now: the same one, or one that was started later on its folder. */
  readonly holder: CoordinatorId;
  /** The coordinator has ended, and none was started on its folder since then. */
  readonly away: boolean;
  readonly madeAt: EpochMs;
}

interface SnapshotRow {
  blob: string;
  bytes: number;
  sha256: string;
  coordinator_id: CoordinatorId;
  holder: CoordinatorId | null;
  build_id: number;
  machine: string;
  made_at: number;
  expires_at: number;
}

/** SQL for the living coordinator that has the blobs of a `snapshot`. */
const HOLDER = `(
  select l.id from coordinator o join coordinator l on l.ended_at is null and (l.id = o.id or l.folder = o.folder)
  where o.id = snapshot.coordinator_id order by l.started_at desc limit 1
)`;

/** The snapshot of this key, if it has not expired. */
export async function findSnapshot(sql: Sql, key: SnapshotKey, now: EpochMs): Promise<Snapshot | undefined> {
  const [row] = await sql.query<SnapshotRow>(
    `select blob, bytes, sha256, coordinator_id, build_id, machine, made_at, expires_at, ${HOLDER} as holder
     from snapshot where commit_id = $1 and builder = $2 and make = $3 and expires_at > $4`,
    [key.commitId, key.builder, key.make, at(now)],
  );
  if (!row) return undefined;
  return {
    commitId: key.commitId,
    builder: key.builder,
    make: key.make,
    blob: row.blob,
    bytes: row.bytes,
    sha256: row.sha256,
    coordinator: row.coordinator_id,
    holder: row.holder ?? row.coordinator_id,
    away: row.holder === null,
    build: buildId(row.build_id),
    machine: row.machine,
    madeAt: epochMs(row.made_at),
    expiresAt: epochMs(row.expires_at),
  };
}

/** The newest snapshot of a commit by `builder`, made in any way. */
export async function newestSnapshot(
  sql: Sql,
  of: { readonly repo: string; readonly hash: string; readonly builder: string },
  now: EpochMs,
): Promise<Snapshot | undefined> {
  const [row] = await sql.query<{ id: number; make: string }>(
    `select c.id, s.make from snapshot s join commit c on c.id = s.commit_id
     where c.repo = $1 and c.hash = $2 and s.builder = $3 and s.expires_at > $4 order by s.made_at desc limit 1`,
    [of.repo, of.hash, of.builder, at(now)],
  );
  return row && findSnapshot(sql, { commitId: row.id, builder: of.builder, make: row.make }, now);
}

/** False: there is another snapshot of the same key that has not expired and whose holder lives. */
export async function insertSnapshot(sql: Sql, snapshot: NewSnapshot, now: EpochMs): Promise<boolean> {
  const [row] = await sql.query<{ ours: boolean }>(
    `with made as (
       insert into snapshot (blob, commit_id, builder, make, bytes, sha256, coordinator_id, build_id, machine, made_at, expires_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
       on conflict (commit_id, builder, make) do update set blob = excluded.blob, bytes = excluded.bytes, sha256 = excluded.sha256,
         coordinator_id = excluded.coordinator_id, build_id = excluded.build_id, machine = excluded.machine, made_at = excluded.made_at,
         used_at = null, uses = 0, expires_at = excluded.expires_at
       where snapshot.expires_at <= excluded.made_at or ${HOLDER} is null
       returning blob
     )
     select exists (select from made) or exists (select from snapshot where blob = $1) as ours`,
    [
      snapshot.blob,
      snapshot.commitId,
      snapshot.builder,
      snapshot.make,
      snapshot.bytes,
      snapshot.sha256,
      snapshot.coordinator,
      snapshot.build,
      snapshot.machine,
      at(now),
      at(snapshot.expiresAt),
    ],
  );
  return row?.ours ?? false;
}

/** Notes that a snapshot was used: it is kept at least until `expiresAt`. */
export async function snapshotUsed(sql: Sql, blob: string, expiresAt: EpochMs, now: EpochMs): Promise<void> {
  await sql.query(
    `update snapshot set used_at = $3, uses = uses + 1, expires_at = greatest(expires_at, $2)
     where blob = $1 and used_at is distinct from $3`,
    [blob, at(expiresAt), at(now)],
  );
}

export async function deleteSnapshot(sql: Sql, blob: string): Promise<void> {
  await sql.query("delete from snapshot where blob = $1", [blob]);
}

/** Deletes at most `limit` rows that have expired, the oldest first. The caller must delete their blobs. */
export async function deleteExpiredSnapshots(sql: Sql, limit: number, now: EpochMs): Promise<string[]> {
  const rows = await sql.query<{ blob: string }>(
    `delete from snapshot where blob in (
       select blob from snapshot where expires_at <= $1 order by expires_at limit $2 for update skip locked
     ) returning blob`,
    [at(now), limit],
  );
  return rows.map(({ blob }) => blob);
}

/** Those of `blobs` that no row refers to. */
export async function blobsWithoutSnapshot(sql: Sql, blobs: readonly string[]): Promise<string[]> {
  const rows = await sql.query<{ blob: string }>(
    `select blob from unnest($1::text[]) as blob where not exists (select from snapshot where snapshot.blob = blob.blob)`,
    [blobs],
  );
  return rows.map(({ blob }) => blob);
}

/**
 * Changes the rows of an attempt that is at its step 0. From a snapshot, that step is called "snapshot", and the steps
 * that make the tree, named `steps`, have no rows. From the source, they have rows. Repeating is harmless. False: the
 * attempt is not live in `epoch` any more.
 */
export async function layOutAttempt(
  sql: Sql,
  { attempt, epoch }: { readonly attempt: AttemptId; readonly epoch: number },
  from: "source" | "snapshot",
  steps: readonly string[],
): Promise<boolean> {
  const rows = await sql.query(
    `with live as (
       select a.id from attempt a join lease l on l.id = a.lease_id
       where a.id = $1 and a.state = 'running' and l.state = 'held' and l.epoch = $2 for update of a, l
     ), named as (
       update step set name = $3 from live where attempt_id = live.id and number = 0
     ), taken_out as (
       delete from step using live where $3 = 'snapshot' and attempt_id = live.id and number between 1 and cardinality($4::text[])
     ), put_back as (
       insert into step (attempt_id, number, name)
       select live.id, each.number, each.name from live, unnest($4::text[]) with ordinality as each (name, number)
       where $3 = 'source' on conflict do nothing
     )
     select from live`,
    [attempt, epoch, from, steps],
  );
  return rows.length > 0;
}

/** Stores a note about the snapshot for the page of the build, unless the lease of the attempt is in a later epoch. */
export async function noteSnapshot(
  sql: Sql,
  { attempt, epoch }: { readonly attempt: AttemptId; readonly epoch: number },
  note: string,
): Promise<void> {
  await sql.query(
    "update attempt a set snapshot_note = $3 from lease l where a.id = $1 and l.id = a.lease_id and l.epoch = $2",
    [attempt, epoch, note],
  );
}

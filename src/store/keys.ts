/**
 * Keys of single machines. Only a key's SHA-256 is kept; its id (`K` and 9 hex digits) names it in lists and for
 * revoking.
 *
 * A key is valid from `madeAt` until it expires or is revoked, whichever comes first. A revoked one stays in the list.
 */
import { type EpochMs, epochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export interface NewMachineKey {
  readonly id: string;
  readonly hostType: string;
  readonly machine: string;
  readonly sha256: Buffer;
  readonly madeAt: EpochMs;
  readonly expiresAt: EpochMs | null;
}

export interface MachineKey extends NewMachineKey {
  readonly revokedAt: EpochMs | null;
  readonly lastUsedAt: EpochMs | null;
}

const COLUMNS = `id, host_type as "hostType", machine, sha256, made_at as "madeAt", expires_at as "expiresAt",
  revoked_at as "revokedAt", last_used_at as "lastUsedAt"`;

export async function insertMachineKey(sql: Sql, key: NewMachineKey): Promise<void> {
  await sql.query(
    `insert into machine_key (id, host_type, machine, sha256, made_at, expires_at)
     values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing`,
    [key.id, key.hostType, key.machine, key.sha256, at(key.madeAt), at(key.expiresAt)],
  );
}

export async function listMachineKeys(sql: Sql): Promise<MachineKey[]> {
  return await sql.query<MachineKey>(`select ${COLUMNS} from machine_key order by host_type, machine, made_at`);
}

export async function machineKeysBySha256(sql: Sql, hashes: readonly Buffer[]): Promise<MachineKey[]> {
  return await sql.query<MachineKey>(`select ${COLUMNS} from machine_key where sha256 = any ($1::bytea[])`, [hashes]);
}

/** Revokes a key and returns when it was revoked, which may be long ago. Undefined: there is no such key. */
export async function revokeMachineKey(sql: Sql, id: string, now: EpochMs): Promise<EpochMs | undefined> {
  const rows = await sql.query<{ revoked: number }>(
    `update machine_key set revoked_at = coalesce(revoked_at, $2) where id = $1 returning revoked_at as revoked`,
    [id, at(now)],
  );
  return rows[0] === undefined ? undefined : epochMs(rows[0].revoked);
}

export async function machineKeysUsed(sql: Sql, ids: readonly string[], now: EpochMs): Promise<void> {
  await sql.query("update machine_key set last_used_at = greatest(last_used_at, $2) where id = any ($1::text[])", [
    ids,
    at(now),
  ]);
}

/** Which of `ids` have expired or were revoked. */
export async function endedMachineKeys(sql: Sql, ids: readonly string[], now: EpochMs): Promise<string[]> {
  const rows = await sql.query<{ id: string }>(
    "select id from machine_key where id = any ($1::text[]) and (revoked_at is not null or expires_at <= $2)",
    [ids, at(now)],
  );
  return rows.map((row) => row.id);
}

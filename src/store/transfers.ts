/**
 * Files on their way between people and the machines that they have borrowed (gomote/transfers/).
 *
 *   arriving -kept-> kept;  arriving -dropped-> no row;  any -expired-> no row
 *
 * The row exists before the first byte and longer than the last: bytes without a row belong to nobody.
 */
import type { CoordinatorId, EpochMs, PersonId } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/** The beginning of the keys of transferred blobs, before `/ID`. */
export const TRANSFER_BLOBS = "transfers";

export interface Transfer {
  readonly id: string;
  readonly owner: PersonId;
  /** The name of the file for everybody who has its URL. Null: it was uploaded. */
  readonly fileName: string | null;
  readonly coordinator: CoordinatorId;
  /** Null: the file is still arriving. */
  readonly bytes: number | null;
  readonly expiresAt: EpochMs;
}

/** Notes that a file is arriving. False: another arrival has begun `id` before. */
export async function transferBegan(
  sql: Sql,
  { id, owner, fileName, coordinator, expiresAt }: Omit<Transfer, "bytes">,
  arrival: string,
): Promise<boolean> {
  const rows = await sql.query(
    `insert into gomote_transfer as t (id, owner, file_name, coordinator_id, arrival, state, expires_at)
     values ($1, $2, $3, $4, $5, 'arriving', $6)
     on conflict (id) do update set arrival = excluded.arrival where t.arrival = excluded.arrival returning 1`,
    [id, owner, fileName, coordinator, arrival, at(expiresAt)],
  );
  return rows.length > 0;
}

/** Notes that a file has arrived whole. False: it has expired meanwhile and is gone. */
export async function transferKept(
  sql: Sql,
  { id, bytes, expiresAt }: Pick<Transfer, "id" | "bytes" | "expiresAt">,
): Promise<boolean> {
  const rows = await sql.query(
    "update gomote_transfer set state = 'kept', bytes = $2, expires_at = $3 where id = $1 returning 1",
    [id, bytes, at(expiresAt)],
  );
  return rows.length > 0;
}

/** Forgets a file that did not arrive whole, so that it can be sent again. */
export async function transferDropped(sql: Sql, id: string, arrival: string): Promise<void> {
  await sql.query("delete from gomote_transfer where id = $1 and arrival = $2", [id, arrival]);
}

export async function findTransfer(sql: Sql, id: string): Promise<Transfer | undefined> {
  const [row] = await sql.query<Transfer>(
    `select id, owner, file_name as "fileName", coordinator_id as coordinator, bytes, expires_at as "expiresAt"
     from gomote_transfer where id = $1`,
    [id],
  );
  return row;
}

/** How many bytes a person's files have that arrived whole. */
export async function keptBytes(sql: Sql, owner: PersonId, now: EpochMs): Promise<number> {
  const [row] = await sql.query<{ bytes: number }>(
    `select coalesce(sum(bytes), 0)::bigint as bytes from gomote_transfer
     where owner = $1 and state = 'kept' and expires_at >= $2`,
    [owner, at(now)],
  );
  return row?.bytes ?? 0;
}

/** Those of `ids` that still have a row. */
export async function livingTransfers(sql: Sql, ids: readonly string[]): Promise<ReadonlySet<string>> {
  const rows = await sql.query<{ id: string }>("select id from gomote_transfer where id = any ($1::text[])", [ids]);
  return new Set(rows.map(({ id }) => id));
}

export async function deleteTransfers(sql: Sql, now: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from gomote_transfer where id = any (array(
       select id from gomote_transfer where expires_at < $1 order by expires_at limit $2 for update skip locked)) returning 1`,
    [at(now), limit],
  );
  return rows.length;
}

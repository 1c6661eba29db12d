/** Keys of the ssh gateway, sealed. The first coordinator makes one; all coordinators use it. */
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export async function keptSshKey(sql: Sql, name: string, sealer: string): Promise<Uint8Array | undefined> {
  const [row] = await sql.query<{ sealed: Uint8Array }>("select sealed from ssh_key where name = $1 and sealer = $2", [
    name,
    sealer,
  ]);
  return row?.sealed;
}

/** Stores the key unless there is one already. Returns the stored one. */
export async function keepSshKey(
  sql: Sql,
  key: { readonly name: string; readonly sealer: string; readonly sealed: Uint8Array },
  now: EpochMs,
): Promise<void> {
  await sql.query(
    "insert into ssh_key (name, sealer, sealed, made_at) values ($1, $2, $3, $4) on conflict (name, sealer) do nothing",
    [key.name, key.sealer, key.sealed, at(now)],
  );
}

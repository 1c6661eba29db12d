/**
 * Runs work that only one coordinator does at a time: under a lock in the database, which ends with its transaction.
 */
import type { Sql } from "./sql.ts";

/** The lock for making secrets that all coordinators share. */
export const SECRETS_LOCK = 0x62617273; // "bars"

export function exclusively<T>(sql: Sql, lock: number, work: () => Promise<T>): Promise<T> {
  return sql.tx(async (tx) => {
    await tx.query("select pg_advisory_xact_lock($1)", [lock]);
    return work();
  });
}

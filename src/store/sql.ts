/**
 * The one way to speak to PostgreSQL: text with `$1` parameters in, plain rows out. statement.ts makes texts that
 * consist of parts.
 *
 * Types: bigint comes back as number (ids and byte counts stay below 2^53), timestamptz as EpochMs, bytea as Buffer,
 * jsonb as its value. Times go in as `at(epochMs)`.
 *
 * When the server is away (killed, restarting, network), a call is tried again until it succeeds or `patience` has
 * passed. Then it throws FarmError `unavailable`. A connection may break after the server committed and before the
 * answer arrived. Therefore **every write must be safe to repeat** (conditional on the state it moves from, or
 * `on conflict do nothing` with a key of ours).
 */
import type { EpochMs } from "../farm/ids.ts";

export interface Sql {
  /** All rows of one statement. Statements are prepared once per connection, so text must not carry values. */
  query<Row>(text: string, params?: readonly unknown[]): Promise<Row[]>;
  /**
   * Runs `work` in one transaction, which commits when `work` resolves and rolls back when it throws. `work` may run
   * again.
   */
  tx<T>(work: (sql: Sql) => Promise<T>): Promise<T>;
}

/** An instant as a parameter for timestamptz; null stays null. */
export function at(instant: EpochMs | null): Date | null {
  return instant === null ? null : new Date(instant);
}

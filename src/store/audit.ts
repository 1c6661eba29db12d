/**
 * Who did what to whom: each change that a person asked for, written in the same transaction as the change.
 *
 * An entry has a key, which is made before the first try to write it. A transaction that runs again, or a statement
 * whose answer was lost, therefore writes nothing twice.
 */
import { randomUUID } from "node:crypto";
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

export interface AuditLine {
  readonly at: EpochMs;
  readonly who: string;
  /** 'rebuild', 'cancel', 'drain', 'resume', 'readmit', 'revoke', 'login'. */
  readonly action: string;
  /** The thing that was changed, as `noun:id`, like topics. */
  readonly subject: string;
  readonly detail: string | null;
}

/** The time and key of one change, the same for each try to store it. */
export interface Act {
  readonly at: EpochMs;
  readonly key: string;
}

export type AuditEntry = AuditLine & Act;

/** The time and key of a new act. Call this outside the transaction that stores it. */
export function newAct(at: EpochMs): Act {
  return { at, key: randomUUID() };
}

/** Stores an entry. Call this in the transaction of the change that the entry records. */
export async function recordAudit(sql: Sql, entry: AuditEntry): Promise<void> {
  await sql.query(...statement`${inserted(entry)}`);
}

/** The same as recordAudit(), as a common table expression for the statement that makes the change. */
export function audited(entry: AuditEntry): Part {
  return part`audited as (${inserted(entry)})`;
}

function inserted({ at: when, key, who, action, subject, detail }: AuditEntry): Part {
  return part`insert into audit (at, key, who, action, subject, detail)
    values (${at(when)}, ${key}, ${who}, ${action}, ${subject}, ${detail}) on conflict (key) do nothing`;
}

/** The entries about `subject`, the newest first. */
export async function auditOf(sql: Sql, subject: string, limit: number): Promise<AuditLine[]> {
  return sql.query<AuditLine>(
    "select at, who, action, subject, detail from audit where subject = $1 order by at desc limit $2",
    [subject, limit],
  );
}

/**
 * Who did what to whom: each change that a person asked for, written with the change itself. An entry has a key of its own, made before it is first
 * tried to write it, so that a transaction that runs again, or a statement whose answer was lost, writes nothing twice.
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
  /** `noun:id`, as in topics. */
  readonly subject: string;
  readonly detail: string | null;
}

/** What is done, once, however often it is tried. */
export interface Act {
  readonly at: EpochMs;
  readonly key: string;
}

export type AuditEntry = AuditLine & Act;

/** To be made outside the transaction in which it is written down. */
export function newAct(at: EpochMs): Act {
  return { at, key: randomUUID() };
}

/** To be called in the transaction of what it records. */
export async function recordAudit(sql: Sql, entry: AuditEntry): Promise<void> {
  await sql.query(...statement`${inserted(entry)}`);
}

/** The same as a common table expression of the statement that does what it records. */
export function audited(entry: AuditEntry): Part {
  return part`audited as (${inserted(entry)})`;
}

function inserted({ at: when, key, who, action, subject, detail }: AuditEntry): Part {
  return part`insert into audit (at, key, who, action, subject, detail)
    values (${at(when)}, ${key}, ${who}, ${action}, ${subject}, ${detail}) on conflict (key) do nothing`;
}

/** What was done to `subject`, the newest first. */
export async function auditOf(sql: Sql, subject: string, limit: number): Promise<AuditLine[]> {
  return sql.query<AuditLine>(
    "select at, who, action, subject, detail from audit where subject = $1 order by at desc limit $2",
    [subject, limit],
  );
}

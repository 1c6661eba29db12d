/** Who did what to whom: each change that a person asked for, written with the change itself. */
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part } from "./statement.ts";

export interface AuditEntry {
  readonly at: EpochMs;
  readonly who: string;
  /** 'rebuild', 'cancel', 'drain', 'resume', 'readmit', 'revoke', 'login'. */
  readonly action: string;
  /** `noun:id`, as in topics. */
  readonly subject: string;
  readonly detail: string | null;
}

/** To be called in the transaction of what it records. */
export async function recordAudit(sql: Sql, entry: AuditEntry): Promise<void> {
  await sql.query("insert into audit (at, who, action, subject, detail) values ($1, $2, $3, $4, $5)", [
    at(entry.at),
    entry.who,
    entry.action,
    entry.subject,
    entry.detail,
  ]);
}

/** The same as a common table expression of the statement that does what it records. */
export function audited(entry: AuditEntry): Part {
  const { at: when, who, action, subject, detail } = entry;
  return part`audited as (
    insert into audit (at, who, action, subject, detail) values (${at(when)}, ${who}, ${action}, ${subject}, ${detail})
  )`;
}

/** What was done to `subject`, the newest first. */
export async function auditOf(sql: Sql, subject: string, limit: number): Promise<AuditEntry[]> {
  return sql.query<AuditEntry>(
    "select at, who, action, subject, detail from audit where subject = $1 order by at desc limit $2",
    [subject, limit],
  );
}

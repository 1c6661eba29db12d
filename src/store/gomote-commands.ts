/** What people ran on instances: who, when, what, and how it ended. For the machine's owner, and for whoever ran it. */
import type { EpochMs, MachineId } from "../farm/ids.ts";
import { type AuditEntry, audited } from "./audit.ts";
import { at, type Sql } from "./sql.ts";
import { part, statement } from "./statement.ts";

/** Kept of a command's words. */
const LONGEST = 2000;

export interface RanCommand {
  readonly id: number;
  readonly instance: string;
  readonly who: string;
  readonly command: string;
  readonly dir: string;
  readonly startedAt: EpochMs;
  readonly endedAt: EpochMs | null;
  /** Null: it runs. */
  readonly state: string | null;
  /** What it printed was recorded, and is there still. */
  readonly recorded: boolean;
}

/** What was left by a coordinator that died ended with its instance at the latest. */
const COLUMNS = `c.id, g.name as instance, c.who, c.command, c.dir, c.started_at as "startedAt", coalesce(c.ended_at, l.ended_at) as "endedAt",
  coalesce(c.state, case when l.state = 'ended' then 'its instance ended' end) as state,
  exists (select from gomote_recording r where r.command_id = c.id) as recorded`;

/** The number that it has from now on. Nothing runs before it is on disk, together with its entry in the audit. */
export async function commandBegan(
  sql: Sql,
  command: { readonly instance: number; readonly who: string; readonly command: string; readonly dir: string },
  now: EpochMs,
  audit?: AuditEntry,
): Promise<number> {
  const { instance, who } = command;
  const [row] = await sql.query<{ id: number }>(
    ...statement`${audit ? part`with ${audited(audit)} ` : part``}insert into gomote_command (instance_id, who, command, dir, started_at)
      values (${instance}, ${who}, ${cut(command.command)}, ${cut(command.dir)}, ${at(now)}) returning id`,
  );
  return row?.id ?? 0;
}

/** Whoever ran it need not wait for the disk: a database that fails at this moment forgets how it ended, and no more. */
export async function commandEnded(sql: Sql, id: number, state: string, now: EpochMs): Promise<void> {
  await sql.query(
    ...statement`update gomote_command set ended_at = ${at(now)}, state = ${cut(state)} where id = ${id} and ended_at is null
      returning set_config('synchronous_commit', 'off', true)`,
  );
}

/** Of one instance, or of all that a machine was, the newest first. */
export async function commandsOf(
  sql: Sql,
  of: { readonly instance: number } | { readonly machine: MachineId },
  limit: number,
): Promise<RanCommand[]> {
  const [instance, machine] = "instance" in of ? [of.instance, null] : [null, of.machine];
  return sql.query<RanCommand>(
    `select ${COLUMNS} from gomote_command c join gomote_instance g on g.id = c.instance_id join lease l on l.id = g.lease_id
     where ($1::bigint is null or g.id = $1) and ($2::bigint is null or l.machine_id = $2) order by c.id desc limit $3`,
    [instance, machine, limit],
  );
}

/** The command of this number, if it is one of the instance. */
export async function commandOfInstance(sql: Sql, instance: number, number: string): Promise<RanCommand | undefined> {
  const [row] = await sql.query<RanCommand>(
    `select ${COLUMNS} from gomote_command c join gomote_instance g on g.id = c.instance_id join lease l on l.id = g.lease_id
     where g.id = $1 and c.id::text = $2`,
    [instance, number],
  );
  return row;
}

/** What PostgreSQL's text can hold, and a page can show. */
function cut(text: string): string {
  const clean = text.replaceAll("\0", "\u{fffd}").toWellFormed();
  return clean.length <= LONGEST ? clean : `${clean.slice(0, LONGEST).toWellFormed()}…`;
}

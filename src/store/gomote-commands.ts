/** What people ran on instances: who, when, what, and how it ended. For the machine's owner, and for whoever ran it. */
import type { CoordinatorId, EpochMs, MachineId } from "../farm/ids.ts";
import { type AuditEntry, audited } from "./audit.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

/** Kept of a command's words, bytes. */
const MOST_WORDS = 64 * 1024;
/** Of these, as many characters stand in lists. */
export const IN_LISTS: number = 300;
/** Of a folder, and of how it ended. */
const LONGEST = 2000;

export interface RanCommand {
  readonly id: number;
  readonly instanceId: number;
  readonly instance: string;
  readonly who: string;
  /** Its words, in short. */
  readonly command: string;
  readonly dir: string;
  readonly startedAt: EpochMs;
  /** Null: it runs, or may. */
  readonly endedAt: EpochMs | null;
  readonly state: string | null;
  /** Somebody wants it killed: how it will have ended. */
  readonly kill: string | null;
  /** What it printed was recorded, and is there still. */
  readonly recorded: boolean;
}

/** All that is known of a command. */
export interface WholeCommand extends RanCommand {
  readonly words: string;
  /** How many bytes they were, where not all are kept. */
  readonly cutFrom: number | null;
}

const COLUMNS = part`c.id, g.id as "instanceId", g.name as instance, c.who,
    case when length(c.command) <= ${IN_LISTS} then c.command else left(c.command, ${IN_LISTS}) || '…' end as command, c.dir, c.started_at as "startedAt", c.ended_at as "endedAt",
    c.state, c.kill, coalesce((select true from gomote_recording r where r.command_id = c.id), false) as recorded`;
const COMMANDS = part`gomote_command c join gomote_instance g on g.id = c.instance_id`;

/** The number that it has from now on. Nothing runs before it is on disk, together with its entry in the audit. */
export async function commandBegan(
  sql: Sql,
  command: {
    readonly instance: number;
    /** Which attends to it. */
    readonly coordinator: CoordinatorId;
    readonly who: string;
    readonly command: string;
    readonly dir: string;
  },
  now: EpochMs,
  audit?: AuditEntry,
): Promise<number> {
  const { instance, coordinator, who } = command;
  const words = storable(command.command);
  const bytes = Buffer.byteLength(words);
  const [row] = await sql.query<{ id: number }>(
    ...statement`${audit ? part`with ${audited(audit)} ` : part``}
      insert into gomote_command (instance_id, machine_id, coordinator_id, who, command, command_bytes, dir, key, started_at)
      values (${instance}, (select l.machine_id from gomote_instance g join lease l on l.id = g.lease_id where g.id = ${instance}), ${coordinator}, ${who}, ${beginning(words)}, ${bytes > MOST_WORDS ? bytes : null}, ${cut(command.dir)}, ${audit?.key ?? null}, ${at(now)})
      on conflict (key) do update set key = excluded.key returning id`,
  );
  return row?.id ?? 0;
}

/** Whoever ran it need not wait for the disk: of what is lost nobody knows how it ended, and no more. */
export async function commandEnded(sql: Sql, id: number, state: string, now: EpochMs): Promise<void> {
  await sql.query(
    ...statement`update gomote_command set ended_at = ${at(now)}, state = ${cut(state)} where id = ${id} and ended_at is null
      returning set_config('synchronous_commit', 'off', true)`,
  );
}

/** Somebody wants it killed, so that it ends as `kill` says; who says it first is believed. */
export async function killAsked(sql: Sql, id: number, kill: string, audit: AuditEntry): Promise<void> {
  await sql.query(
    ...statement`with ${audited(audit)}
      update gomote_command set kill = coalesce(kill, ${kill}) where id = ${id} and ended_at is null`,
  );
}

/** What a coordinator attends to and somebody wants killed. */
export async function killsAsked(
  sql: Sql,
  coordinator: CoordinatorId,
): Promise<{ readonly id: number; readonly kill: string }[]> {
  return sql.query(
    "select id, kill from gomote_command where ended_at is null and kill is not null and coordinator_id = $1",
    [coordinator],
  );
}

/** Nobody attends any more to what a coordinator began before `before`, but for `attended`. */
export async function leaveCommands(
  sql: Sql,
  coordinator: CoordinatorId,
  attended: readonly number[],
  before: EpochMs,
): Promise<void> {
  await sql.query(
    `update gomote_command set coordinator_id = null
     where ended_at is null and coordinator_id = $1 and started_at < $3 and id <> all ($2::bigint[])`,
    [coordinator, attended, at(before)],
  );
}

/** What nobody attends to. */
export interface LeftCommand {
  readonly id: number;
  readonly instance: number;
  readonly kill: string | null;
  /** Its instance has ended, and all that ran there. */
  readonly over: boolean;
}

/** Those whose machine is connected to `coordinator`, or whose instance has ended. */
export async function leftCommands(sql: Sql, coordinator: CoordinatorId): Promise<LeftCommand[]> {
  return sql.query(
    `select c.id, g.id as instance, c.kill, l.state = 'ended' as over
     from gomote_command c join gomote_instance g on g.id = c.instance_id join lease l on l.id = g.lease_id left join coordinator k on k.id = c.coordinator_id
     where c.ended_at is null and (c.coordinator_id is null or k.ended_at is not null)
       and (l.state = 'ended' or l.state = 'held' and l.coordinator_id = $1 and l.parked_until is null)`,
    [coordinator],
  );
}

/** A place in the order of commands: what runs, then what has ended, of each the newest first. */
export interface CommandPlace {
  readonly running: boolean;
  readonly id: number;
}

/** Above the number of any. */
export const NEWEST: number = Number.MAX_SAFE_INTEGER;

/**
 * After `after`, of one instance, or of all that a machine was. Pairs are compared, so that only the index of whose they are has them in this order:
 * by their numbers alone they are looked for among everybody's, however long ago they are.
 */
export async function commandsOf(
  sql: Sql,
  of: { readonly instance: number } | { readonly machine: MachineId },
  after: CommandPlace | null,
  limit: number,
): Promise<RanCommand[]> {
  const [column, whose] = "instance" in of ? [part`c.instance_id`, of.instance] : [part`c.machine_id`, of.machine];
  const newest = (which: Part, before: number) =>
    part`(select ${COLUMNS} from ${COMMANDS} where (${column}, c.id) > (${whose}, 0) and (${column}, c.id) < (${whose}, ${before}) and ${which}
      order by ${column} desc, c.id desc limit ${limit})`;
  const { running, id } = after ?? { running: true, id: NEWEST };
  const [runs, ended] = [
    newest(part`c.ended_at is null`, running ? id : 0),
    newest(part`c.ended_at is not null`, running ? NEWEST : id),
  ];
  return sql.query<RanCommand>(
    ...statement`select * from (${runs} union all ${ended}) c order by "endedAt" is null desc, id desc limit ${limit}`,
  );
}

/** The command of this number, if it is one of the instance. */
export async function commandOfInstance(sql: Sql, instance: number, number: number): Promise<RanCommand | undefined> {
  const [row] = await sql.query<RanCommand>(
    ...statement`select ${COLUMNS} from ${COMMANDS} where g.id = ${instance} and c.id = ${number}`,
  );
  return row;
}

/** The same with all its words. */
export async function wholeCommand(sql: Sql, instance: number, number: number): Promise<WholeCommand | undefined> {
  const [row] = await sql.query<WholeCommand>(
    ...statement`select ${COLUMNS}, c.command as words, c.command_bytes as "cutFrom" from ${COMMANDS} where g.id = ${instance} and c.id = ${number}`,
  );
  return row;
}

/** What PostgreSQL's text can hold. */
function storable(text: string): string {
  return text.replaceAll("\0", "\u{fffd}").toWellFormed();
}

/** MOST_WORDS bytes of `words`, or one character less. */
function beginning(words: string): string {
  return new TextDecoder().decode(Buffer.from(words).subarray(0, MOST_WORDS), { stream: true });
}

function cut(text: string): string {
  const clean = storable(text);
  return clean.length <= LONGEST ? clean : `${clean.slice(0, LONGEST).toWellFormed()}…`;
}

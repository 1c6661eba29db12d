/**
 * What people ran on instances: who, when, what, and how it ended. For the owner of the machine, and for the person who
 * ran it.
 */
import type { CoordinatorId, EpochMs, MachineId } from "../farm/ids.ts";
import { type AuditEntry, audited } from "./audit.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

/** How many bytes of a command's words are kept. */
const MOST_WORDS = 64 * 1024;
/** How many characters of a command's words lists show. */
export const IN_LISTS: number = 300;
/** How many characters are kept of a folder, and of how a command ended. */
const LONGEST = 2000;

export interface RanCommand {
  readonly id: number;
  readonly instanceId: number;
  readonly instance: string;
  readonly who: string;
  /** The command's words, cut after IN_LISTS characters. */
  readonly command: string;
  readonly dir: string;
  readonly startedAt: EpochMs;
  /** Null: the command runs, or may run. */
  readonly endedAt: EpochMs | null;
  readonly state: string | null;
  /** How the command is to end, because somebody wants it killed. Null: nobody does. */
  readonly kill: string | null;
  /** The output was recorded, and the recording still exists. */
  readonly recorded: boolean;
}

/** All that is known of a command. */
export interface WholeCommand extends RanCommand {
  readonly words: string;
  /** How many bytes the words had, if not all are kept. */
  readonly cutFrom: number | null;
}

const COLUMNS = part`c.id, g.id as "instanceId", g.name as instance, c.who,
    case when length(c.command) <= ${IN_LISTS} then c.command else left(c.command, ${IN_LISTS}) || '…' end as command, c.dir, c.started_at as "startedAt", c.ended_at as "endedAt",
    c.state, c.kill, coalesce((select true from gomote_recording r where r.command_id = c.id), false) as recorded`;
const COMMANDS = part`gomote_command c join gomote_instance g on g.id = c.instance_id`;

/**
 * Stores a command and returns its number. The row is on disk, together with its entry in the audit, before the command
 * runs.
 */
export async function commandBegan(
  sql: Sql,
  command: {
    readonly instance: number;
    /** The coordinator that attends to the command. */
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

/**
 * Stores how a command ended. The person who ran it need not wait for the disk: if a crash loses this, the farm only
 * does not know how the command ended.
 */
export async function commandEnded(sql: Sql, id: number, state: string, now: EpochMs): Promise<void> {
  await sql.query(
    ...statement`update gomote_command set ended_at = ${at(now)}, state = ${cut(state)} where id = ${id} and ended_at is null
      returning set_config('synchronous_commit', 'off', true)`,
  );
}

/** Notes that somebody wants the command killed, so that it ends as `kill` says. The first such wish counts. */
export async function killAsked(sql: Sql, id: number, kill: string, audit: AuditEntry): Promise<void> {
  await sql.query(
    ...statement`with ${audited(audit)}
      update gomote_command set kill = coalesce(kill, ${kill}) where id = ${id} and ended_at is null`,
  );
}

/** Commands that `coordinator` attends to and that somebody wants killed. */
export async function killsAsked(
  sql: Sql,
  coordinator: CoordinatorId,
): Promise<{ readonly id: number; readonly kill: string }[]> {
  return sql.query(
    "select id, kill from gomote_command where ended_at is null and kill is not null and coordinator_id = $1",
    [coordinator],
  );
}

/** Marks commands that `coordinator` began before `before` as attended by nobody, except for those in `attended`. */
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

/** A command that no coordinator attends to. */
export interface LeftCommand {
  readonly id: number;
  readonly instance: number;
  readonly kill: string | null;
  /** The command's instance has ended, and with it everything that ran there. */
  readonly over: boolean;
}

/** Commands without a coordinator, on machines that are connected to `coordinator` or of instances that have ended. */
export async function leftCommands(sql: Sql, coordinator: CoordinatorId): Promise<LeftCommand[]> {
  return sql.query(
    `select c.id, g.id as instance, c.kill, l.state = 'ended' as over
     from gomote_command c join gomote_instance g on g.id = c.instance_id join lease l on l.id = g.lease_id left join coordinator k on k.id = c.coordinator_id
     where c.ended_at is null and (c.coordinator_id is null or k.ended_at is not null)
       and (l.state = 'ended' or l.state = 'held' and l.coordinator_id = $1 and l.parked_until is null)`,
    [coordinator],
  );
}

/** A place in the order of commands: first those that run, then those that have ended, each the newest first. */
export interface CommandPlace {
  readonly running: boolean;
  readonly id: number;
}

/** A number above that of any command. */
export const NEWEST: number = Number.MAX_SAFE_INTEGER;

/**
 * The commands that come after `after`, of one instance or of all instances that a machine was.
 *
 * The conditions compare pairs, since only an index that begins with the instance (or machine) has its commands in this
 * order. By number alone, the search would go through the commands of everybody.
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

/** The command of this number, if it belongs to the instance. */
export async function commandOfInstance(sql: Sql, instance: number, number: number): Promise<RanCommand | undefined> {
  const [row] = await sql.query<RanCommand>(
    ...statement`select ${COLUMNS} from ${COMMANDS} where g.id = ${instance} and c.id = ${number}`,
  );
  return row;
}

/** The same as commandOfInstance(), with all the words. */
export async function wholeCommand(sql: Sql, instance: number, number: number): Promise<WholeCommand | undefined> {
  const [row] = await sql.query<WholeCommand>(
    ...statement`select ${COLUMNS}, c.command as words, c.command_bytes as "cutFrom" from ${COMMANDS} where g.id = ${instance} and c.id = ${number}`,
  );
  return row;
}

/** `text` without the characters that PostgreSQL's text cannot hold. */
function storable(text: string): string {
  return text.replaceAll("\0", "\u{fffd}").toWellFormed();
}

/** The first MOST_WORDS bytes of `words`, less a character that this would cut. */
function beginning(words: string): string {
  return new TextDecoder().decode(Buffer.from(words).subarray(0, MOST_WORDS), { stream: true });
}

function cut(text: string): string {
  const clean = storable(text);
  return clean.length <= LONGEST ? clean : `${clean.slice(0, LONGEST).toWellFormed()}…`;
}

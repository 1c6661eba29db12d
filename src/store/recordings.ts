/**
 * Recordings of shells. Each consists of parts of an asciicast, which are compressed one by one and together give the
 * whole.
 */
import type { EpochMs } from "../farm/ids.ts";
import type { Walked } from "./retention.ts";
import { at, type Sql } from "./sql.ts";

/** How many bytes the recordings of one bite have together, not counting the first. */
const BYTES_AT_ONCE = 64 * 1024 * 1024;

export async function recordingBegan(sql: Sql, command: number): Promise<void> {
  await sql.query("insert into gomote_recording (command_id) values ($1)", [command]);
}

/** Stores a part. Repeating this is harmless. */
export async function recordingPart(
  sql: Sql,
  command: number,
  number: number,
  packed: Uint8Array,
  bytes: number,
): Promise<void> {
  await sql.query(
    `with part as (
       insert into gomote_recording_part (command_id, number, packed) values ($1, $2, $3) on conflict do nothing returning 1
     )
     update gomote_recording set bytes = bytes + $4 where command_id = $1 and exists (select from part)`,
    [command, number, packed, bytes],
  );
}

/** The parts of a recording of this instance, in order. Undefined: there is no recording. */
export async function recordingOf(sql: Sql, instance: number, command: number): Promise<Buffer[] | undefined> {
  const rows = await sql.query<{ packed: Buffer | null }>(
    `select p.packed from gomote_recording r join gomote_command c on c.id = r.command_id
       left join gomote_recording_part p on p.command_id = r.command_id
     where r.command_id = $1 and c.instance_id = $2 order by p.number`,
    [command, instance],
  );
  return rows.length === 0 ? undefined : rows.flatMap(({ packed }) => (packed === null ? [] : [packed]));
}

/**
 * Looks at the next recordings of shells that began before `before`, at most `limit`, fewer when they are long. Deletes
 * those of shells that had ended by then.
 */
export async function deleteRecordings(
  sql: Sql,
  from: number,
  before: EpochMs,
  limit: number,
): Promise<Walked<number>> {
  const [row] = await sql.query<{ next: number | null; deleted: number }>(
    `with looked as (
       select id, ended_at from (
         select c.id, c.started_at, c.ended_at, sum(r.bytes) over (order by r.command_id) - r.bytes as bytes_before
         from (select * from gomote_recording where command_id > $1 order by command_id limit $3) r join gomote_command c on c.id = r.command_id
       ) r where started_at < $2 and bytes_before < ${BYTES_AT_ONCE}
     ), gone as (
       delete from gomote_recording using looked where command_id = looked.id and looked.ended_at < $2 returning 1
     )
     select (select max(id) from looked) as next, (select count(*) from gone)::int as deleted`,
    [from, at(before), limit],
  );
  return { next: row?.next ?? undefined, deleted: row?.deleted ?? 0 };
}

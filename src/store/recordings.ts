/** Recordings of shells: parts of an asciicast, each compressed by itself, which one after another are the whole. */
import type { EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export async function recordingBegan(sql: Sql, command: number): Promise<void> {
  await sql.query("insert into gomote_recording (command_id) values ($1)", [command]);
}

/** Repeating one is harmless. */
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

/** The parts of a recording of this instance, in order. Undefined: there is none. */
export async function recordingOf(sql: Sql, instance: number, command: number): Promise<Buffer[] | undefined> {
  const rows = await sql.query<{ packed: Buffer | null }>(
    `select p.packed from gomote_recording r join gomote_command c on c.id = r.command_id
       left join gomote_recording_part p on p.command_id = r.command_id
     where r.command_id = $1 and c.instance_id = $2 order by p.number`,
    [command, instance],
  );
  return rows.length === 0 ? undefined : rows.flatMap(({ packed }) => (packed === null ? [] : [packed]));
}

/** Of shells that ended before `before`. */
export async function deleteRecordings(sql: Sql, before: EpochMs, limit: number): Promise<number> {
  const rows = await sql.query(
    `delete from gomote_recording where command_id in (
       select r.command_id from gomote_recording r join gomote_command c on c.id = r.command_id
       where c.ended_at < $1 order by r.command_id limit $2) returning 1`,
    [at(before), limit],
  );
  return rows.length;
}

/**
 * Logs in the database: chunks in order, and how far each log has come.
 *
 * A log has one writer. Its row says how many bytes and lines are stored, and the epoch of the lease whose driver
 * writes it. A chunk is accepted only where the last one ended, while the log is open, and from that epoch. So a
 * repeated write changes nothing, and a writer that was given up, or whose lease was adopted, can add nothing more.
 */
import { type EpochMs, type LogId, logId } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

export interface StoredChunk {
  /** The byte and line (the number of LF before it) that the chunk begins with. */
  readonly at: number;
  readonly line: number;
  /** The number of bytes when unpacked. */
  readonly length: number;
  /** True: `data` is one zstd frame. False: the bytes as they came. */
  readonly packed: boolean;
  readonly data: Buffer;
}

/** A chunk to be stored. `newLines` is how many LF it has. */
export interface NewChunk extends StoredChunk {
  readonly newLines: number;
}

export interface LogState {
  readonly length: number;
  readonly lines: number;
  readonly ended: boolean;
  readonly truncated: boolean;
  /** When the bytes were deleted because of their age. Null: they exist. */
  readonly droppedAt: number | null;
}

/** A log as its writer of `epoch` finds it. What is stored stays. */
export interface OpenLog {
  readonly id: LogId;
  readonly epoch: number;
  readonly length: number;
  readonly lines: number;
}

/** The state of a log that nothing was written to. */
export function emptyLog(id: LogId, epoch: number): OpenLog {
  return { id, epoch, length: 0, lines: 0 };
}

/** The end of a log, to be stored by `endLog` or within the statement that ends its step (store/attempts.ts). */
export interface LogEnd {
  readonly id: LogId;
  readonly epoch: number;
  /** The last bytes. Undefined when they are stored already. */
  readonly chunk: StoredChunk | undefined;
  /** Length and LF count of the whole log, `chunk` included. */
  readonly length: number;
  readonly lines: number;
  readonly truncated: boolean;
}

export async function createLog(sql: Sql): Promise<LogId> {
  const [row] = await sql.query<{ id: number }>("insert into log default values returning id");
  return logId(row?.id ?? 0);
}

/** How a log stands. Undefined: there is no such log. */
export async function logState(sql: Sql, id: LogId): Promise<LogState | undefined> {
  const [row] = await sql.query<LogState>(
    `select length, lines, ended, truncated, dropped_at as "droppedAt" from log where id = $1`,
    [id],
  );
  return row;
}

/** How many chunks one statement takes. */
export const APPEND_AT_ONCE = 4;

/** Stores the next chunks, one after the other without a gap. False: the log was ended, or another driver writes it. */
export async function appendChunks(
  sql: Sql,
  { id, epoch }: Pick<OpenLog, "id" | "epoch">,
  chunks: readonly NewChunk[],
): Promise<boolean> {
  const [first] = chunks;
  const last = chunks.at(-1);
  if (!first || !last) return true;
  const values = chunks.flatMap((chunk) => [chunk.at, chunk.line, chunk.length, chunk.packed, chunk.data]);
  const params = [id, first.at, last.at + last.length, last.line + last.newLines, epoch, ...values];
  const append = async (): Promise<boolean> => {
    const [row] = await sql.query<{ stored: boolean }>(APPEND[chunks.length] ?? "", params);
    return row?.stored ?? false;
  };
  // An earlier try of this call, whose connection broke, may have stored them while this one waited for it. Only a
  // statement that begins after that sees it.
  return (await append()) || (await append());
}

/** One text per number of chunks, since an array of bytea would travel as hexadecimal. */
const APPEND: readonly string[] = Array.from({ length: APPEND_AT_ONCE + 1 }, (_, count) => {
  const rows = Array.from({ length: count }, (_, i) => {
    const [at, line, length, packed, data] = [6, 7, 8, 9, 10].map((n) => `$${n + 5 * i}`);
    return `(${at}::bigint, ${line}::bigint, ${length}::integer, ${packed}::boolean, ${data}::bytea)`;
  });
  return `with l as (
       update log set length = $3, lines = $4 where id = $1 and length = $2 and epoch = $5 and not ended returning id
     ), c as (
       insert into log_chunk (log_id, at, line, length, packed, data)
       select l.id, n.* from l, (values ${rows.join(", ")}) n returning at
     )
     select exists (select from c) or exists (
       select from log_chunk join log on log.id = log_id where log_id = $1 and at + log_chunk.length = $3 and at >= $2 and epoch = $5
     ) as stored`;
});

/** Stores the last bytes and the end, unless the log was ended before or another driver writes it. */
export async function endLog(sql: Sql, end: LogEnd): Promise<void> {
  await sql.query(...statement`with ${logEnded(end)} select`);
}

const ALWAYS = part`true`;

/**
 * The same as endLog() as common table expressions, for statements that end more than a log. They act only while
 * `condition` holds, and store nothing for undefined.
 */
export function logEnded(end: LogEnd | undefined, condition: Part = ALWAYS): Part {
  const { id = null, epoch = 0, length = 0, lines = 0, truncated = false, chunk } = end ?? {};
  const { at = null, line = null, length: bytes = null, packed = null, data = null } = chunk ?? {};
  return part`log_ended as (
    update log set length = ${length}, lines = ${lines}, truncated = ${truncated}, ended = true
    where id = ${id} and epoch = ${epoch} and not ended and ${condition} returning id
  ), last_chunk as (
    insert into log_chunk (log_id, at, line, length, packed, data)
    select id, last.* from log_ended, (select ${at}::bigint, ${line}::bigint, ${bytes}::integer, ${packed}::boolean, ${data}::bytea as data) last
    where last.data is not null
    on conflict do nothing
  )`;
}

/**
 * Ends the logs of what ended before `before`, as they are, since nobody was left to do so. Returns them. The log of an
 * attempt's tests stays open while other machines work on them, since it may get their last lines (test-lines.ts).
 */
export async function endLeftLogs(sql: Sql, before: EpochMs): Promise<LogId[]> {
  const rows = await sql.query<{ id: number }>(
    `update log set ended = true where not ended and id in (
       select log.id from log join step s on s.log_id = log.id join attempt a on a.id = s.attempt_id join build b on b.id = a.build_id
       where not log.ended and case when s.name = 'tests' then b.ended_at else a.ended_at end < $1
       union all
       select log.id from log join test_group g on g.log_id = log.id join build b on b.id = g.build_id
       where not log.ended and b.ended_at < $1
     ) returning id`,
    [at(before)],
  );
  return rows.map((row) => logId(row.id));
}

/** Where the chunks that hold bytes of [from, to) begin, at most `limit`, in order. */
export async function chunkStarts(
  sql: Sql,
  id: LogId,
  from: number,
  to: number,
  limit: number,
): Promise<{ at: number; length: number }[]> {
  return sql.query(
    `select at, length from log_chunk
     where log_id = $1 and at < $3
       and at >= coalesce((select at from log_chunk where log_id = $1 and at <= $2 order by at desc limit 1), 0)
     order by at limit $4`,
    [id, from, to, limit],
  );
}

export async function readChunk(sql: Sql, id: LogId, at: number): Promise<StoredChunk | undefined> {
  const [row] = await sql.query<StoredChunk>(
    "select at, line, length, packed, data from log_chunk where log_id = $1 and at = $2",
    [id, at],
  );
  return row;
}

/** The chunk that holds the `line`th LF (1 is the first), as far as the log has one. */
export async function chunkOfLine(
  sql: Sql,
  id: LogId,
  line: number,
): Promise<{ at: number; line: number } | undefined> {
  const [row] = await sql.query<{ at: number; line: number }>(
    "select at, line from log_chunk where log_id = $1 and line < $2 order by line desc, at desc limit 1",
    [id, line],
  );
  return row;
}

/** The chunk that holds the byte at `offset`. */
export async function chunkOfByte(
  sql: Sql,
  id: LogId,
  offset: number,
): Promise<{ at: number; line: number } | undefined> {
  const [row] = await sql.query<{ at: number; line: number }>(
    "select at, line from log_chunk where log_id = $1 and at <= $2 order by at desc limit 1",
    [id, offset],
  );
  return row;
}

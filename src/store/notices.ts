/**
 * Messages on their way. A message is written in the transaction of the change that it reports, and sent by any
 * coordinator that takes it.
 *
 *   waiting -taken-> waiting, not before HOLD has passed -sent-> sent
 *                    -failed-> waiting, later, or dead after the last try
 *
 * If a coordinator dies while it sends, the message is sent again. A message is therefore sent at least once, and
 * always under the same id.
 */
import { type EpochMs, type Ms, plus } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

export interface NewNotice {
  readonly recipient: string;
  readonly message: unknown;
}

export async function insertNotices(tx: Sql, notices: readonly NewNotice[], now: EpochMs): Promise<void> {
  if (notices.length === 0) return;
  await tx.query(
    `insert into notice (at, recipient, message, next_at)
     select $2::timestamptz, g.recipient, g.message, $2::timestamptz from jsonb_to_recordset($1::jsonb) as g (recipient text, message jsonb)`,
    [JSON.stringify(notices), at(now)],
  );
}

export interface TakenNotice<M> {
  readonly id: number;
  readonly recipient: string;
  readonly message: M;
  /** The number of tries, including this one. */
  readonly tries: number;
}

/** Takes up to `limit` messages that are due. Nobody else takes them for `hold`. */
export async function takeNotices<M>(sql: Sql, limit: number, hold: Ms, now: EpochMs): Promise<TakenNotice<M>[]> {
  return sql.query(
    `update notice set tries = tries + 1, next_at = $3
     where id in (select id from notice where state = 'waiting' and next_at <= $2 order by next_at, id limit $1 for update skip locked)
     returning id, recipient, message, tries`,
    [limit, at(now), at(plus(now, hold))],
  );
}

export async function noticeSent(sql: Sql, id: number, now: EpochMs): Promise<void> {
  await sql.query("update notice set state = 'sent', sent_at = $2, error = null where id = $1 and state = 'waiting'", [
    id,
    at(now),
  ]);
}

/** `again` is when the message is tried once more. Null: it is given up. */
export async function noticeFailed(
  sql: Sql,
  id: number,
  error: string,
  again: EpochMs | null,
  now: EpochMs,
): Promise<void> {
  await sql.query(
    `update notice set error = $2, next_at = coalesce($3, next_at), state = case when $3::timestamptz is null then 'dead' else state end,
       sent_at = case when $3::timestamptz is null then $4::timestamptz end
     where id = $1 and state = 'waiting'`,
    [id, error, at(again), at(now)],
  );
}

export interface UndeliveredNotice {
  readonly id: number;
  readonly at: EpochMs;
  readonly recipient: string;
  readonly title: string;
  /** Why the last try failed. */
  readonly error: string;
  /** When the message is tried once more. Null: it was given up. */
  readonly againAt: EpochMs | null;
}

/** Messages that failed and are tried at least a second time, and those written since `since` that were given up; newest first. */
export async function undeliveredNotices(sql: Sql, since: EpochMs, limit: number): Promise<UndeliveredNotice[]> {
  return sql.query(
    `select id, at, recipient, message ->> 'title' as title, coalesce(error, '') as error,
       case when state = 'waiting' then next_at end as "againAt"
     from notice where state = 'dead' and at >= $1 or state = 'waiting' and tries > 1 and error is not null
     order by at desc, id desc limit $2`,
    [at(since), limit],
  );
}

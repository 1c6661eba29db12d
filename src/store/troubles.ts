/**
 * What may be wrong with the farm, as far as the database shows it, and the troubles that are written down
 * (notices/trouble.ts handles them).
 */
import { type EpochMs, epochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/** Lets one coordinator at a time look, in a transaction. False: another one does. */
export async function mayLook(tx: Sql): Promise<boolean> {
  const [row] = await tx.query<{ mine: boolean }>("select pg_try_advisory_xact_lock(7262001) as mine");
  return row?.mine ?? false;
}

/** How many machines of a host type should be connected, and how many are. */
export interface Expected {
  readonly hostType: string;
  readonly expect: number;
  readonly connected: number;
  /**
   * The machines that are away, the one that was seen last first: as many as are missing, fewer when others never
   * connected.
   */
  readonly away: readonly {
    readonly id: number;
    readonly name: string;
    readonly since: EpochMs;
    readonly reason: string | null;
  }[];
}

/**
 * What is expected of each configured host type. Nothing is expected while the host type or the whole farm is drained.
 * A machine that is drained and away is not expected; other machines that have connected before are, in its place.
 */
export async function expectedMachines(sql: Sql): Promise<Expected[]> {
  return sql.query(
    `with open as (
       select distinct s.machine_id from session s join coordinator c on c.id = s.coordinator_id and c.ended_at is null where s.closed_at is null
     ), here as (
       select t.name, count(o.machine_id)::integer as connected,
         case when t.drained_at is not null or exists (select from farm where drained_at is not null) then 0
           else least(t.expect, greatest(t.expect, count(m.id)) - count(m.id) filter (where o.machine_id is null and m.drained_at is not null))
         end::integer as expect
       from host_type t left join machine m on m.host_type = t.name left join open o on o.machine_id = m.id
       where t.configured group by t.name
     )
     select h.name as "hostType", h.expect, h.connected, coalesce(a.away, '[]') as away
     from here h cross join lateral (
       select jsonb_agg(jsonb_build_object('id', id, 'name', name, 'reason', reason,
         'since', floor(extract(epoch from last_seen_at) * 1000)) order by last_seen_at desc, id) as away
       from (
         select m.id, m.name, m.last_seen_at, (
           select close_reason from session where machine_id = m.id order by opened_at desc limit 1) as reason
         from machine m
         where m.host_type = h.name and m.drained_at is null and not exists (select from open o where o.machine_id = m.id)
         order by m.last_seen_at desc, m.id limit greatest(0, h.expect - h.connected)
       ) m
     ) a
     order by h.name`,
  );
}

/** Which of `machines` have an open session. */
export async function connectedAmong(sql: Sql, machines: readonly number[]): Promise<Set<number>> {
  const rows = await sql.query<{ id: number }>(
    `select distinct s.machine_id as id from session s join coordinator c on c.id = s.coordinator_id and c.ended_at is null
     where s.closed_at is null and s.machine_id = any ($1::bigint[])`,
    [machines],
  );
  return new Set(rows.map((row) => row.id));
}

export interface AsideMachine {
  readonly id: number;
  readonly hostType: string;
  readonly name: string;
  readonly since: EpochMs;
  readonly until: EpochMs;
  readonly reason: string;
  readonly probeError: string | null;
}

/** Machines that are set aside, the latest first. */
export async function machinesSetAside(sql: Sql): Promise<AsideMachine[]> {
  return sql.query(
    `select id, host_type as "hostType", name, set_aside_at as since, set_aside_until as until,
       coalesce(set_aside_reason, '') as reason, probe_error as "probeError"
     from machine where set_aside_at is not null order by set_aside_at desc, id`,
  );
}

export interface RepoError {
  readonly name: string;
  readonly error: string;
  readonly since: EpochMs;
}

export async function repoErrors(sql: Sql): Promise<RepoError[]> {
  return sql.query(
    "select name, error, error_since as since from repo where error is not null and error_since is not null order by name",
  );
}

export interface ExpiringKey {
  readonly id: string;
  readonly hostType: string;
  readonly machine: string;
  readonly expiresAt: EpochMs;
}

/** Keys in use that expire between `now` and `before`, unless the machine has a later one already. */
export async function expiringKeys(sql: Sql, now: EpochMs, before: EpochMs): Promise<ExpiringKey[]> {
  return sql.query(
    `select k.id, k.host_type as "hostType", k.machine, k.expires_at as "expiresAt" from machine_key k
     where k.expires_at > $1 and k.expires_at <= $2 and k.revoked_at is null and k.last_used_at is not null and not exists (
       select from machine_key later where later.host_type = k.host_type and later.machine = k.machine and later.revoked_at is null
         and (later.expires_at is null or later.expires_at > k.expires_at))
     order by k.expires_at, k.id`,
    [at(now), at(before)],
  );
}

export interface TroubleRow {
  readonly kind: string;
  readonly subject: string;
  readonly since: EpochMs;
  readonly about: unknown;
}
export interface KnownRow extends TroubleRow {
  readonly noticedAt: EpochMs;
  readonly toldAt: EpochMs | null;
  readonly wellAt: EpochMs | null;
}

export async function knownTroubles<T extends KnownRow>(sql: Sql): Promise<T[]> {
  return sql.query<T>(
    `select kind, subject, since, about, noticed_at as "noticedAt", told_at as "toldAt", well_at as "wellAt"
     from trouble order by noticed_at, kind, subject`,
  );
}

type Key = Pick<TroubleRow, "kind" | "subject">;

const KEYS = `jsonb_to_recordset($1::jsonb) as g (kind text, subject text)`;

export async function noticeTroubles(tx: Sql, troubles: readonly TroubleRow[], now: EpochMs): Promise<void> {
  if (troubles.length === 0) return;
  await tx.query(
    `insert into trouble (kind, subject, since, noticed_at, about)
     select g.kind, g.subject, to_timestamp(g.since / 1000.0), $2, g.about
     from jsonb_to_recordset($1::jsonb) as g (kind text, subject text, since float8, about jsonb) on conflict do nothing`,
    [JSON.stringify(troubles.map(({ kind, subject, since, about }) => ({ kind, subject, since, about }))), at(now)],
  );
}

/** Notes that people were told of these troubles. */
export async function troublesTold(tx: Sql, troubles: readonly Key[], now: EpochMs): Promise<void> {
  if (troubles.length === 0) return;
  await tx.query(`update trouble t set told_at = $2 from ${KEYS} where t.kind = g.kind and t.subject = g.subject`, [
    JSON.stringify(troubles.map(({ kind, subject }) => ({ kind, subject }))),
    at(now),
  ]);
}

export async function troublesWell(tx: Sql, troubles: readonly Key[], wellAt: EpochMs | null): Promise<void> {
  if (troubles.length === 0) return;
  await tx.query(`update trouble t set well_at = $2 from ${KEYS} where t.kind = g.kind and t.subject = g.subject`, [
    JSON.stringify(troubles.map(({ kind, subject }) => ({ kind, subject }))),
    at(wellAt),
  ]);
}

export async function forgetTroubles(tx: Sql, troubles: readonly Key[]): Promise<void> {
  if (troubles.length === 0) return;
  await tx.query(`delete from trouble t using ${KEYS} where t.kind = g.kind and t.subject = g.subject`, [
    JSON.stringify(troubles.map(({ kind, subject }) => ({ kind, subject }))),
  ]);
}

/** When people were told that a machine is missing, by machine. Machines that nobody was told about are left out. */
export async function toldMissing(sql: Sql): Promise<{ machine: number; toldAt: EpochMs }[]> {
  const rows = await sql.query<{ subject: string; toldAt: number }>(
    `select subject, told_at as "toldAt" from trouble where kind = 'missing' and told_at is not null`,
  );
  return rows.map(({ subject, toldAt }) => ({
    machine: Number(subject.slice("machine:".length)),
    toldAt: epochMs(toldAt),
  }));
}

/** Reading for pages: the list of machines, and one machine with its history. */
import type { Outcome, Trust } from "../farm/build.ts";
import { DRAINED_BY, type DrainedBy } from "./drain.ts";
import { at, type Sql } from "./sql.ts";

/** SQL for the DrainedBy of the row `d` (DRAINED_BY). */
const DRAIN = `case when d.what is not null then
  jsonb_build_object('what', d.what, 'at', floor(extract(epoch from d.at) * 1000), 'note', d.note) end`;

type Instant = Parameters<typeof at>[0];

export interface MachineRow {
  readonly id: number;
  readonly hostType: string;
  readonly name: string;
  readonly owner: string | null;
  readonly trust: Trust;
  readonly lastSeenAt: number;
  readonly drain: DrainedBy | null;
  /** Why the machine is set aside. Null: it is not. */
  readonly setAside: string | null;
  readonly open: boolean;
  readonly build: number | null;
  readonly builder: string | null;
  /** What the machine's lease is for. Null: it holds none. */
  readonly held: string | null;
  /** The name of the instance, if a person has the machine to themselves. */
  readonly instance: string | null;
  readonly closeReason: string | null;
}

/** One page of the list. `like` filters name, host type and owner. Connected machines come first. */
export async function machinesPage(sql: Sql, like: string, limit: number, offset: number): Promise<MachineRow[]> {
  return sql.query(
    `select m.id, m.host_type as "hostType", m.name, m.owner, t.trust, m.last_seen_at as "lastSeenAt",
       ${DRAIN} as drain, case when m.set_aside_at is not null then coalesce(m.set_aside_reason, '') end as "setAside",
       s.id is not null as open, b.id as build, b.builder, h.kind as held, g.name as instance,
       case when s.id is null then (
         select close_reason from session where machine_id = m.id order by opened_at desc limit 1) end as "closeReason"
     from (
       select m.*, o.id as open_session, o.coordinator_id
       from machine m left join lateral (
         select s.id, s.coordinator_id from session s join coordinator c on c.id = s.coordinator_id and c.ended_at is null
         where s.machine_id = m.id and s.closed_at is null order by s.opened_at desc limit 1
       ) o on true
       where $1 = '' or m.name ilike $1 or m.host_type ilike $1 or m.owner ilike $1
       order by o.id is null, m.host_type, m.name limit $2 offset $3
     ) m
       join host_type t on t.name = m.host_type
       left join coordinator o on o.id = m.coordinator_id
       left join ${DRAINED_BY} on true
       left join session s on s.id = m.open_session
       left join lease h on h.session_id = s.id and h.state = 'held'
       left join attempt a on a.lease_id = h.id
       left join build b on b.id = a.build_id
       left join gomote_instance g on g.lease_id = h.id
     order by m.open_session is null, m.host_type, m.name`,
    [like, limit, offset],
  );
}

export async function countMachines(sql: Sql, like: string): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `select count(*)::int as count from machine where $1 = '' or name ilike $1 or host_type ilike $1 or owner ilike $1`,
    [like],
  );
  return row?.count ?? 0;
}

/**
 * For each machine, `spans` marks of `spanMs` each, the last ending at `now`: `b` it held a lease, `i` it was
 * connected, `a` it was away. A machine's sessions follow one another, so the last one that opened before the end of a
 * span decides.
 */
export async function machineStrips(
  sql: Sql,
  ids: readonly number[],
  now: number,
  spans: number,
  spanMs: number,
): Promise<{ id: number; strip: string }[]> {
  return sql.query(
    `select m.id, string_agg(
       case
         when exists (
           select from lease l where l.machine_id = m.id and l.held_at < h.upto and l.held_at > h.since - interval '1 day'
             and coalesce(l.ended_at, $2) > h.since
         ) then 'b'
         when (
           select coalesce(s.closed_at, $2) > h.since from session s
           where s.machine_id = m.id and s.opened_at < h.upto order by s.opened_at desc limit 1
         ) then 'i'
         when m.first_seen_at >= h.upto then 'n'
         else 'a'
       end, '' order by h.since) as strip
     from machine m
     cross join (
       select $2::timestamptz - (n + 1) * make_interval(secs => $4::float8 / 1000) as since,
         $2::timestamptz - n * make_interval(secs => $4::float8 / 1000) as upto
       from generate_series(0, $3::int - 1) n
     ) h
     where m.id = any ($1::bigint[])
     group by m.id`,
    [ids, at(now as Instant), spans, spanMs],
  );
}

export interface MachineDetail {
  readonly id: number;
  readonly hostType: string;
  readonly name: string;
  readonly owner: string | null;
  readonly trust: Trust;
  readonly agent: string;
  readonly version: number;
  readonly agentDigest: string | null;
  readonly platform: string | null;
  readonly address: string;
  readonly firstSeenAt: number;
  readonly lastSeenAt: number;
  readonly drain: DrainedBy | null;
  /** The machine has an open session on a living coordinator. */
  readonly open: boolean;
  /** What the lease of that session is for. Null: it holds none. */
  readonly held: string | null;
  /** The name of the instance, if a person has the machine to themselves and it is connected. */
  readonly instance: string | null;
  readonly setAsideAt: number | null;
  readonly setAsideUntil: number | null;
  readonly setAsideReason: string | null;
  readonly probedAt: number | null;
  readonly probeError: string | null;
  /** When somebody was told that the machine is missing. Null: nobody was, or it is not missing. */
  readonly toldAt: number | null;
  readonly keyId: string | null;
  readonly keyMadeAt: number | null;
  readonly keyExpiresAt: number | null;
  readonly keyRevokedAt: number | null;
}

/** All machines of that name. A name is unique within a host type. */
export async function machinesNamed(sql: Sql, name: string): Promise<MachineDetail[]> {
  return sql.query(
    `select m.id, m.host_type as "hostType", m.name, m.owner, t.trust, m.agent, m.version, m.agent_digest as "agentDigest", m.platform,
       m.address, m.first_seen_at as "firstSeenAt", m.last_seen_at as "lastSeenAt",
       ${DRAIN} as drain, o.id is not null as open, h.kind as held, g.name as instance,
       m.set_aside_at as "setAsideAt", m.set_aside_until as "setAsideUntil", m.set_aside_reason as "setAsideReason",
       m.probed_at as "probedAt", m.probe_error as "probeError",
       (select told_at from trouble
        where kind = 'missing' and subject = 'machine:' || m.id and well_at is null) as "toldAt",
       k.id as "keyId", k.made_at as "keyMadeAt", k.expires_at as "keyExpiresAt", k.revoked_at as "keyRevokedAt"
     from machine m join host_type t on t.name = m.host_type left join machine_key k on k.id = m.key_id
       left join lateral (
         select c.*, s.id as open_session from session s join coordinator c on c.id = s.coordinator_id and c.ended_at is null
         where s.machine_id = m.id and s.closed_at is null order by s.opened_at desc limit 1
       ) o on true
       left join ${DRAINED_BY} on true
       left join lease h on h.session_id = o.open_session and h.state = 'held'
       left join gomote_instance g on g.lease_id = h.id
     where m.name = $1 order by m.last_seen_at desc`,
    [name],
  );
}

export async function machineSessions(
  sql: Sql,
  machine: number,
  limit: number,
): Promise<
  { id: string; address: string; openedAt: number; closedAt: number | null; reason: string | null; builds: number }[]
> {
  return sql.query(
    `select s.id, s.address, s.opened_at as "openedAt", s.closed_at as "closedAt", s.close_reason as reason,
       (select count(*)::int from lease l
        where l.machine_id = $1 and l.session_id = s.id and l.held_at >= s.opened_at and l.kind in ('build', 'helper')) as builds
     from session s where s.machine_id = $1 order by s.opened_at desc limit $2`,
    [machine, limit],
  );
}

/** A build that a machine was given: one attempt, whatever happened to its build later. */
export interface MachineAttemptRow {
  readonly id: number;
  readonly build: number;
  readonly number: number;
  readonly repo: string;
  readonly builder: string;
  readonly hash: string;
  readonly message: string;
  readonly outcome: Outcome | null;
  readonly reason: string | null;
  /** The step that failed. */
  readonly step: string | null;
  /** The machine caused the attempt's end. */
  readonly machineFault: boolean;
  readonly startedAt: number | null;
  readonly endedAt: number;
  readonly flaky: number;
}

/** The machine's attempts that have ended, newest first. */
export async function machineAttempts(sql: Sql, machine: number, limit: number): Promise<MachineAttemptRow[]> {
  return sql.query(
    `select a.id, a.build_id as build, a.number, b.repo, b.builder, c.hash, c.message, a.outcome, a.reason,
       case when a.outcome = 'failure' then b.failed_step end as step, a.machine_fault as "machineFault",
       a.started_at as "startedAt", a.ended_at as "endedAt",
       case when a.outcome = 'success' then coalesce(r.flaky, 0) else 0 end as flaky
     from (
       select * from attempt where machine_id = $1 and state = 'ended' order by id desc limit $2
     ) a join build b on b.id = a.build_id join commit c on c.id = b.commit_id left join test_run r on r.build_id = b.id
     order by a.ended_at desc, a.id desc`,
    [machine, limit],
  );
}

export async function machineChanges(
  sql: Sql,
  machine: number,
  limit: number,
): Promise<{ at: number; field: string; was: string | null; became: string | null }[]> {
  return sql.query(
    `select at, field, was, became from machine_change where machine_id = $1 order by at desc limit $2`,
    [machine, limit],
  );
}

/**
 * A machine's last 100 attempts: how many ended by infrastructure, and the median of those that succeeded.
 *
 * Builders differ more than machines do. So a machine is compared with others builder by builder, where both have
 * built, and the median of these ratios counts. Null when either side has fewer than 5 successes.
 */
export async function machineCompared(
  sql: Sql,
  machine: number,
  hostType: string,
): Promise<{ builds: number; infra: number; medianMs: number | null; ratio: number | null }> {
  const [row] = await sql.query<{ builds: number; infra: number; medianMs: number | null; ratio: number | null }>(
    `with mine as (
       select a.outcome, extract(epoch from a.ended_at - a.started_at) * 1000 as took, b.repo, b.builder
       from (select * from attempt where machine_id = $1 and state = 'ended' order by id desc limit 100) a join build b on b.id = a.build_id
     ), theirs as (
       select extract(epoch from a.ended_at - a.started_at) * 1000 as took, b.repo, b.builder
       from (select id from machine where host_type = $2 and id <> $1 order by last_seen_at desc limit 10) m
       cross join lateral (
         select build_id, outcome, started_at, ended_at from attempt
         where machine_id = m.id and state = 'ended' order by id desc limit 30
       ) a
       join build b on b.id = a.build_id
       where a.outcome = 'success'
     ), both_sides as (
       select m.took / nullif(t.took, 0) as ratio, m.builds as here, t.builds as there
       from (
         select repo, builder, count(*) as builds, percentile_cont(0.5) within group (order by took) as took
         from mine where outcome = 'success' group by repo, builder
       ) m join (
         select repo, builder, count(*) as builds, percentile_cont(0.5) within group (order by took) as took
         from theirs group by repo, builder
       ) t using (repo, builder)
     )
     select (select count(*)::int from mine) as builds, (select count(*)::int from mine where outcome = 'infra_failure') as infra,
       (select percentile_cont(0.5) within group (order by took)::float8 from mine where outcome = 'success') as "medianMs",
       (select case when sum(here) >= 5 and sum(there) >= 5 then percentile_cont(0.5) within group (order by ratio)::float8 end
        from both_sides) as ratio`,
    [machine, hostType],
  );
  return row ?? { builds: 0, infra: 0, medianMs: null, ratio: null };
}

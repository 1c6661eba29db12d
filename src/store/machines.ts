/**
 * Machines and their sessions in the database. Registrations and ends come in bursts (thousands redial at once after a
 * restart), so these statements take many at a time.
 */
import type { Trust } from "../farm/build.ts";
import {
  type CoordinatorId,
  type EpochMs,
  type MachineId,
  type Ms,
  machineId,
  type SessionId,
  sessionId,
} from "../farm/ids.ts";
import { type Gomote, isLent } from "../farm/lending.ts";
import { at, type Sql } from "./sql.ts";

/** What is known of a machine when it has registered. */
export interface Registered {
  readonly session: SessionId;
  readonly hostType: string;
  readonly name: string;
  readonly owner: string | null;
  /** Null: the machine used the shared key of its host type. */
  readonly keyId: string | null;
  readonly agent: "barnraiser" | "original";
  readonly version: number;
  readonly digest: string | null;
  readonly platform: string | null;
  /** The agent process, if its commands outlive connections. */
  readonly instance: string | null;
  readonly ip: string;
  /** `ip:port` */
  readonly address: string;
}

/** What the database knows about a session that registers. */
export interface Known {
  readonly machine: MachineId;
  /** The agent process holds a lease from before. */
  readonly holds: boolean;
  /** What the agent process ran was ended while it was away, and may still run. */
  readonly unneeded: boolean;
}

const REGISTER = `
with given as (
  select * from jsonb_to_recordset($1::jsonb) as g (
    at integer, session text, "hostType" text, name text, owner text, "keyId" text, agent text, version integer,
    digest text, platform text, instance text, ip text, address text)
), types as (
  insert into host_type (name, trust, expect, configured)
  select distinct "hostType", 'community', 0, false from given
  on conflict (name) do nothing
), one as (
  select distinct on ("hostType", name) * from given order by "hostType", name, at desc
), before as (
  select m.id, m.host_type, m.name, m.agent, m.version, m.agent_digest, m.platform, m.address
  from machine m join one on one."hostType" = m.host_type and one.name = m.name
), changed as (
  insert into machine_change (machine_id, at, field, was, became)
  select before.id, $3, f.field, f.was, f.became
  from before join one on one."hostType" = before.host_type and one.name = before.name
  cross join lateral (values
    ('agent', before.agent, one.agent),
    ('version', before.version::text, one.version::text),
    ('agent_digest', before.agent_digest, one.digest),
    ('platform', before.platform, one.platform),
    ('address', before.address, one.ip)
  ) as f (field, was, became)
  where f.was is distinct from f.became
), now_known as (
  insert into machine (host_type, name, owner, key_id, first_seen_at, last_seen_at, agent, version, agent_digest, platform, address)
  select "hostType", name, owner, "keyId", $3, $3, agent, version, digest, platform, ip from one
  on conflict (host_type, name) do update set
    owner = excluded.owner, key_id = excluded.key_id, last_seen_at = greatest(machine.last_seen_at, excluded.last_seen_at),
    agent = excluded.agent, version = excluded.version, agent_digest = excluded.agent_digest, platform = excluded.platform,
    address = excluded.address
  returning id, host_type, name
), opened as (
  insert into session (id, machine_id, coordinator_id, address, opened_at, instance)
  select given.session, now_known.id, $2, given.address, $3, given.instance
  from given join now_known on now_known.host_type = given."hostType" and now_known.name = given.name
  on conflict (id) do nothing
), superseded as (
  update session set closed_at = $3, close_reason = 'the machine came back over a new connection'
  from given join now_known on now_known.host_type = given."hostType" and now_known.name = given.name
  where session.machine_id = now_known.id and session.instance = given.instance and session.closed_at is null
    and session.opened_at <= $3 and session.id <> given.session
)
select given.session, now_known.id as machine, exists (
  select from lease l where l.instance = given.instance and l.state = 'held' and l.machine_id = now_known.id
) as holds, coalesce((
  select l.instance = given.instance and l.state = 'ended' and s.closed_at <= l.ended_at
  from lease l join session s on s.id = l.session_id where l.machine_id = now_known.id order by l.held_at desc limit 1
), false) as unneeded
from given join now_known on now_known.host_type = given."hostType" and now_known.name = given.name`;

/**
 * Inserts machine and session rows for all of `given`, a note of what changed since a machine was last here, and a row
 * for each host type that the configuration does not have. Returns each session's machine, and what is known of its
 * agent process.
 *
 * An agent process has one connection at a time: its earlier sessions are closed, at any coordinator.
 */
export async function registerSessions(
  sql: Sql,
  coordinator: CoordinatorId,
  given: readonly Registered[],
  now: EpochMs,
): Promise<Map<SessionId, Known>> {
  const body = JSON.stringify(given.map((one, index) => ({ ...one, at: index })));
  const rows = await sql.query<Omit<Known, "machine"> & { session: string; machine: number }>(REGISTER, [
    body,
    coordinator,
    at(now),
  ]);
  return new Map(
    rows.map(({ session, machine, ...known }) => [sessionId(session), { ...known, machine: machineId(machine) }]),
  );
}

export interface ClosedSession {
  readonly session: SessionId;
  readonly closedAt: EpochMs;
  /** The reason in words for the owner of the machine. */
  readonly reason: string;
}

export async function closeSessions(sql: Sql, closed: readonly ClosedSession[]): Promise<void> {
  await sql.query(
    `with given as (
       select session, to_timestamp(closed / 1000.0) as closed, reason
       from jsonb_to_recordset($1::jsonb) as g (session text, closed bigint, reason text)
     ), done as (
       update session set closed_at = given.closed, close_reason = given.reason
       from given where session.id = given.session and session.closed_at is null
       returning session.machine_id, session.closed_at
     )
     update machine set last_seen_at = greatest(machine.last_seen_at, done.closed_at)
     from (select machine_id, max(closed_at) as closed_at from done group by machine_id) done
     where machine.id = done.machine_id`,
    [JSON.stringify(closed.map((one) => ({ session: one.session, closed: one.closedAt, reason: one.reason })))],
  );
}

/**
 * Closes sessions that earlier coordinators left open: those of coordinators that ended, and with `alone` (no other
 * coordinator can use this database) all others. Such a session counts as closed when its coordinator was last seen.
 */
export async function closeLeftSessions(sql: Sql, self: CoordinatorId, alone: boolean, now: EpochMs): Promise<void> {
  await sql.query(
    `with done as (
       update session set
         closed_at = least($3, greatest(session.opened_at, coordinator.seen_at)),
         close_reason = 'the coordinator ended'
       from coordinator
       where coordinator.id = session.coordinator_id and session.closed_at is null
         and coordinator.id <> $1 and ($2 or coordinator.ended_at is not null)
       returning session.machine_id, session.closed_at
     )
     update machine set last_seen_at = greatest(machine.last_seen_at, done.closed_at)
     from (select machine_id, max(closed_at) as closed_at from done group by machine_id) done
     where machine.id = done.machine_id`,
    [self, alone, at(now)],
  );
}

export interface HostTypeRow {
  readonly hostType: string;
  readonly trust: Trust;
  readonly expect: number;
  readonly gomote: Gomote;
  readonly lend: { readonly gomote: boolean };
  readonly reconnectMs: Ms;
}

/** Brings host types in step with the configuration. Those that it does not have any more stay, as not configured. */
export async function configureHostTypes(sql: Sql, hosts: readonly HostTypeRow[]): Promise<void> {
  await sql.query(
    `with given as (
       select * from jsonb_to_recordset($1::jsonb) as g ("hostType" text, trust text, expect integer, "gomoteLent" boolean, "reconnectMs" integer)
     ), others as (
       update host_type set configured = false, expect = 0, trust = 'community', gomote_lent = false
       where configured and name not in (select "hostType" from given)
     )
     insert into host_type (name, trust, expect, configured, gomote_lent, reconnect_ms)
     select "hostType", trust, expect, true, "gomoteLent", "reconnectMs" from given
     on conflict (name) do update set
       trust = excluded.trust, expect = excluded.expect, configured = true, gomote_lent = excluded.gomote_lent,
       reconnect_ms = excluded.reconnect_ms`,
    [JSON.stringify(hosts.map((host) => ({ ...host, gomoteLent: isLent(host) })))],
  );
}

/** What a change of drain affects, and so who must hear of it. */
export interface Drained {
  readonly hostType: string;
  readonly name: string;
}

/** Gives the machine no new work; its present work goes on to its end. Undefined: there is no such machine. */
export async function drainMachine(sql: Sql, id: MachineId, note: string, now: EpochMs): Promise<Drained | undefined> {
  const rows = await sql.query<Drained>(
    `update machine set drained_at = coalesce(drained_at, $2), drain_note = $3 where id = $1
     returning host_type as "hostType", name`,
    [id, at(now), note],
  );
  return rows[0];
}

export async function resumeMachine(sql: Sql, id: MachineId): Promise<Drained | undefined> {
  const rows = await sql.query<Drained>(
    `update machine set drained_at = null, drain_note = null where id = $1 returning host_type as "hostType", name`,
    [id],
  );
  return rows[0];
}

/** Gives machines of the host type no new work. False: there is no such host type. */
export async function drainHostType(sql: Sql, hostType: string, note: string, now: EpochMs): Promise<boolean> {
  const rows = await sql.query(
    "update host_type set drained_at = coalesce(drained_at, $2), drain_note = $3 where name = $1 returning name",
    [hostType, at(now), note],
  );
  return rows.length > 0;
}

export async function resumeHostType(sql: Sql, hostType: string): Promise<boolean> {
  const rows = await sql.query(
    "update host_type set drained_at = null, drain_note = null where name = $1 returning name",
    [hostType],
  );
  return rows.length > 0;
}

/**
 * Machines that began at least `sessions` sessions since `since`, on all coordinators. Sessions that the farm itself
 * ended do not count.
 */
export async function flappingMachines(
  sql: Sql,
  since: EpochMs,
  sessions: number,
): Promise<{ readonly hostType: string; readonly name: string; readonly sessions: number }[]> {
  return sql.query(
    `select m.host_type as "hostType", m.name, count(*)::int as sessions from session s join machine m on m.id = s.machine_id
     where s.opened_at >= $1 and coalesce(s.close_reason, '') !~ '^(served its build|sent to fetch|the coordinator ended|its coordinator ended)'
     group by m.id having count(*) >= $2 order by m.host_type, m.name`,
    [at(since), sessions],
  );
}

/** Machines with several open sessions, on all coordinators. */
export async function machinesConnectedTwice(
  sql: Sql,
): Promise<{ readonly hostType: string; readonly name: string; readonly sessions: number }[]> {
  return sql.query(
    `select m.host_type as "hostType", m.name, count(*)::int as sessions from session s
       join coordinator c on c.id = s.coordinator_id and c.ended_at is null
       join machine m on m.id = s.machine_id
     where s.closed_at is null group by m.id having count(*) > 1 order by m.host_type, m.name`,
  );
}

/**
 * Reading for pages: host types, connected machines, and what they do. A machine is connected while it has an open
 * session on a living coordinator.
 */
import type { Trust } from "../farm/build.ts";
import { DRAINED_BY } from "./drain.ts";
import type { Sql } from "./sql.ts";

export interface HostTypeRow {
  readonly name: string;
  readonly trust: Trust;
  readonly expect: number;
  readonly configured: boolean;
  readonly drainedAt: number | null;
  readonly drainNote: string | null;
  /** The number of machines that ever connected. */
  readonly known: number;
}

export async function hostTypes(sql: Sql): Promise<HostTypeRow[]> {
  return sql.query(
    `select t.name, t.trust, t.expect, t.configured, t.drained_at as "drainedAt", t.drain_note as "drainNote", coalesce(k.known, 0) as known
     from host_type t left join (select host_type, count(*)::int as known from machine group by host_type) k on k.host_type = t.name
     order by t.name`,
  );
}

export interface ConnectedRow {
  readonly session: string;
  readonly machineId: number;
  readonly name: string;
  readonly hostType: string;
  readonly address: string;
  readonly version: number;
  readonly openedAt: number;
  /** Drained by itself or with something that it belongs to. */
  readonly drained: boolean;
  readonly setAside: boolean;
  /** Since when the machine holds the lease. Null while it is idle. */
  readonly heldAt: number | null;
  /** When the machine gave its last lease back. Null: it had none in this session. */
  readonly freedAt: number | null;
  /** The build that the machine works for, by itself or as a helper. */
  readonly build: number | null;
  readonly repo: string | null;
  readonly builder: string | null;
  /** As a helper. */
  readonly helps: boolean;
  /** When the build began, which a helper may have joined later. */
  readonly startedAt: number | null;
  /** A person has the machine to themselves. */
  readonly lent: boolean;
}

/** All connected machines, or those of `hostType`, by host type and name. */
export async function connected(sql: Sql, hostType: string | null = null): Promise<ConnectedRow[]> {
  return sql.query(
    `select s.id as session, m.id as "machineId", m.name, m.host_type as "hostType", s.address, m.version, s.opened_at as "openedAt",
       d.what is not null as drained, m.set_aside_at is not null as "setAside", h.held_at as "heldAt", f.freed_at as "freedAt",
       b.id as build, b.repo, b.builder, p.lease_id is not null as helps, b.started_at as "startedAt",
       coalesce(h.kind = 'gomote', false) as lent
     from session s
       join coordinator o on o.id = s.coordinator_id and o.ended_at is null
       join machine m on m.id = s.machine_id
       join host_type t on t.name = m.host_type
       left join ${DRAINED_BY} on true
       left join lease h on h.session_id = s.id and h.state = 'held'
       left join attempt a on a.lease_id = h.id
       left join helper p on p.lease_id = h.id
       left join build b on b.id = coalesce(a.build_id, p.build_id)
       left join lateral (
         select l.ended_at as freed_at from lease l
         where h.id is null and l.machine_id = m.id and l.session_id = s.id order by l.held_at desc limit 1
       ) f on true
     where s.closed_at is null and ($1::text is null or m.host_type = $1)
     order by m.host_type, m.name, s.opened_at`,
    [hostType],
  );
}

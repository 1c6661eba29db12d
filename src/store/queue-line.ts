/**
 * The line before the machines of a host type: what waits there, in the order in which the claim will take it.
 *
 * The database returns of each lane (the work of one repository of one flow in one band) no more than could be among
 * the first `limit` of the line, found by jumping through the claim's own index. schedule/order.ts puts it in order. So
 * a line costs what is shown of it, not what waits.
 */
import type { Provenance } from "../farm/build.ts";
import type { BuildId, EpochMs, MachineId } from "../farm/ids.ts";
import type { LeaseKind } from "../farm/lease.ts";
import { line, type Share, type Taker, type Waiting } from "../schedule/order.ts";
import { lastOutOfTurn, leaseClass } from "./leases.ts";
import { at, type Sql } from "./sql.ts";

/** How many lanes of one queue are looked at. */
const LANES = 1000;

/** A lease that waits, and the build that it is for. */
export interface Queued extends Waiting {
  readonly queue: string;
  readonly wantedAt: EpochMs;
  readonly build: number | null;
  /** For a helper: the build whose tests it is for, and when that began. */
  readonly helps: number | null;
  readonly helpsFrom: EpochMs | null;
  /** Of the build that it is, or helps. */
  readonly builder: string | null;
  /** For a lease of a person: the name of the instance, and the type that they asked for. */
  readonly instance: string | null;
  readonly instanceType: string | null;
}

interface QueuedRow {
  queue: string;
  id: number;
  kind: LeaseKind;
  class: number;
  release: boolean;
  flow: string;
  repo: string;
  rank: number;
  provenance: Provenance;
  starvesAt: EpochMs;
  avoid: MachineId[];
  avoidUntil: EpochMs | null;
  wantedAt: EpochMs;
  build: number | null;
  helps: number | null;
  helpsFrom: EpochMs | null;
  builder: string | null;
  instance: string | null;
  instanceType: string | null;
}

const COLUMNS = `l.queue, l.id, l.kind, l.class, l.release, l.flow, l.repo, l.rank, l.provenance, l.starves_at as "starvesAt", l.avoid,
  l.avoid_until as "avoidUntil", l.wanted_at as "wantedAt",
  a.build_id as build, h.build_id as helps, case when h.build_id is not null then b.started_at end as "helpsFrom", b.builder,
  g.name as instance, g.builder_type as "instanceType"`;
const ABOUT = `left join attempt a on a.lease_id = l.id left join helper h on h.lease_id = l.id
  left join build b on b.id = coalesce(a.build_id, h.build_id) left join gomote_instance g on g.lease_id = l.id`;

/** The first `limit` of the line of every queue, or of `queues` only. A queue where nothing waits has no line. */
export async function queueLines(
  sql: Sql,
  queues: readonly string[] | null,
  now: EpochMs,
  limit: number,
): Promise<Map<string, Queued[]>> {
  const byQueue = new Map<string, Queued[]>();
  for (const lease of await candidates(sql, queues, now, limit)) {
    const leases = byQueue.get(lease.queue) ?? [];
    byQueue.set(lease.queue, leases);
    leases.push(lease);
  }
  const shares = await sharesOf(sql, [...byQueue.values()].flat());
  const outOfTurn = await queuesOutOfTurn(sql, [...byQueue.keys()]);
  for (const [queue, leases] of byQueue) {
    byQueue.set(queue, line(leases, shares.get(queue) ?? [], now, limit, outOfTurn.has(queue)));
  }
  return byQueue;
}

async function queuesOutOfTurn(sql: Sql, queues: readonly string[]): Promise<Set<string>> {
  const rows = await sql.query<{ queue: string }>(
    `select queue from unnest($1::text[]) queue where ${lastOutOfTurn("queue.queue")}`,
    [queues],
  );
  return new Set(rows.map(({ queue }) => queue));
}

async function candidates(sql: Sql, queues: readonly string[] | null, now: EpochMs, limit: number): Promise<Queued[]> {
  const rows = await sql.query<QueuedRow>(
    `select ${COLUMNS}
     from host_type t
       cross join lateral (
         (select id from lease where queue = t.name and starves_at <= $2 and state = 'wanted'
          order by starves_at, id limit $3)
         union
         (with recursive lane as (
            (select band, flow, repo from lease where queue = t.name and state = 'wanted'
             order by band, flow, repo limit 1)
            union all
            select after.* from lane cross join lateral (
              select band, flow, repo from lease
              where queue = t.name and (band, flow, repo) > (lane.band, lane.flow, lane.repo) and state = 'wanted'
              order by band, flow, repo limit 1
            ) after
          ), few as (
            select * from lane limit ${LANES}
          )
          select first.id from few cross join lateral (
            select id from lease
            where queue = t.name and band = few.band and flow = few.flow and repo = few.repo and state = 'wanted'
            order by rank, starves_at, id limit $3
          ) first)
       ) mine
       join lease l on l.id = mine.id ${ABOUT}
     where $1::text[] is null or t.name = any ($1)`,
    [queues, at(now), limit],
  );
  return rows.map((row) => ({ ...row, class: leaseClass(row.class) }));
}

/** The queue in which a build waits for a machine. Undefined: it does not. */
export async function queueOf(sql: Sql, build: BuildId): Promise<string | undefined> {
  const [row] = await sql.query<{ queue: string }>(
    `select l.queue from attempt a join lease l on l.id = a.lease_id
     where a.build_id = $1 and a.state = 'waiting' and l.state = 'wanted'`,
    [build],
  );
  return row?.queue;
}

/** A machine as the order sees it, and the queue that it takes from. */
export async function takerOf(sql: Sql, machine: MachineId): Promise<(Taker & { readonly queue: string }) | undefined> {
  const [taker] = await sql.query<Taker & { queue: string }>(
    `select m.id as "machineId", m.host_type as queue, t.trust, t.gomote_lent as "gomoteLent",
       m.drained_at is not null or m.set_aside_at is not null or t.drained_at is not null
         or exists (select from farm where drained_at is not null) as stopped
     from machine m join host_type t on t.name = m.host_type where m.id = $1`,
    [machine],
  );
  return taker;
}

/** By queue, the share of each lane of `leases`, and of each that holds a machine there. */
async function sharesOf(sql: Sql, leases: readonly Queued[]): Promise<Map<string, Share[]>> {
  const lanes = new Map(leases.map((lease) => [`${lease.queue}\n${lease.flow}\n${lease.repo}`, lease]));
  const list = [...lanes.values()];
  const rows = await sql.query<Share & { queue: string }>(
    `select queue, flow, repo, sum(held)::int as held, max(served_at) as "servedAt"
     from (
       select queue, flow, repo, count(*) as held, max(held_at) as served_at from lease
       where state = 'held' and queue = any ($1::text[]) group by queue, flow, repo
       union all
       select lane.queue, lane.flow, lane.repo, 0, served.held_at
       from unnest($1::text[], $2::text[], $3::text[]) lane (queue, flow, repo)
         cross join lateral (
           select held_at from lease
           where queue = lane.queue and flow = lane.flow and repo = lane.repo and held_at is not null order by held_at desc limit 1
         ) served
     ) both_of
     group by queue, flow, repo`,
    [list.map(({ queue }) => queue), list.map(({ flow }) => flow), list.map(({ repo }) => repo)],
  );
  const byQueue = new Map<string, Share[]>();
  for (const { queue, ...share } of rows) byQueue.set(queue, [...(byQueue.get(queue) ?? []), share]);
  return byQueue;
}

/** How many leases wait in each queue, and since when the oldest has. */
export async function queueLengths(sql: Sql): Promise<{ queue: string; waiting: number; oldest: number }[]> {
  return sql.query(
    `select queue, count(*)::int as waiting, min(wanted_at) as oldest from lease
     where state = 'wanted' group by queue order by queue`,
  );
}

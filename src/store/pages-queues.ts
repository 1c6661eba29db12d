/** Reading for pages: what waits for a machine, in the order in which it will be claimed (leases.ts has the same order in its claim). */
import { at, type Sql } from "./sql.ts";

export interface QueuedRow {
  readonly queue: string;
  readonly lease: number;
  readonly class: number;
  readonly wantedAt: number;
  readonly starving: boolean;
  readonly build: number | null;
  readonly repo: string | null;
  readonly builder: string | null;
}

/** The first `limit` of every queue: those that starve, oldest first; then by class and rank. */
export async function queued(sql: Sql, now: number, limit: number): Promise<QueuedRow[]> {
  return sql.query(
    `select l.queue, l.id as lease, l.class, l.wanted_at as "wantedAt", l.starves_at <= $1 as starving, b.id as build, b.repo, b.builder
     from (
       select w.* from (select distinct name from host_type) t cross join lateral (
         select * from (
           (select * from lease where queue = t.name and state = 'wanted' and starves_at <= $1 order by starves_at, id limit $2)
           union all
           (select * from lease where queue = t.name and state = 'wanted' and starves_at > $1 order by class, rank, id limit $2)
         ) both_kinds
         order by starves_at > $1, case when starves_at <= $1 then starves_at end, class, rank, id limit $2
       ) w
     ) l
       left join attempt a on a.lease_id = l.id
       left join build b on b.id = a.build_id
     order by l.queue, l.starves_at > $1, case when l.starves_at <= $1 then l.starves_at end, l.class, l.rank, l.id`,
    [at(now as Parameters<typeof at>[0]), limit],
  );
}

/** How many wait in each queue, and since when the oldest. */
export async function queueLengths(sql: Sql): Promise<{ queue: string; waiting: number; oldest: number }[]> {
  return sql.query(
    `select queue, count(*)::int as waiting, min(wanted_at) as oldest from lease where state = 'wanted' group by queue order by queue`,
  );
}

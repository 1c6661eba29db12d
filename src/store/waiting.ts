/** Why a build waits: what is ahead of it in its queue, and what the machines of its host type are doing. */
import type { Trust } from "../farm/build.ts";
import type { BuildId, EpochMs } from "../farm/ids.ts";
import { queueLines } from "./queue-line.ts";
import { at, type Sql } from "./sql.ts";

/** Counting stops here: "more than a thousand" says as much. */
export const AHEAD_LIMIT = 1000;

export interface WhyWaiting {
  readonly hostType: string;
  /** False: no configuration has this host type. */
  readonly configured: boolean;
  readonly trust: Trust;
  readonly hostTypeDrained: boolean;
  readonly drainNote: string | null;
  /** How many leases will be taken before this one, as things stand; at most AHEAD_LIMIT. */
  readonly ahead: number;
  readonly connected: number;
  readonly busy: number;
  readonly drained: number;
  readonly wantedAt: EpochMs;
  /** When the lease starts to go before everything else. */
  readonly starvesAt: EpochMs;
  /** Names of connected machines that may not take it before `avoidUntil`, since they failed it. */
  readonly avoided: readonly string[];
  readonly avoidUntil: EpochMs | null;
}

/** Why a build waits. Undefined: it does not wait for a machine. */
export async function whyWaiting(sql: Sql, build: BuildId, now: EpochMs): Promise<WhyWaiting | undefined> {
  const [row] = await sql.query<Omit<WhyWaiting, "ahead">>(
    `with mine as (
       select l.* from attempt a join lease l on l.id = a.lease_id
       where a.build_id = $1 and a.state = 'waiting' and l.state = 'wanted'
     ), machines as (
       select m.id, m.name, bool_or(h.id is not null) as busy, m.drained_at is not null as drained
       from mine join machine m on m.host_type = mine.queue join session s on s.machine_id = m.id and s.closed_at is null
         left join lease h on h.session_id = s.id and h.state = 'held'
       group by m.id
     )
     select mine.queue as "hostType", coalesce(t.configured, false) as configured, coalesce(t.trust, 'community') as trust,
       t.drained_at is not null as "hostTypeDrained", t.drain_note as "drainNote",
       mine.wanted_at as "wantedAt", mine.starves_at as "starvesAt",
       (select count(*) from machines) as connected,
       (select count(*) from machines where busy) as busy,
       (select count(*) from machines where drained) as drained,
       array(select name from machines where id = any (mine.avoid) and mine.avoid_until > $2 order by name) as avoided,
       case when mine.avoid_until > $2 then mine.avoid_until end as "avoidUntil"
     from mine left join host_type t on t.name = mine.queue`,
    [build, at(now)],
  );
  if (!row) return undefined;
  const line = (await queueLines(sql, [row.hostType], now, AHEAD_LIMIT)).get(row.hostType) ?? [];
  const place = line.findIndex((lease) => lease.build === build);
  return { ...row, ahead: place < 0 ? AHEAD_LIMIT : place };
}

/**
 * Draining: what is drained ends its present work and takes nothing new (the claim sees to that), until somebody
 * resumes it. Draining twice keeps the first time and takes the second note.
 *
 *   farm           everything
 *   coordinator    the machines that are connected to it; until it is started again
 *   host type, machine   in machines.ts
 */
import { type CoordinatorId, type EpochMs, machineId } from "../farm/ids.ts";
import { drainHostType, drainMachine, resumeHostType, resumeMachine } from "./machines.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

/**
 * What keeps machine `m` of host type `t` from new work, the nearest cause first; no row: nothing does. `o` is the
 * coordinator that the machine is connected to, with all columns null when there is none. SQL, to be joined `on true`.
 */
export const DRAINED_BY = `lateral (
  select d.what, d.at, coalesce(d.note, '') as note from (
    select 1 as place, 'machine' as what, m.drained_at as at, m.drain_note as note
    union all select 2, 'host type', t.drained_at, t.drain_note
    union all select 3, 'coordinator', o.drained_at, o.drain_note
    union all select 4, 'farm', drained_at, drain_note from farm
  ) d where d.at is not null order by d.place limit 1
) d`;

/** The condition that no drain concerns machine `m` of host type `t` while it is connected to coordinator `c`. */
export const NOT_DRAINED: string = `m.drained_at is null and t.drained_at is null and c.drained_at is null
  and not exists (select from farm where drained_at is not null)`;

/** The condition that session `s` of that machine and coordinator may be given new work. */
export const MAY_WORK: string = `s.closed_at is null and c.ended_at is null and m.set_aside_at is null and ${NOT_DRAINED}`;

export interface DrainedBy {
  readonly what: "machine" | "host type" | "coordinator" | "farm";
  readonly at: number;
  readonly note: string;
}

export interface Drain {
  readonly drainedAt: EpochMs;
  readonly note: string;
}

export async function drainFarm(sql: Sql, note: string, now: EpochMs): Promise<true> {
  await sql.query("update farm set drained_at = coalesce(drained_at, $1), drain_note = $2", [at(now), note]);
  return true;
}

export async function resumeFarm(sql: Sql): Promise<true> {
  await sql.query("update farm set drained_at = null, drain_note = null");
  return true;
}

export async function drainCoordinator(sql: Sql, id: CoordinatorId, note: string, now: EpochMs): Promise<true> {
  await sql.query("update coordinator set drained_at = coalesce(drained_at, $2), drain_note = $3 where id = $1", [
    id,
    at(now),
    note,
  ]);
  return true;
}

export async function resumeCoordinator(sql: Sql, id: CoordinatorId): Promise<true> {
  await sql.query("update coordinator set drained_at = null, drain_note = null where id = $1", [id]);
  return true;
}

/** The drain of the whole farm. Null: the farm is not drained. */
export async function farmDrain(sql: Sql): Promise<Drain | null> {
  const [row] = await sql.query<Drain>(
    `select drained_at as "drainedAt", coalesce(drain_note, '') as note from farm where drained_at is not null`,
  );
  return row ?? null;
}

/** The drains that concern everything this coordinator does. */
export async function drains(sql: Sql, id: CoordinatorId): Promise<{ farm: Drain | null; coordinator: Drain | null }> {
  const rows = await sql.query<Drain & { what: "farm" | "coordinator" }>(
    `select 'farm' as what, drained_at as "drainedAt", coalesce(drain_note, '') as note from farm where drained_at is not null
     union all
     select 'coordinator', drained_at, coalesce(drain_note, '') from coordinator where id = $1 and drained_at is not null`,
    [id],
  );
  const of = (what: "farm" | "coordinator"): Drain | null => rows.find((row) => row.what === what) ?? null;
  return { farm: of("farm"), coordinator: of("coordinator") };
}

/** The part of the farm that a drain is about, for counting what still runs there. */
export type DrainTarget =
  | { readonly kind: "farm" }
  | { readonly kind: "coordinator"; readonly id: CoordinatorId }
  | { readonly kind: "hostType"; readonly name: string }
  | { readonly kind: "machine"; readonly id: number };

/** The result of draining or resuming: the host type concerned, if there is one. Undefined: there is no such thing. */
export type Turned = { readonly hostType?: string } | undefined;

export async function drain(sql: Sql, target: DrainTarget, note: string, now: EpochMs): Promise<Turned> {
  switch (target.kind) {
    case "farm":
      return (await drainFarm(sql, note, now)) && {};
    case "coordinator":
      return (await drainCoordinator(sql, target.id, note, now)) && {};
    case "hostType":
      return (await drainHostType(sql, target.name, note, now)) ? { hostType: target.name } : undefined;
    case "machine":
      return drainMachine(sql, machineId(target.id), note, now);
  }
}

export async function resume(sql: Sql, target: DrainTarget): Promise<Turned> {
  switch (target.kind) {
    case "farm":
      return (await resumeFarm(sql)) && {};
    case "coordinator":
      return (await resumeCoordinator(sql, target.id)) && {};
    case "hostType":
      return (await resumeHostType(sql, target.name)) ? { hostType: target.name } : undefined;
    case "machine":
      return resumeMachine(sql, machineId(target.id));
  }
}

/** How many leases are held there. */
export async function runningOn(sql: Sql, target: DrainTarget): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    ...statement`select count(*)::int as count from lease l join machine m on m.id = l.machine_id
      where l.state = 'held' and ${there(target)}`,
  );
  return row?.count ?? 0;
}

/** The condition that lease `l` of machine `m` is held there. */
function there(target: DrainTarget): Part {
  switch (target.kind) {
    case "farm":
      return part`true`;
    case "coordinator":
      return part`l.coordinator_id = ${target.id}`;
    case "hostType":
      return part`m.host_type = ${target.name}`;
    case "machine":
      return part`m.id = ${target.id}`;
  }
}

/**
 * Machines that failed the farm several times in a row: set aside, probed, back.
 *
 *   well       -FAILURES own failures in a row-> set aside until ...
 *   set aside  -until has passed-> probed; well again, or set aside for twice as long
 *   set aside  -an operator says so-> well
 *
 * The history is read from the attempts and the helpers, so nothing is counted twice or forgotten. An own failure is
 * one that the machine caused (`machine_fault`). Work that says nothing about the machine does not count: canceled, the
 * source missing, the farm's restart, a helper that had nothing to do.
 *
 * The claim (leases.ts) gives nothing to a machine that is set aside. A probe holds a lease, like any other work.
 */
import {
  type CoordinatorId,
  type EpochMs,
  type LeaseId,
  type MachineId,
  type Ms,
  machineId,
  minutes,
  ms,
  plus,
} from "../farm/ids.ts";
import { LEASE_CLASSES } from "../farm/lease.ts";
import { NOT_DRAINED } from "./drain.ts";
import type { Held } from "./leases.ts";
import type { Drained } from "./machines.ts";
import { at, type Sql } from "./sql.ts";

/** How many own failures in a row set a machine aside. */
const FAILURES = 3;
/** How long a machine is set aside the first time. Each further time it is twice as long, up to LONGEST. */
const FIRST: Ms = minutes(5);
const LONGEST: Ms = ms(86_400_000);

/** SQL for how long a machine is set aside the `times`th time in a row. */
const SPAN = (times: string) =>
  `make_interval(secs => least(${LONGEST / 1000}, ${FIRST / 1000} * power(2, least(${times}, 20) - 1)))`;

/** The last work of machine `m` that says something about it, newest first. */
const LATEST = `
  select machine_fault from (
    (select machine_fault, ended_at, lease_id from attempt
     where machine_id = m.id and state = 'ended' and (machine_fault or outcome in ('success', 'failure')) and ended_at > m.since
     order by id desc limit ${FAILURES})
    union all
    (select machine_fault, ended_at, lease_id from helper
     where machine_id = m.id and machine_fault is not null and ended_at > m.since order by ended_at desc, lease_id desc limit ${FAILURES})
  ) work order by ended_at desc, lease_id desc limit ${FAILURES}`;

/**
 * Sets `machine` aside if it has failed too often in a row. Call this when something has just ended by its fault, for
 * `reason`.
 */
export async function setAsideIfFailing(sql: Sql, machine: MachineId, reason: string, now: EpochMs): Promise<void> {
  await sql.query(
    `with known as (
       select id, coalesce(well_since, '-infinity') as since, set_aside_times from machine where id = $1 and set_aside_at is null
     ), m as (
       select id, since,
         1 + case when exists (
           select from attempt where machine_id = known.id and outcome in ('success', 'failure') and ended_at > known.since
         ) or exists (
           select from helper where machine_id = known.id and not machine_fault and ended_at > known.since
         ) then 0 else set_aside_times end as times
       from known
     ), failing as (
       select m.* from m cross join lateral (
         select count(*) filter (where latest.machine_fault) as failures from (${LATEST}) latest
       ) f where f.failures = ${FAILURES}
     )
     update machine set set_aside_at = $3, set_aside_until = $3::timestamptz + ${SPAN("failing.times")}, set_aside_times = failing.times,
       set_aside_reason = '${FAILURES} attempts in a row failed on it; the last: ' || $2::text, probe_error = null
     from failing where machine.id = failing.id`,
    [machine, reason, at(now)],
  );
}

/** Why a helper could not help: its machine went away or broke, or the farm could not give it the tree. */
export type HelperFault = "machine" | "farm";

/**
 * Ends the lease of a helper, unless the end of its build has done so, and notes how it went. Without a fault of the
 * machine, a group of tests that ended on it counts in its favour. Nothing happens a second time, or when another
 * session has adopted the lease.
 */
export async function endHelper(
  sql: Sql,
  { id, epoch }: Held,
  fault: HelperFault | undefined,
  reason: string,
  now: EpochMs,
): Promise<void> {
  const machineFault = fault === "machine";
  await sql.tx(async (tx) => {
    const [ended] = await tx.query<{ machine: number | null }>(
      `with l as (
         select id, machine_id from lease where id = $1 and epoch = $2 for update
       ), ended as (
         update lease set state = 'ended', ended_at = $3, end_reason = $4 from l where lease.id = l.id and lease.state <> 'ended'
       )
       update helper set machine_id = l.machine_id, ended_at = $3, failed = $6, machine_fault = case
           when $5 then true
           when exists (select from test_group g where g.lease_id = l.id and (g.status = 'ok' or g.status like 'exit status %')) then false
         end
       from l where helper.lease_id = l.id and helper.ended_at is null returning helper.machine_id as machine`,
      [id, epoch, at(now), reason, machineFault, fault !== undefined],
    );
    if (machineFault && ended && ended.machine !== null) {
      await setAsideIfFailing(tx, machineId(ended.machine), reason, now);
    }
  });
}

/**
 * Holds a lease to probe each machine that is due, has a free session at `coordinator` and is not drained. For `limit`,
 * nobody else probes it, also if this coordinator dies.
 */
export async function wantProbes(sql: Sql, coordinator: CoordinatorId, limit: Ms, now: EpochMs): Promise<void> {
  await sql.query(
    `with left_behind as (
       update lease set state = 'ended', ended_at = $2, end_reason = 'the machine went away'
       from session s where lease.kind = 'probe' and lease.state = 'held' and s.id = lease.session_id and s.closed_at is not null
     ), due as (
       select distinct on (m.id) m.id as machine, m.host_type, s.id as session
       from machine m join session s on s.machine_id = m.id and s.closed_at is null and s.coordinator_id = $1
         join coordinator c on c.id = s.coordinator_id join host_type t on t.name = m.host_type
       where m.set_aside_at is not null and m.set_aside_until <= $2 and ${NOT_DRAINED}
         and not exists (select from lease l where l.session_id = s.id and l.state = 'held')
       order by m.id, s.opened_at desc
     ), taken as (
       update machine set set_aside_until = $3 from due
       where machine.id = due.machine and machine.set_aside_at is not null and machine.set_aside_until <= $2 returning due.*
     )
     insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, held_at)
     select 'probe', ${LEASE_CLASSES.background}, host_type, 'submitted', 0, $2, $2, 'held', session, machine, $1, $2 from taken`,
    [coordinator, at(now), at(plus(now, limit))],
  );
}

/**
 * Stores the result of a probe, `error` or null when the machine is well. The machine comes back, or is set aside for
 * longer. The lease ends.
 */
export async function endProbe(
  sql: Sql,
  lease: LeaseId,
  machine: MachineId,
  error: string | null,
  now: EpochMs,
): Promise<void> {
  await sql.query(
    `with l as (
       update lease set state = 'ended', ended_at = $4, end_reason = coalesce($3, 'well again') where id = $1 and state = 'held' returning id
     )
     update machine set
       set_aside_at = case when $3::text is null then null else set_aside_at end,
       set_aside_reason = case when $3::text is null then null else set_aside_reason end,
       set_aside_times = set_aside_times + case when $3::text is null then 0 else 1 end,
       set_aside_until = case when $3::text is null then null else $4::timestamptz + ${SPAN("set_aside_times + 1")} end,
       probe_error = $3, probed_at = $4, well_since = case when $3::text is null then $4 else well_since end
     from l where machine.id = $2 and set_aside_at is not null`,
    [lease, machine, error, at(now)],
  );
}

/**
 * Ends the lease of a probe that could not begin, or that we broke off. Nothing is known of the machine; it is probed
 * again soon.
 */
export async function dropProbe(
  sql: Sql,
  lease: LeaseId,
  machine: MachineId,
  reason: string,
  now: EpochMs,
): Promise<void> {
  await sql.query(
    `with l as (
       update lease set state = 'ended', ended_at = $4, end_reason = $3 where id = $1 and state = 'held' returning id
     )
     update machine set set_aside_until = $5 from l where machine.id = $2 and set_aside_at is not null`,
    [lease, machine, reason, at(now), at(plus(now, minutes(1)))],
  );
}

/**
 * Makes a machine well again because an operator says so. Changes nothing when it is not set aside. Undefined: there is
 * no such machine.
 */
export async function readmitMachine(sql: Sql, id: MachineId, now: EpochMs): Promise<Drained | undefined> {
  const rows = await sql.query<Drained>(
    `update machine set
       well_since = case when set_aside_at is null then well_since else $2 end,
       set_aside_at = null, set_aside_until = null, set_aside_reason = null, set_aside_times = 0, probe_error = null
     where id = $1 returning host_type as "hostType", name`,
    [id, at(now)],
  );
  return rows[0];
}

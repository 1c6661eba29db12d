/**
 * Held leases that nobody drives: their machine was lost, or their coordinator ended.
 *
 * Where commands outlive connections, such a lease is parked. Its agent process may come back to any coordinator,
 * within the time that its host type allows, and the claim (leases.ts) gives it the lease again. What ran on any other
 * machine is gone.
 */
import type { AttemptId, CoordinatorId, EpochMs, Ms } from "../farm/ids.ts";
import type { LeaseKind } from "../farm/lease.ts";
import { type Held, RECONNECT } from "./leases.ts";
import { at, type Sql } from "./sql.ts";

/**
 * Parks a lease: nobody drives it from now on, and its agent process may come back within the time of its host type.
 * False: the lease was lost before.
 */
export async function parkLease(sql: Sql, { id, epoch }: Held, now: EpochMs): Promise<boolean> {
  const rows = await sql.query(
    `update lease set parked_until = $3::timestamptz + ${RECONNECT}
     where id = $1 and epoch = $2 and state = 'held' and parked_until is null and instance is not null returning id`,
    [id, epoch, at(now)],
  );
  return rows.length > 0;
}

/** Parks leases that ended coordinators were driving, where the machine may come back with the lease. */
export async function parkOrphans(sql: Sql, now: EpochMs): Promise<void> {
  await sql.query(
    `update lease set parked_until = $1::timestamptz + ${RECONNECT} from coordinator c
     where c.id = lease.coordinator_id and c.ended_at is not null
       and lease.state = 'held' and lease.parked_until is null and lease.instance is not null`,
    [at(now)],
  );
}

/** A held lease that nobody drives. */
export interface Left extends Held {
  readonly kind: LeaseKind;
  /** Null: the lease is not that of an attempt. */
  readonly attempt: AttemptId | null;
  /** Number of the instance. Null: the lease is not that of an instance. */
  readonly instance: number | null;
  readonly coordinator: CoordinatorId;
  /** The coordinator of the lease has ended. */
  readonly orphaned: boolean;
  readonly machine: string;
  /** True: the agent process may come back. False: its commands died with its connection. */
  readonly resumes: boolean;
  /** How long the agent process may take to come back, if it resumes. */
  readonly waitFor: Ms;
  /** The machine has registered again since then with a new process: what ran on it is gone. */
  readonly restarted: boolean;
}

/** Parked leases, and leases that ended coordinators held on machines that do not resume. */
export async function leftLeases(sql: Sql): Promise<Left[]> {
  return sql.query<Left>(
    `with l as (
       select * from lease where state = 'held' and parked_until is not null
       union all
       select lease.* from coordinator c join lease on lease.coordinator_id = c.id
       where c.ended_at is not null and lease.state = 'held' and lease.parked_until is null and lease.instance is null
     )
     select l.id, l.epoch, l.kind, a.id as attempt, g.id as instance, l.coordinator_id as coordinator, c.ended_at is not null as orphaned, m.name as machine,
       l.instance is not null as resumes, t.reconnect_ms as "waitFor",
       exists (
         select from session own join session s on s.machine_id = own.machine_id and s.number > own.number
         where own.id = l.session_id and s.closed_at is null and s.instance is distinct from l.instance and not exists (
           select from session earlier
           where earlier.machine_id = s.machine_id and earlier.instance = s.instance and earlier.number < own.number
         )
       ) and not exists (
         select from session s where s.machine_id = l.machine_id and s.closed_at is null and s.instance = l.instance
       ) as restarted
     from l join coordinator c on c.id = l.coordinator_id join machine m on m.id = l.machine_id join host_type t on t.name = l.queue
       left join attempt a on a.lease_id = l.id left join gomote_instance g on g.lease_id = l.id
     order by l.id`,
  );
}

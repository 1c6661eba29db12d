/**
 * Instances in the database: rows beside their leases. The state of an instance is that of its lease:
 *
 *   wanted  its client waits for a machine
 *   held    the machine is made ready; from `upAt` on the instance is the person's
 *   parked  its machine is away
 *   ended   with the reason
 *
 * Names and quotas are given out under one lock, so they hold however many people ask at once, at any coordinators.
 */
import type { CoordinatorId, EpochMs, LeaseId, MachineId, PersonId, SessionId } from "../farm/ids.ts";
import { LEASE_CLASSES, type Lease } from "../farm/lease.ts";
import { rankOf, starvesAt } from "../schedule/order.ts";
import { instanceName } from "../wire/gomote/gomote.ts";
import type { Held } from "./leases.ts";
import { at, type Sql } from "./sql.ts";

/** The lock for names and quotas. */
export const CREATE_LOCK = 0x676f6d6f; // "gomo"
/** How many of their instances a person is reminded of. */
const REMINDED = 10;
/** How many machines are tried for an instance, one after the other. */
const MOST_LEASES = 3;

export interface Instance {
  readonly id: number;
  readonly name: string;
  readonly owner: PersonId;
  readonly email: string;
  readonly builderType: string;
  readonly hostType: string;
  readonly createdAt: EpochMs;
  /** Null: the instance is still waited for. */
  readonly upAt: EpochMs | null;
  readonly expiresAt: EpochMs;
  readonly limitAt: EpochMs | null;
  readonly workingDir: string | null;
  readonly lease: LeaseId;
  readonly epoch: number;
  readonly state: "wanted" | "held" | "ended";
  readonly endReason: string | null;
  /** The machine is that of a failed build, and keeps what was on it. */
  readonly keeps: boolean;
  /** The machine is away, and may come back with the instance. */
  readonly parked: boolean;
  /** Where the machine is connected. Null: the instance has none yet. */
  readonly coordinator: CoordinatorId | null;
  readonly session: SessionId | null;
  readonly machineId: MachineId | null;
  readonly machine: string | null;
  /** What the machine runs. Null: the instance has none yet. */
  readonly agent: "barnraiser" | "original" | null;
}

/** The columns of an Instance, in INSTANCES. */
export const INSTANCE_COLUMNS: string = `g.id, g.name, g.owner, g.email, g.builder_type as "builderType", g.host_type as "hostType", g.created_at as "createdAt",
  g.up_at as "upAt", g.expires_at as "expiresAt", g.limit_at as "limitAt", g.working_dir as "workingDir", g.keeps, l.id as lease, l.epoch, l.state,
  l.end_reason as "endReason", l.parked_until is not null as parked, l.coordinator_id as coordinator, l.session_id as session,
  m.id as "machineId", m.name as machine, m.agent`;
export const INSTANCES: string =
  "gomote_instance g join lease l on l.id = g.lease_id left join machine m on m.id = l.machine_id";

export interface WantedInstance {
  readonly request: string;
  readonly owner: PersonId;
  readonly email: string;
  /** The first part of the instance's name. */
  readonly user: string;
  readonly builderType: string;
  readonly hostType: string;
  readonly coordinator: CoordinatorId;
  /** How long the client waits at most. */
  readonly until: EpochMs;
  /** Quotas, counting instances and what is waited for. Null: there is none. */
  readonly perPerson: number;
  readonly perHostType: number | null;
}

/** The instance that was inserted, or which quota is used up, as a part of a sentence. */
export type InsertedInstance = { readonly id: number; readonly name: string } | { readonly full: string };

/**
 * Inserts an instance with a wanted lease for each of `wanted`, unless its person or host type has reached a quota.
 * Those that come first go first. Returns the results by request. Takes many at once, since many may ask at once.
 */
export async function insertInstances(
  sql: Sql,
  wanted: readonly WantedInstance[],
  now: EpochMs,
): Promise<ReadonlyMap<string, InsertedInstance>> {
  return sql.tx(async (tx) => {
    await tx.query("select pg_advisory_xact_lock($1)", [CREATE_LOCK]);
    const requests = wanted.map(({ request }) => request);
    const before = await tx.query<{ request: string; id: number; name: string }>(
      "select request, id, name from gomote_instance where request = any ($1::text[])",
      [requests],
    );
    const live = await liveNames(tx);
    const results = new Map<string, InsertedInstance>(before.map(({ request, id, name }) => [request, { id, name }]));
    const given: (WantedInstance & Named)[] = [];
    for (const each of wanted) {
      if (results.has(each.request)) continue;
      const all: readonly Named[] = [...live, ...given];
      const full = usedUp(each, all);
      if (full !== undefined) results.set(each.request, { full });
      else
        given.push({ ...each, name: instanceName(each.user, each.builderType, new Set(all.map(({ name }) => name))) });
    }
    for (const { request, id, name } of await insertGiven(tx, given, now)) results.set(request, { id, name });
    return results;
  });
}

type Named = Pick<Instance, "name" | "owner" | "hostType">;

/** The instances that count against quotas and whose names are taken. The answer lasts only under CREATE_LOCK. */
export function liveNames(tx: Sql): Promise<Named[]> {
  return tx.query<Named>(
    `select g.name, g.owner, g.host_type as "hostType" from lease l join gomote_instance g on g.lease_id = l.id
     where l.kind = 'gomote' and l.state <> 'ended'`,
  );
}

/** Says which quota of `owner` is used up, and reminds them of the instances that they have. Undefined: none. */
export function usedUp(
  { owner, hostType, perPerson, perHostType }: Pick<WantedInstance, "owner" | "hostType" | "perPerson" | "perHostType">,
  all: readonly Named[],
): string | undefined {
  const theirs = all.filter((one) => one.owner === owner).map(({ name }) => name);
  if (theirs.length >= perPerson) {
    const more = theirs.length > REMINDED ? ` and ${theirs.length - REMINDED} more` : "";
    const names = theirs.toSorted().slice(0, REMINDED).join(", ");
    return `you have ${theirs.length} of at most ${perPerson} instances: ${names}${more}; destroy one first`;
  }
  if (perHostType === null) return undefined;
  const lent = all.filter((one) => one.hostType === hostType).length;
  if (lent < perHostType) return undefined;
  return `${lent} of at most ${perHostType} machines of ${hostType} are lent or waited for; try later`;
}

function insertGiven(tx: Sql, given: readonly (WantedInstance & Named)[], now: EpochMs) {
  return tx.query<{ request: string; id: number; name: string }>(
    `with given as materialized (
       select *, nextval(pg_get_serial_sequence('lease', 'id')) as lease, to_timestamp(until / 1000.0) as ends
       from jsonb_to_recordset($1::jsonb) as g (
         request text, owner text, email text, name text, "builderType" text, "hostType" text, coordinator text, until bigint)
     ), l as (
       insert into lease (id, kind, class, queue, flow, provenance, rank, wanted_at, starves_at) overriding system value
       select lease, 'gomote', ${LEASE_CLASSES.gomote}, "hostType", owner, 'unreviewed', $2, $3, $4 from given
     ), a as (
       insert into audit (at, who, action, subject, detail)
       select $3, email, 'gomote create', 'gomote:' || name, "builderType" from given
     )
     insert into gomote_instance (request, lease_id, name, owner, email, builder_type, host_type, coordinator_id, created_at, expires_at)
     select request, lease, name, owner, email, "builderType", "hostType", coordinator, $3, ends from given returning request, id, name`,
    [JSON.stringify(given), rankOf("gomote", now, now), at(now), at(starvesAt("gomote", now))],
  );
}

/** Living instances of `owner`, or of everybody, in the order of their names. */
export async function liveInstances(sql: Sql, owner: PersonId | null): Promise<Instance[]> {
  return sql.query<Instance>(
    `select ${INSTANCE_COLUMNS} from ${INSTANCES}
     where l.kind = 'gomote' and l.state <> 'ended' and ($1::text is null or g.owner = $1) order by g.name collate "C"`,
    [owner],
  );
}

/** Living instances that were asked for at coordinator `self`, or at one that has ended. */
export async function instancesAskedForAt(sql: Sql, self: CoordinatorId): Promise<Instance[]> {
  return sql.query<Instance>(
    `select ${INSTANCE_COLUMNS} from ${INSTANCES} join coordinator c on c.id = g.coordinator_id
     where l.kind = 'gomote' and l.state <> 'ended' and (c.id = $1 or c.ended_at is not null)`,
    [self],
  );
}

/** The living instance of this name, waited for or up. */
export async function instanceNamed(sql: Sql, name: string): Promise<Instance | undefined> {
  const [row] = await sql.query<Instance>(
    `select ${INSTANCE_COLUMNS} from ${INSTANCES} where g.name = $1 and l.state <> 'ended'`,
    [name],
  );
  return row;
}

/** How the last instance of this name ended: the last one of `owner`, or of anybody. */
export async function endedInstance(
  sql: Sql,
  name: string,
  owner: PersonId | null,
): Promise<{ readonly endedAt: EpochMs; readonly reason: string | null } | undefined> {
  const [row] = await sql.query<{ endedAt: EpochMs; reason: string | null }>(
    `select l.ended_at as "endedAt", l.end_reason as reason from ${INSTANCES}
     where g.name = $1 and l.state = 'ended' and ($2::text is null or g.owner = $2) order by g.id desc limit 1`,
    [name, owner],
  );
  return row;
}

export async function instancesById(sql: Sql, ids: readonly number[]): Promise<Instance[]> {
  return sql.query<Instance>(`select ${INSTANCE_COLUMNS} from ${INSTANCES} where g.id = any ($1::bigint[])`, [ids]);
}

/** The instance of a lease that is held in its epoch. Undefined: nobody needs it any more. */
export async function instanceOfLease(sql: Sql, { id, epoch }: Held): Promise<Instance | undefined> {
  const [row] = await sql.query<Instance>(
    `select ${INSTANCE_COLUMNS} from ${INSTANCES} where l.id = $1 and l.epoch = $2 and l.state = 'held'`,
    [id, epoch],
  );
  return row;
}

/** Notes that the machine of an instance is ready. False: the lease was lost meanwhile. */
export async function instanceUp(
  sql: Sql,
  { id, epoch }: Held,
  up: { readonly workingDir: string; readonly expiresAt: EpochMs; readonly limitAt: EpochMs },
  now: EpochMs,
): Promise<boolean> {
  const rows = await sql.query(
    `update gomote_instance g set up_at = coalesce(g.up_at, $3), working_dir = $4, expires_at = $5, limit_at = $6
     from lease l where l.id = g.lease_id and l.id = $1 and l.epoch = $2 and l.state = 'held' returning g.id`,
    [id, epoch, at(now), up.workingDir, at(up.expiresAt), at(up.limitAt)],
  );
  return rows.length > 0;
}

/**
 * Lets instances that are in use live longer, at most until their own limit. This does not wait for the disk: if a
 * crash loses it, the next use renews the instance.
 */
export async function renewInstances(sql: Sql, ids: readonly number[], expiresAt: EpochMs): Promise<void> {
  await sql.query(
    `update gomote_instance g set expires_at = greatest(g.expires_at, least($2, g.limit_at))
     from lease l where l.id = g.lease_id and g.id = any ($1::bigint[]) and l.state = 'held' and g.up_at is not null
     returning set_config('synchronous_commit', 'off', true)`,
    [ids, at(expiresAt)],
  );
}

/**
 * Gives up a machine that could not be made ready. Another one is wanted in the same place of the queue, elsewhere
 * first until `avoidUntil`. False: the lease was lost, or MOST_LEASES machines were tried.
 */
export async function tryAnotherMachine(
  sql: Sql,
  lease: Lease,
  reason: string,
  avoidUntil: EpochMs,
  now: EpochMs,
): Promise<boolean> {
  const rows = await sql.query(
    `with lost as (
       update lease set state = 'ended', ended_at = $3, end_reason = $4
       from gomote_instance g
       where lease.id = $1 and lease.epoch = $2 and lease.state = 'held' and g.lease_id = lease.id and g.up_at is null and not g.keeps and g.leases < ${MOST_LEASES}
       returning lease.*
     ), again as (
       insert into lease (kind, class, queue, flow, provenance, rank, wanted_at, starves_at, avoid, avoid_until)
       select kind, class, queue, flow, provenance, rank, wanted_at, starves_at, avoid || machine_id, $5 from lost returning id
     )
     update gomote_instance g set lease_id = again.id, leases = g.leases + 1 from lost, again where g.lease_id = lost.id returning g.id`,
    [lease.id, lease.epoch, at(now), reason, at(avoidUntil)],
  );
  return rows.length > 0;
}

/** An instance that has just ended, as it was. */
export type EndedInstance = Pick<Instance, "id" | "name" | "owner" | "email" | "hostType" | "machineId"> & {
  readonly reason: string;
};

const ENDED = `g.id, g.name, g.owner, g.email, g.host_type as "hostType", lease.machine_id as "machineId", lease.end_reason as reason`;

/** Why an instance ends, and who says so. */
export interface InstanceEnd {
  readonly id: number;
  readonly who: string;
  readonly action: "destroy" | "end";
  readonly reason: string;
  /** The instance ends only if its lease is still this one, in this epoch. */
  readonly held?: Held;
}

/** Writes a line into the audit for each row of `ended`, which must have `who` and `action`. */
const AUDITED = `
  insert into audit (at, who, action, subject, detail)
  select $1, who, 'gomote ' || action, 'gomote:' || name, case when who = email then '' else 'of ' || email || ': ' end || reason from ended`;

/** Ends those of the instances that live, with a line in the audit for each. */
export async function endInstances(sql: Sql, ends: readonly InstanceEnd[], now: EpochMs): Promise<EndedInstance[]> {
  return sql.query<EndedInstance>(
    `with ended as (
       update lease set state = 'ended', ended_at = $1, end_reason = given.reason, parked_until = null
       from jsonb_to_recordset($2::jsonb) as given (id bigint, who text, action text, reason text, held jsonb)
         join gomote_instance g on g.id = given.id
       where lease.id = g.lease_id and lease.state <> 'ended'
         and (given.held is null or lease.id = (given.held ->> 'id')::bigint and lease.epoch = (given.held ->> 'epoch')::integer)
       returning given.who, given.action, ${ENDED}
     ), a as (${AUDITED}
     )
     select * from ended`,
    [at(now), JSON.stringify(ends)],
  );
}

/**
 * Ends instances that idled for too long, have reached their limit, were waited for in vain, or are waited for by
 * clients of coordinators that have ended. The last reason does not end the machine of a failed build, which exists
 * only once: the person who asked for it finds it among their instances.
 */
export async function endOverdueInstances(sql: Sql, now: EpochMs): Promise<EndedInstance[]> {
  return sql.query<EndedInstance>(
    `with overdue as (
       select l.id, 'the farm' as who, 'end' as action, case
           when g.up_at is null and not g.keeps and c.ended_at is not null then 'whoever waited for it is gone: coordinator ' || c.id || ' ended'
           when g.up_at is null and g.keeps then 'its machine was not there in time'
           when g.up_at is null then 'no machine came free in time'
           when g.limit_at <= $1 then 'it reached the longest time that an instance may last'
           else 'nobody used it for as long as an instance may idle'
         end as reason
       from lease l join gomote_instance g on g.lease_id = l.id join coordinator c on c.id = g.coordinator_id
       where l.kind = 'gomote' and l.state <> 'ended' and (g.expires_at <= $1 or g.limit_at <= $1 or g.up_at is null and not g.keeps and c.ended_at is not null)
     )
     , ended as (
       update lease set state = 'ended', ended_at = $1, end_reason = overdue.reason, parked_until = null
       from overdue, gomote_instance g where lease.id = overdue.id and g.lease_id = lease.id and lease.state <> 'ended'
       returning overdue.who, overdue.action, ${ENDED}
     ), a as (${AUDITED}
     )
     select * from ended`,
    [at(now)],
  );
}

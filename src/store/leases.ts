/**
 * Leases in the database: the claim, and the end of leases that are held. parked-leases.ts has those that are held and
 * driven by nobody.
 *
 * The claim is the rules of schedule/order.ts as one statement. Trust, drain and "elsewhere first" are in its
 * predicates, so no caller can forget them. `for update skip locked` lets any number of sessions and coordinators claim
 * at once without waiting for each other.
 *
 * The claim of a build's lease does not wait for the disk. The begin of the attempt (attempts.ts) waits until both are
 * on disk, and checks the session again. Until then the machine is at most emptied. If a crash of the server takes such
 * a claim back, nothing has happened.
 *
 * Claims that run at the same moment do not see each other. Where a build gets ahead by that, the next claims make up
 * for it. People, however, keep what they got for hours. A session that could take a lease of class gomote therefore
 * says so instead, and claims once more under a lock of its queue.
 */
import type { Provenance } from "../farm/build.ts";
import { FarmError } from "../farm/errors.ts";
import {
  type CoordinatorId,
  type EpochMs,
  epochMs,
  type LeaseId,
  leaseId,
  type MachineId,
  type Ms,
  machineId,
  type SessionId,
  seconds,
  sessionId,
} from "../farm/ids.ts";
import { LEASE_CLASSES, type Lease, type LeaseClass, type LeaseKind } from "../farm/lease.ts";
import { type Claimed, MAX_ASKING } from "../schedule/claims.ts";
import { FLOWS_COMPARED } from "../schedule/order.ts";
import { MAY_WORK } from "./drain.ts";
import { at, type Sql } from "./sql.ts";

/** The class whose stored number is `value`. */
export function leaseClass(value: number): LeaseClass {
  for (const [name, number] of Object.entries(LEASE_CLASSES)) if (number === value) return name as LeaseClass;
  throw new FarmError("internal", `Cannot read lease class ${value}: want 0 to 3`);
}

interface ClaimRow {
  id: number | null;
  kind: LeaseKind;
  class: number;
  queue: string;
  provenance: Provenance;
  wanted_at: number;
  session_id: string;
  machine_id: number;
  epoch: number;
  anew: boolean;
  waiting: number;
  look_again_at: number | null;
  turn: string | null;
}

/** The first band after those of people, which are served one after the other. */
const BEHIND_PEOPLE = (LEASE_CLASSES.gomote + 1) * 4;
/** The lock under which a session claims for people, together with the name of a queue. */
const TURN_LOCK = 0x7475726e; // "turn"

// The parts of the claim, each a query with a name. $1 session, $2 now, $3 true under the lock of the queue
// (TURN_LOCK).

/** The lease that the session holds already. It gets this again, so that a lost answer is harmless. */
const MINE = `
  select id, kind, class, queue, provenance, wanted_at, session_id, machine_id, epoch
  from lease where session_id = $1 and state = 'held'`;

/** How long the host type of `lease` lets its agent process stay away. */
export const RECONNECT = "(select reconnect_ms * interval '1 ms' from host_type where name = lease.queue)";

/** How long the agent process of `lease` had been away at `now`, a parameter. Zero when it was not away. */
export function awayUntil(now: string): string {
  return `greatest(${now}::timestamptz - (parked_until - ${RECONNECT}), interval '0')`;
}

/**
 * The lease that the same agent process held over another session. It goes on over this one, even on a drained machine.
 */
const ADOPTED = `
  update lease set session_id = s.id, coordinator_id = s.coordinator_id, epoch = epoch + 1, parked_until = null,
    away = away + ${awayUntil("$2")}
  from session s join coordinator c on c.id = s.coordinator_id cross join lateral (
    select id from lease
    where instance = s.instance and state = 'held' and machine_id = s.machine_id and session_id <> s.id limit 1 for update
  ) first
  where s.id = $1 and s.closed_at is null and c.ended_at is null and not exists (select from mine) and lease.id = first.id
  returning lease.id, lease.kind, lease.class, lease.queue, lease.provenance, lease.wanted_at,
    lease.session_id, lease.machine_id, lease.epoch`;

/** Whether the lease that was taken last from `queue` was taken because it starved. */
export function lastOutOfTurn(queue: string): string {
  return `coalesce((
      select out_of_turn from lease where queue = ${queue} and held_at is not null order by held_at desc limit 1
    ), false)`;
}

/** The session that asks. `may`: it may take leases. */
const WHO = `
  select s.id as session_id, s.coordinator_id, s.instance, m.id as machine_id, m.host_type as queue,
    t.trust <> 'team' as submitted_only, not t.gomote_lent as submitted_gomote,
    t.trust <> 'team' and not t.gomote_lent as submitted_all,
    ${MAY_WORK} and not exists (select from mine) and not exists (select from adopted) as may,
    ${lastOutOfTurn("m.host_type")} as out_of_turn
  from session s join machine m on m.id = s.machine_id join host_type t on t.name = m.host_type
    join coordinator c on c.id = s.coordinator_id
  where s.id = $1 and t.drained_at is null`;

/** Trust, for a lease of `band`. The indexes hold `submitted`, so that scans of a known band compare it there. */
function trusted(band: string): string {
  return `submitted >= case when ${band} < ${BEHIND_PEOPLE} then who.submitted_gomote else who.submitted_only end`;
}

/** Trust, for a lease of any band. The first comparison is the part of it that an index scan can make. */
const TRUSTED = `submitted >= who.submitted_all and ${trusted("band")}`;

/** A lease that need not stay away from this machine. */
const NOT_AVOIDED = "(avoid_until is null or avoid_until <= $2 or who.machine_id <> all (avoid))";

/** A lease that this machine may take, as far as the lease itself says. */
const FOR_ME = `
  state = 'wanted' and ${TRUSTED} and ${NOT_AVOIDED}`;

/** The queue, if it is the turn of people, who are served one after the other. This claim then takes nothing. */
const PEOPLE = `
  select who.queue from who
  where not $3 and who.may and not who.submitted_gomote and exists (
    select from lease
    where queue = who.queue and band < ${BEHIND_PEOPLE} and state = 'wanted' and ${NOT_AVOIDED}
  )`;

const STARVING = `
  select l.id from who cross join lateral (
    select id from lease where queue = who.queue and starves_at <= $2 and ${FOR_ME}
    order by starves_at, id limit 1 for update skip locked
  ) l where who.may and not who.out_of_turn and not exists (select from people)`;

/**
 * The lanes (repositories of flows) that want something of `band.band` which the machine is trusted with, found by
 * jumping from one to the next in the index. Others are not compared, since they would cost time and take the places of
 * those that can be served.
 */
const LANES = `
  with recursive lane as (
    (select flow, repo from lease
     where queue = who.queue and band = band.band and state = 'wanted' and ${trusted("band.band")}
     order by flow, repo limit 1)
    union all
    select after.* from lane cross join lateral (
      select flow, repo from lease
      where queue = who.queue and band = band.band and (flow, repo) > (lane.flow, lane.repo) and state = 'wanted'
        and ${trusted("band.band")}
      order by flow, repo limit 1
    ) after
  )
  select flow, repo from lane limit ${FLOWS_COMPARED}`;

/** The lanes of `band.band` in the order of their turns. A single lane needs no counting. */
const TURNS = `
  select lane.flow, lane.repo
  from (
    select flow, repo, count(*) over () > 1 as several from (${LANES}) l
  ) lane
    left join lateral (
      select count(*) as by_flow, count(*) filter (where repo = lane.repo) as by_lane
      from lease where lane.several and queue = who.queue and flow = lane.flow and state = 'held'
    ) held on true
    left join lateral (
      select held_at from lease where lane.several and queue = who.queue and flow = lane.flow and repo = lane.repo and held_at is not null
      order by held_at desc limit 1
    ) served on true
    left join lateral (
      select rank, starves_at, id from lease
      where lane.several and queue = who.queue and band = band.band and flow = lane.flow and repo = lane.repo and state = 'wanted'
        and ${trusted("band.band")}
      order by rank, starves_at, id limit 1
    ) head on true
  order by held.by_flow, max(served.held_at) over (partition by lane.flow) nulls first, held.by_lane, served.held_at nulls first,
    head.rank, head.starves_at, head.id`;

/** Goes band by band and turn by turn. The first lease that this machine may take ends the search. */
const BEST = `
  select l.id from who cross join lateral (
    with recursive band as (
      (select band from lease where queue = who.queue and state = 'wanted' order by band limit 1)
      union all
      select after.band from band cross join lateral (
        select band from lease where queue = who.queue and band > band.band and state = 'wanted'
        order by band limit 1
      ) after
    )
    select first.id from band cross join lateral (${TURNS}) turn cross join lateral (
      select id from lease
      where queue = who.queue and band = band.band and flow = turn.flow and repo = turn.repo and state = 'wanted'
        and ${trusted("band.band")} and ${NOT_AVOIDED}
      order by rank, starves_at, id limit 1 for update skip locked
    ) first limit 1
  ) l where who.may and not exists (select from people) and not exists (select from starving)`;

const CLAIMED = `
  update lease set state = 'held', session_id = who.session_id, machine_id = who.machine_id,
    coordinator_id = who.coordinator_id, instance = who.instance, held_at = $2, epoch = epoch + 1,
    out_of_turn = exists (select from starving)
  from who
  where lease.id = (select id from starving union all select id from best limit 1) and lease.state = 'wanted'
  returning lease.id, lease.kind, lease.class, lease.queue, lease.provenance, lease.wanted_at,
    lease.session_id, lease.machine_id, lease.epoch`;

/** How soon a session asks again when another transaction had locked what it might have taken. */
const LOCKED_AGAIN: Ms = seconds(1);

/**
 * How many other leases wait. For a session that got nothing also the time at which it should ask again. Another
 * transaction may have locked the lease that it could have taken. That transaction takes it or ends it, or drops the
 * lock without a word when it is broken off.
 */
const REST = `
  select (
      select count(*) from (
        select from lease
        where queue = who.queue and ${TRUSTED} and state = 'wanted' and id is distinct from (select id from got)
        limit ${MAX_ASKING}
      ) others
    ) as waiting,
    case when not exists (select from got) then least(
      (select min(avoid_until) from lease where queue = who.queue and avoid_until > $2 and state = 'wanted'),
      case when who.may and exists (
        select from lease where queue = who.queue and ${FOR_ME}
      ) then $2::timestamptz + interval '${LOCKED_AGAIN / 1000} seconds' end
    ) end as look_again_at
  from who`;

export const CLAIM: string = `
with mine as (${MINE}
), adopted as (${ADOPTED}
), who as (${WHO}
), people as (${PEOPLE}
), starving as (${STARVING}
), best as (${BEST}
), claimed as (${CLAIMED}
), got as (
  select *, false as anew from mine union all select *, false from adopted union all select *, true from claimed
)
select got.id, got.kind, got.class, got.queue, got.provenance, got.wanted_at,
  got.session_id, got.machine_id, got.epoch, got.anew,
  coalesce(rest.waiting, 0) as waiting, rest.look_again_at, (select queue from people) as turn,
  case when got.kind = 'build' then set_config('synchronous_commit', 'off', true) end
from (select) one left join got on true left join (${REST}
) rest on true`;

/**
 * Gives `session` a lease, the first of these that exists:
 *
 *   the lease that it holds already, so that a lost answer is harmless
 *   the lease that its agent process held over another session, which this one adopts
 *   the best wanted lease that its machine may take, held from now on
 *
 * A session that hung up gets nothing. A drained machine (itself, its host type, its coordinator or the farm) gets
 * nothing new, and neither does one that is set aside.
 */
export async function claimLease(sql: Sql, session: SessionId, now: EpochMs): Promise<Claimed> {
  let row: ClaimRow | undefined;
  try {
    row = await claimInTurn(sql, session, now);
  } catch (error) {
    // The same session claimed at the same moment: an earlier try of ours whose answer got lost. It holds that lease
    // now.
    if (!isUniqueViolation(error)) throw error;
    row = await claimInTurn(sql, session, now);
  }
  const { id = null, waiting = 0, look_again_at: lookAgainAt = null } = row ?? {};
  return {
    lease: row === undefined || id === null ? undefined : leaseOf({ ...row, id }),
    waiting,
    lookAgainAt: lookAgainAt === null ? null : epochMs(lookAgainAt),
  };
}

async function claimInTurn(sql: Sql, session: SessionId, now: EpochMs): Promise<ClaimRow | undefined> {
  const row = await claim(sql, session, now, false);
  if (row === undefined || row.turn === null) return row;
  const { turn } = row;
  return await sql.tx(async (tx) => {
    await tx.query("select pg_advisory_xact_lock($1, hashtext($2))", [TURN_LOCK, turn]);
    return await claim(tx, session, now, true);
  });
}

async function claim(sql: Sql, session: SessionId, now: EpochMs, alone: boolean): Promise<ClaimRow | undefined> {
  const [row] = await sql.query<ClaimRow>(CLAIM, [session, at(now), alone]);
  return row;
}

function leaseOf(row: Omit<ClaimRow, "id" | "waiting" | "look_again_at" | "turn"> & { readonly id: number }): Lease {
  return {
    id: leaseId(row.id),
    kind: row.kind,
    class: leaseClass(row.class),
    queue: row.queue,
    provenance: row.provenance,
    wantedAt: epochMs(row.wanted_at),
    sessionId: sessionId(row.session_id),
    machineId: machineId(row.machine_id),
    epoch: row.epoch,
    anew: row.anew,
  };
}

/**
 * Leases of `kinds` that `coordinator` has held since before `before` and that are not parked. Those that it does not
 * work on got lost on their way to it.
 */
export async function heldLeases(
  sql: Sql,
  coordinator: CoordinatorId,
  kinds: readonly LeaseKind[],
  before: EpochMs,
): Promise<Lease[]> {
  const rows = await sql.query<ClaimRow & { id: number }>(
    `select l.id, l.kind, l.class, l.queue, l.provenance, l.wanted_at, l.session_id, l.machine_id, l.epoch, false as anew
     from lease l join session s on s.id = l.session_id
     where l.state = 'held' and l.parked_until is null and s.coordinator_id = $1 and l.held_at < $2 and l.kind = any ($3::text[]) order by l.id`,
    [coordinator, at(before), kinds],
  );
  return rows.map(leaseOf);
}

/** A lease in the epoch in which its holder knows it. */
export type Held = Pick<Lease, "id" | "epoch">;

/**
 * Ends a lease that nothing depends on, so that its session may claim again. With a session, only a lease of that
 * session.
 */
export async function endLease(
  sql: Sql,
  { id, epoch, sessionId: session }: Held & Partial<Pick<Lease, "sessionId">>,
  now: EpochMs,
  reason: string,
): Promise<void> {
  await sql.query(
    `update lease set state = 'ended', ended_at = $2, end_reason = $3
     where id = $1 and state <> 'ended' and epoch = $4 and ($5::text is null or session_id = $5)`,
    [id, at(now), reason, epoch, session ?? null],
  );
}

/**
 * Those of `held` that can never be driven again in that epoch: they have ended or were adopted. A parked lease may go
 * on.
 */
export async function lostLeases(sql: Sql, held: readonly Held[]): Promise<LeaseId[]> {
  const rows = await sql.query<{ id: number }>(
    `select l.id from unnest($1::bigint[], $2::integer[]) as h (id, epoch) join lease l on l.id = h.id
     where l.state <> 'held' or l.epoch <> h.epoch`,
    [held.map(({ id }) => id), held.map(({ epoch }) => epoch)],
  );
  return rows.map((row) => leaseId(row.id));
}

/** Whether the lease goes on without the driver that knows it as `held`. */
export async function goesOnElsewhere(sql: Sql, { id, epoch }: Held): Promise<boolean> {
  const rows = await sql.query(
    "select from lease where id = $1 and state = 'held' and (epoch <> $2 or parked_until is not null)",
    [id, epoch],
  );
  return rows.length > 0;
}

/** Whether the session still holds a lease, although the coordinator that worked over it has ended its own. */
export async function sessionHolds(sql: Sql, session: SessionId): Promise<boolean> {
  const rows = await sql.query("select from lease where session_id = $1 and state = 'held'", [session]);
  return rows.length > 0;
}

/** How many machines of a host type may be given work, not counting those in `except`. */
export async function otherMachines(sql: Sql, hostType: string, except: readonly MachineId[]): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `select count(distinct m.id) as count
     from session s join machine m on m.id = s.machine_id join host_type t on t.name = m.host_type
       join coordinator c on c.id = s.coordinator_id
     where m.host_type = $1 and ${MAY_WORK}
       and m.id <> all ($2::bigint[])`,
    [hostType, except],
  );
  return row?.count ?? 0;
}

export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "23505";
}

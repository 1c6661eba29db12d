/**
 * Holds: who wants the machine of a build, with all that is on it, once that fails.
 *
 *   asked   a row, while the client that asked for it waits for the build to end; the last request of its owner has it
 *   kept    the session of the failed attempt holds a lease of kind `gomote` from now on, with an instance that `keeps` what is there
 *   refused with the reason, for whoever waits
 *
 * Whoever ends a build as failed keeps its machine in the same transaction (attempts.ts, test-verdict.ts): one lease ends and the other begins at
 * once, so nothing else takes the machine, and no crash loses it. Asking waits for an end that is under way, and an end sees who asked
 * before: one of the two always knows. A machine that is idle still can be kept later, too, as long as nothing else had it.
 */
import {
  type BuildId,
  type CoordinatorId,
  type EpochMs,
  type Ms,
  minutes,
  ms,
  type PersonId,
  plus,
  type SessionId,
} from "../farm/ids.ts";
import { LEASE_CLASSES } from "../farm/lease.ts";
import { rankOf, starvesAt } from "../schedule/order.ts";
import { instanceName } from "../wire/gomote/gomote.ts";
import { CREATE_LOCK, liveNames, usedUp } from "./gomote.ts";
import { isUniqueViolation } from "./leases.ts";
import { at, type Sql } from "./sql.ts";

/** For a kept machine to be the person's, beyond what it is waited for when it, or who drove it, goes away just then. */
const READY_WITHIN: Ms = minutes(1);
/** Of a hold whose coordinator has ended: whoever waited there asks again for five minutes. */
const ASKED_AGAIN_WITHIN: Ms = minutes(6);

export interface WantedHold {
  readonly build: BuildId;
  readonly request: string;
  readonly owner: PersonId;
  readonly email: string;
  /** The first part of the instance's name. */
  readonly user: string;
  readonly builderType: string;
  readonly hostType: string;
  /** To which the client is connected. */
  readonly coordinator: CoordinatorId;
  readonly perPerson: number;
  /** Null: there is none. */
  readonly perHostType: number | null;
}

/**
 * Undefined: it is asked for from now on. Otherwise the address of whoever asked first. Who asks again takes their own hold over, with what they got
 * meanwhile: they may have been cut off, of which their coordinator has not heard. One whose coordinator has ended asks no more.
 */
export async function askHold(sql: Sql, hold: WantedHold, now: EpochMs): Promise<string | undefined> {
  return sql.tx(async (tx) => {
    // An end of the build that is under way, others who ask, and whoever keeps its machine just now are waited for first: the statement that asks
    // has to see what they did, also in other tables than the row for which it would wait by itself.
    await tx.query("select from build where id = $1 for no key update", [hold.build]);
    await tx.query("select from gomote_hold where build_id = $1 for update", [hold.build]);
    const asked = await tx.query(
      `insert into gomote_hold (build_id, request, owner, email, user_name, builder_type, host_type, coordinator_id, asked_at, per_person, per_host_type)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
       on conflict (build_id) do update set request = excluded.request, owner = excluded.owner, email = excluded.email,
         user_name = excluded.user_name, builder_type = excluded.builder_type, host_type = excluded.host_type,
         coordinator_id = excluded.coordinator_id, asked_at = excluded.asked_at,
         per_person = excluded.per_person, per_host_type = excluded.per_host_type, refusal = null, instance_id = (
           select g.id from gomote_instance g join lease l on l.id = g.lease_id
           where g.id = gomote_hold.instance_id and g.owner = excluded.owner and l.state <> 'ended')
       where gomote_hold.owner = excluded.owner
         or exists (select from coordinator c where c.id = gomote_hold.coordinator_id and c.ended_at is not null)
       returning build_id`,
      [
        hold.build,
        hold.request,
        hold.owner,
        hold.email,
        hold.user,
        hold.builderType,
        hold.hostType,
        hold.coordinator,
        at(now),
        hold.perPerson,
        hold.perHostType,
      ],
    );
    if (asked.length > 0) return undefined;
    const [other] = await tx.query<{ email: string }>("select email from gomote_hold where build_id = $1", [
      hold.build,
    ]);
    return other?.email ?? "somebody else";
  });
}

/** How the build stands, and what became of a hold. */
export interface HoldState {
  readonly state: "scheduled" | "running" | "ended";
  readonly outcome: string | null;
  readonly instance: number | null;
  readonly refusal: string | null;
}

/** Undefined: there is no such hold any more. */
export async function holdState(sql: Sql, request: string): Promise<HoldState | undefined> {
  const [row] = await sql.query<HoldState>(
    `select b.state, b.outcome, h.instance_id as instance, h.refusal from gomote_hold h join build b on b.id = h.build_id where h.request = $1`,
    [request],
  );
  return row;
}

/** Nobody waits for it any more. The instance that it had become; undefined: none, or another request took it over. */
export async function dropHold(sql: Sql, request: string): Promise<number | undefined> {
  const [hold] = await sql.query<{ instance: number | null }>(
    "delete from gomote_hold where request = $1 returning instance_id as instance",
    [request],
  );
  return hold?.instance ?? undefined;
}

/** Of the machine on which a build failed last. */
interface MachineFacts {
  readonly lease: number | null;
  readonly session: SessionId | null;
  readonly machine: string | null;
  readonly resumes: boolean;
  readonly there: boolean;
  readonly given: boolean;
  readonly drained: boolean;
  readonly lent: boolean;
}

interface Facts extends MachineFacts {
  readonly id: number;
  readonly owner: PersonId;
  readonly email: string;
  readonly user: string;
  readonly builderType: string;
  readonly hostType: string;
  readonly perPerson: number;
  readonly perHostType: number | null;
}

/** MachineFacts, of a build `h.build_id`. */
const MACHINE_FACTS = `l.id as lease, s.id as session, m.name as machine, l.instance is not null as resumes,
       coalesce(s.closed_at is null and c.ended_at is null, false) as there,
       exists (select from lease later where later.machine_id = l.machine_id and later.id <> l.id and later.held_at >= l.held_at) as given,
       coalesce(m.drained_at is not null or t.drained_at is not null, false) as drained, coalesce(t.gomote_lent, false) as lent`;
const MACHINE_OF_BUILD = `left join attempt a on a.build_id = h.build_id and a.outcome = 'failure'
       left join lease l on l.id = a.lease_id and l.state = 'ended' left join session s on s.id = l.session_id
       left join coordinator c on c.id = s.coordinator_id left join machine m on m.id = l.machine_id
       left join host_type t on t.name = m.host_type`;

/** Whether the machine of a build that has failed could be kept as things are. */
export async function couldBeKept(sql: Sql, build: number): Promise<boolean> {
  const [facts] = await sql.query<MachineFacts>(
    `select ${MACHINE_FACTS} from (select $1::bigint as build_id) h ${MACHINE_OF_BUILD} order by a.number desc limit 1`,
    [build],
  );
  return facts !== undefined && whyNot(facts) === undefined;
}

/** Why the machine of a failed build cannot be kept, as the end of a sentence. */
function whyNot(facts: MachineFacts): string | undefined {
  const { lease, machine, resumes, there, given, drained, lent } = facts;
  if (lease === null) return "no machine ran it to its end";
  if (!resumes) return `${machine} runs an original buildlet, which ends with its build`;
  if (!there) return `${machine} has hung up since`;
  if (given) return `${machine} has been given to other work since`;
  if (drained) return `${machine} is drained`;
  return lent ? undefined : "its machines are lent to nobody";
}

const OPEN = "instance_id is null and refusal is null";

/**
 * The machine of a build that has failed becomes an instance of whoever asked for it, or they are refused: within the transaction that ends the
 * build. The session that has the lease of it; undefined: there is none, since nobody has asked, or they have their answer. Who asked at a
 * coordinator that has ended, and has not come back in time, has left: that is all that anybody knows of them.
 */
export async function keepMachine(tx: Sql, build: BuildId, now: EpochMs): Promise<SessionId | undefined> {
  await tx.query(
    `delete from gomote_hold h using coordinator c where h.build_id = $1 and ${OPEN} and c.id = h.coordinator_id and c.ended_at <= $2`,
    [build, at(plus(now, ms(-ASKED_AGAIN_WITHIN)))],
  );
  const asked = await tx.query(`select from gomote_hold where build_id = $1 and ${OPEN}`, [build]);
  return asked.length === 0 ? undefined : await keep(tx, build, now);
}

/** The same, of a build that has ended already. */
export async function keepMachineLater(sql: Sql, build: BuildId, now: EpochMs): Promise<SessionId | undefined> {
  try {
    return await sql.tx((tx) => keepMachine(tx, build, now));
  } catch (error) {
    // Between the look and the lease the session got another one.
    if (!isUniqueViolation(error)) throw error;
    return await sql.tx((tx) => keepMachine(tx, build, now));
  }
}

async function keep(tx: Sql, build: BuildId, now: EpochMs): Promise<SessionId | undefined> {
  await tx.query("select pg_advisory_xact_lock($1)", [CREATE_LOCK]);
  const [facts] = await tx.query<Facts>(
    `select h.build_id as id, h.owner, h.email, h.user_name as user, h.builder_type as "builderType", h.host_type as "hostType",
       h.per_person as "perPerson", h.per_host_type as "perHostType", ${MACHINE_FACTS}
     from gomote_hold h ${MACHINE_OF_BUILD}
     where h.build_id = $1 and h.instance_id is null and h.refusal is null
     order by a.number desc limit 1 for update of h`,
    [build],
  );
  if (!facts) return undefined;
  const { user, builderType } = facts;
  const live = await liveNames(tx);
  const refusal = whyNot(facts) ?? usedUp(facts, live);
  if (refusal !== undefined) {
    await tx.query("update gomote_hold set refusal = $2 where build_id = $1", [build, refusal]);
    return undefined;
  }
  const name = instanceName(user, builderType, new Set(live.map((one) => one.name)));
  await tx.query(
    `with h as (select * from gomote_hold where build_id = $1
     ), l as (
       insert into lease (kind, class, queue, flow, provenance, rank, wanted_at, starves_at, state, session_id, machine_id, coordinator_id, instance, held_at, epoch)
       select 'gomote', ${LEASE_CLASSES.gomote}, h.host_type, h.owner, 'unreviewed', $3, $4, $5, 'held', s.id, s.machine_id, s.coordinator_id, s.instance, $4, 1
       from h, lease before join session s on s.id = before.session_id where before.id = $2 returning id
     ), g as (
       insert into gomote_instance (request, lease_id, name, owner, email, builder_type, host_type, coordinator_id, created_at, expires_at, keeps, build_id)
       select h.request, l.id, $6, h.owner, h.email, h.builder_type, h.host_type, h.coordinator_id, $4,
         $7::timestamptz + t.reconnect_ms * interval '1 ms', true, h.build_id
       from h join host_type t on t.name = h.host_type, l returning id
     ), a as (
       insert into audit (at, who, action, subject, detail)
       select $4, email, 'gomote hold', 'gomote:' || $6, 'the machine of build ' || build_id from h
     )
     update gomote_hold set instance_id = g.id from g where build_id = $1`,
    [
      build,
      facts.lease,
      rankOf("gomote", now, now),
      at(now),
      at(starvesAt("gomote", now)),
      name,
      at(plus(now, READY_WITHIN)),
    ],
  );
  return facts.session ?? undefined;
}

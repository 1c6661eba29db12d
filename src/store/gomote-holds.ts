/**
 * Holds: people who want the machine of a build, with everything on it, if that build fails.
 *
 *   asked    a row, while the client that asked for it waits for the build to end; its owner's last request has it
 *   kept     the session of the failed attempt holds a lease of kind `gomote` from now on, with an instance that
 *            `keeps` what is on the machine
 *   refused  with the reason, for the client that waits
 *
 * The transaction that ends a build as failed also keeps its machine (attempts.ts, test-verdict.ts). One lease ends and
 * the other begins at once, so nothing else takes the machine, and no crash loses it.
 *
 * Asking waits for an end that is under way, and an end sees who asked before: one of the two always knows of the
 * other. A machine can also be kept after the build has ended, as long as it is idle and nothing else had it.
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

/** How long a kept machine may take to be ready, on top of the time that its host type gives it to come back. */
const READY_WITHIN: Ms = minutes(1);
/** How long a hold outlives its coordinator. The client that waited there asks again for five minutes. */
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
  /** The coordinator that the client is connected to. */
  readonly coordinator: CoordinatorId;
  readonly perPerson: number;
  /** The quota of the host type. Null: it has none. */
  readonly perHostType: number | null;
}

/**
 * Asks for the machine of a build. Returns undefined when `hold` has it from now on, otherwise the email address of the
 * person who asked first.
 *
 * A person who asks again takes over their own hold, and the instance that it may have become: they may have been cut
 * off without their coordinator noticing. A hold whose coordinator has ended does not count any more.
 */
export async function askHold(sql: Sql, hold: WantedHold, now: EpochMs): Promise<string | undefined> {
  return sql.tx(async (tx) => {
    // Waits for a transaction that ends the build, asks, or keeps the machine just now. The insert must see what such a
    // transaction wrote, in other tables too; by itself it would wait for one row only.
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

/** How the build stands, and the result of a hold. */
export interface HoldState {
  readonly state: "scheduled" | "running" | "ended";
  readonly outcome: string | null;
  readonly instance: number | null;
  readonly refusal: string | null;
}

/** The state of a hold. Undefined: the hold does not exist any more. */
export async function holdState(sql: Sql, request: string): Promise<HoldState | undefined> {
  const [row] = await sql.query<HoldState>(
    `select b.state, b.outcome, h.instance_id as instance, h.refusal from gomote_hold h join build b on b.id = h.build_id where h.request = $1`,
    [request],
  );
  return row;
}

/**
 * Deletes a hold that nobody waits for any more. Returns the instance that it has become. Undefined: it became none, or
 * another request took it over.
 */
export async function dropHold(sql: Sql, request: string): Promise<number | undefined> {
  const [hold] = await sql.query<{ instance: number | null }>(
    "delete from gomote_hold where request = $1 returning instance_id as instance",
    [request],
  );
  return hold?.instance ?? undefined;
}

/** Facts about the machine on which a build failed last. */
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

/** The columns of MachineFacts, for a build `h.build_id`. */
const MACHINE_FACTS = `l.id as lease, s.id as session, m.name as machine, l.instance is not null as resumes,
       coalesce(s.closed_at is null and c.ended_at is null, false) as there,
       exists (select from lease later where later.machine_id = l.machine_id and later.id <> l.id and later.held_at >= l.held_at) as given,
       coalesce(m.drained_at is not null or t.drained_at is not null, false) as drained, coalesce(t.gomote_lent, false) as lent`;
const MACHINE_OF_BUILD = `left join attempt a on a.build_id = h.build_id and a.outcome = 'failure'
       left join lease l on l.id = a.lease_id and l.state = 'ended' left join session s on s.id = l.session_id
       left join coordinator c on c.id = s.coordinator_id left join machine m on m.id = l.machine_id
       left join host_type t on t.name = m.host_type`;

/** Whether the machine of a failed build could be kept, as things are now. */
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
 * Makes the machine of a failed build an instance of the person who asked for it, or stores why not. Call this in the
 * transaction that ends the build.
 *
 * Returns the session that has the lease of the instance. Undefined: nobody has asked, they have their answer already,
 * or they are refused. A person counts as gone when their coordinator has ended and they did not ask again in time:
 * nothing more is known of them.
 */
export async function keepMachine(tx: Sql, build: BuildId, now: EpochMs): Promise<SessionId | undefined> {
  await tx.query(
    `delete from gomote_hold h using coordinator c where h.build_id = $1 and ${OPEN} and c.id = h.coordinator_id and c.ended_at <= $2`,
    [build, at(plus(now, ms(-ASKED_AGAIN_WITHIN)))],
  );
  const asked = await tx.query(`select from gomote_hold where build_id = $1 and ${OPEN}`, [build]);
  return asked.length === 0 ? undefined : await keep(tx, build, now);
}

/** The same as keepMachine(), for a build that has ended already. */
export async function keepMachineLater(sql: Sql, build: BuildId, now: EpochMs): Promise<SessionId | undefined> {
  try {
    return await sql.tx((tx) => keepMachine(tx, build, now));
  } catch (error) {
    // The session got another lease after it was looked at.
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

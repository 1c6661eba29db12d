/**
 * Attempts in the database: begin, step by step, and the end. One statement each, since a farm does these for every build.
 *
 * Fencing: every statement here changes something only while the attempt is still open in the database and its lease is in the epoch
 * that the caller knows. An attempt that was canceled, given up or adopted by another driver cannot write any more, and its owner is
 * told so. Locks are taken in one order, the attempt's before its lease's.
 * Repeating is harmless: a begin finds its own begin, an end finds its own end.
 */
import type { Outcome, Recipe } from "../farm/build.ts";
import { durationText } from "../farm/duration-text.ts";
import {
  type AttemptId,
  attemptId,
  type BuildId,
  buildId,
  type EpochMs,
  epochMs,
  type LogId,
  logId,
  type Ms,
  machineId,
} from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import {
  afterLoss,
  COMMANDS_FROM,
  LOST_ATTEMPTS,
  type LostAttempt,
  type RetryBudget,
  SOURCE_FROM,
  timeOf,
} from "./build-time.ts";
import { type BuildRef, buildRef } from "./builds.ts";
import { keepMachine } from "./gomote-holds.ts";
import { awayUntil, otherMachines } from "./leases.ts";
import { endTests, lockTests } from "./left-tests.ts";
import { endLog, type LogEnd, logEnded, type OpenLog } from "./logs.ts";
import { setAsideIfFailing } from "./set-aside.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part, statement } from "./statement.ts";

/** An attempt that holds its machine and may run. */
export interface Begun {
  readonly attempt: AttemptId;
  readonly number: number;
  readonly build: BuildRef;
  readonly hash: string;
  readonly recipe: Recipe;
  /** When it began; earlier than now for one that is taken up again. */
  readonly startedAt: EpochMs;
  /** From when on the time of its step 0 counts (build-time.ts). */
  readonly sourceFrom: EpochMs;
  /** From when on the time of its commands counts; undefined: it is at step 0. */
  readonly commandsFrom: EpochMs | undefined;
  /** The step to go on with: 0 for an attempt that has only begun, one more than there are when all have ended. */
  readonly at: number;
  /** Of that step, with what a driver before stored of it; undefined when all have ended. */
  readonly log: OpenLog | undefined;
}

interface BegunRow {
  attempt: number;
  number: number;
  id: number;
  repo: string;
  commit_id: number;
  builder: string;
  host_type: string;
  hash: string;
  recipe: Recipe;
  started_at: number;
  source_from: number;
  commands_from: number | null;
  at: number;
  log_id: number | null;
  length: number;
  lines: number;
}

/**
 * The attempt behind `lease` runs from now on, its build too, and all its steps have rows, the first one a log. One that ran
 * before goes on with the first step that has not ended, whose log only the driver of this epoch writes from now on.
 * undefined: the lease or the attempt was ended in the meantime, or the lease adopted by another.
 */
export async function beginAttempt(sql: Sql, lease: Lease, now: EpochMs): Promise<Begun | undefined> {
  const [row] = await sql.query<BegunRow>(
    `with mine as (
       select a.id, l.machine_id from attempt a join lease l on l.id = a.lease_id
       where a.lease_id = $1 and a.state in ('waiting', 'running') and l.state = 'held' and l.session_id = $2 and l.epoch = $4
       for update of a, l
     ), a as (
       update attempt set state = 'running', machine_id = mine.machine_id, started_at = coalesce(attempt.started_at, $3)
       from mine where attempt.id = mine.id
       returning attempt.id, attempt.build_id, attempt.number, attempt.lease_id, attempt.started_at
     ), b as (
       update build set state = 'running', started_at = coalesce(build.started_at, $3)
       from a where build.id = a.build_id and build.state <> 'ended'
       returning build.id, build.repo, build.commit_id, build.builder, build.host_type, build.recipe
     ), log0 as (
       insert into log (epoch) select $4 from a where not exists (select from step where attempt_id = a.id) returning id
     ), s as (
       insert into step (attempt_id, number, name, log_id, started_at)
       select a.id, 0, 'source', log0.id, $3::timestamptz from a, log0
       union all
       select a.id, each.number, each.step ->> 'name', null, null
       from a, log0, b join recipe on recipe.digest = b.recipe,
         jsonb_array_elements(recipe.body -> 'steps' || case when recipe.body ? 'tests' then '[{"name": "tests"}]' else '[]' end::jsonb)
           with ordinality as each (step, number)
     ), unended as (
       select s.number, s.log_id from a join step s on s.attempt_id = a.id where s.ended_at is null order by s.number limit 1
     ), taken as (
       update log set epoch = $4 from unended where log.id = unended.log_id and not log.ended returning log.id, log.length, log.lines
     )
     select a.id as attempt, a.number, a.started_at, ${SOURCE_FROM} as source_from, ${COMMANDS_FROM} as commands_from,
       b.id, b.repo, b.commit_id, b.builder, b.host_type, c.hash, r.body as recipe,
       coalesce(
         (select number from unended),
         case when exists (select from log0) then 0 else jsonb_array_length(r.body -> 'steps') + 1 end
       ) as at,
       coalesce(log0.id, taken.id) as log_id, coalesce(taken.length, 0) as length, coalesce(taken.lines, 0) as lines
     from a, b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe
       left join log0 on true left join taken on true`,
    [lease.id, lease.sessionId, at(now), lease.epoch],
  );
  if (!row) return undefined;
  const { length, lines } = row;
  return {
    attempt: attemptId(row.attempt),
    number: row.number,
    build: buildRef(row),
    hash: row.hash,
    recipe: row.recipe,
    startedAt: epochMs(row.started_at),
    sourceFrom: epochMs(row.source_from),
    commandsFrom: row.commands_from === null ? undefined : epochMs(row.commands_from),
    at: row.at,
    log: row.log_id === null ? undefined : { id: logId(row.log_id), epoch: lease.epoch, length, lines },
  };
}

export interface StepEnd {
  readonly attempt: AttemptId;
  /** Of the lease, as the driver knows it. */
  readonly epoch: number;
  readonly number: number;
  readonly status: string;
  readonly outcome: Outcome;
}

/** `live`, the attempt while it runs in the epoch of whoever ends its step, and the end of its log only then. */
function whileLive({ attempt, epoch }: StepEnd, end: LogEnd | undefined): Part {
  return part`live as (
    select a.id, l.away from attempt a join lease l on l.id = a.lease_id
    where a.id = ${attempt} and a.state = 'running' and l.state = 'held' and l.epoch = ${epoch} for update of a, l
  ), ${logEnded(end, part`exists (select from live)`)}`;
}

/**
 * A step ended well and the next one begins: returns the next one's log, or undefined when the attempt is not live any more. The next
 * one's row is locked to be read: a try of ours whose connection broke may have given it its log while this one waited.
 */
export async function nextStep(
  sql: Sql,
  step: StepEnd,
  end: LogEnd | undefined,
  now: EpochMs,
): Promise<LogId | undefined> {
  const { epoch, number, status, outcome } = step;
  const [row] = await sql.query<{ log_id: number | null }>(
    ...statement`with ${whileLive(step, end)}, ended as (
       update step set status = ${status}, outcome = ${outcome}, ended_at = ${at(now)}, away = nullif(live.away, '0')
       from live where attempt_id = live.id and number = ${number} and ended_at is null
     ), following as (
       select s.attempt_id, s.number, s.log_id from live join step s on s.attempt_id = live.id
       where s.number > ${number} order by s.number limit 1 for update of s
     ), new_log as (
       insert into log (epoch) select ${epoch}::integer from following where log_id is null returning id
     ), started as (
       update step set log_id = new_log.id, started_at = ${at(now)}
       from following, new_log
       where step.attempt_id = following.attempt_id and step.number = following.number and step.log_id is null
     )
     select coalesce((select id from new_log), log_id) as log_id from following`,
  );
  return row?.log_id ? logId(row.log_id) : undefined;
}

export interface Verdict {
  readonly outcome: "success" | "failure";
  readonly reason: string | null;
  readonly failedStep: string | null;
}

/**
 * The last step, its log, the attempt, the build and the lease end together, and with them what is left of its tests, if it `hasTests`: an
 * attempt before this one may have begun them. Where it failed, whoever waits for that has the machine from then on. False: the attempt was
 * not live any more.
 */
export async function endAttempt(
  sql: Sql,
  step: StepEnd,
  end: LogEnd | undefined,
  verdict: Verdict,
  hasTests: boolean,
  now: EpochMs,
): Promise<boolean> {
  const { outcome, reason, failedStep } = verdict;
  const finish = async (by: Sql): Promise<BuildId | undefined> => {
    const [row] = await by.query<{ build: number }>(
      ...statement`with ${whileLive(step, end)}, a as (
         update attempt set state = 'ended', outcome = ${outcome}, reason = ${reason}, ended_at = ${at(now)}
         from live where attempt.id = live.id returning attempt.id, attempt.build_id, attempt.lease_id
       ), s as (
         update step set status = ${step.status}, outcome = ${step.outcome}, ended_at = ${at(now)}
         from a where attempt_id = a.id and number = ${step.number} and step.ended_at is null
       ), b as (
         update build set state = 'ended', outcome = ${outcome}, reason = ${reason}, failed_step = ${failedStep}, ended_at = ${at(now)}
         from a where build.id = a.build_id and build.state <> 'ended'
       ), l as (
         update lease set state = 'ended', end_reason = ${outcome}, ended_at = ${at(now)}
         from a where lease.id = a.lease_id and lease.state <> 'ended'
       )
       select build_id as build from a
       union all
       select build_id from attempt where id = ${step.attempt} and state = 'ended' and outcome = ${outcome} and ended_at = ${at(now)}`,
    );
    return row && buildId(row.build);
  };
  // As with the chunks of a log (logs.ts): a try of ours may have ended it while this one waited.
  const finished = async (by: Sql): Promise<BuildId | undefined> => (await finish(by)) ?? (await finish(by));
  const failed = outcome === "failure";
  if (!hasTests && !failed) return (await finished(sql)) !== undefined;
  return sql.tx(async (tx) => {
    if (hasTests) await lockTests(tx, { attempt: step.attempt });
    const build = await finished(tx);
    if (build === undefined) return false;
    if (hasTests) await endTests(tx, [build], reason ?? "its build has ended", now);
    if (failed) await keepMachine(tx, build, now);
    return true;
  });
}

export interface GiveUp {
  readonly attempt: AttemptId;
  /** Of the lease, as whoever gives it up knows it. */
  readonly epoch: number;
  /** A driver gives up what it drives, and nothing that was parked for another to go on with. */
  readonly by: "driver" | "recovery";
  readonly reason: string;
  /** False: the farm's own restart, not charged to the budget. */
  readonly counts: boolean;
  /** The machine went away or broke in the middle of its work. */
  readonly machineFault: boolean;
  readonly end: LogEnd | undefined;
}

export interface RetryPolicy extends RetryBudget {
  /** For so long another machine goes first, where there is one. */
  readonly elsewhereFirst: Ms;
  /** Where there is none: how long the same machine waits, given how many attempts failed. */
  readonly pause: (failed: number) => Ms;
}

export interface GivenUp {
  readonly build: BuildRef;
  /** A new attempt is wanted; false: the budget or the time is spent and the build ended as infra_failure. */
  readonly again: boolean;
}

interface OpenAttempt {
  id: number;
  repo: string;
  commit_id: number;
  builder: string;
  host_type: string;
  number: number;
  lease_id: number;
  machine_id: number | null;
  recipe: Recipe;
}

/**
 * The farm failed an attempt: it ends, and a new one is wanted while the budget and the time of its build last. undefined: it was not live
 * any more.
 */
export async function giveUpAttempt(
  sql: Sql,
  giveUp: GiveUp,
  policy: RetryPolicy,
  now: EpochMs,
): Promise<GivenUp | undefined> {
  return sql.tx(async (tx) => {
    await lockTests(tx, { attempt: giveUp.attempt });
    const [open] = await tx.query<OpenAttempt>(
      `with live as (
         select a.id, l.machine_id from attempt a join lease l on l.id = a.lease_id
         where a.id = $1 and a.state <> 'ended' and l.state <> 'ended' and l.epoch = $6 and ($8 or l.parked_until is null)
         for update of a, l
       ), a as (
         update attempt set state = 'ended', outcome = 'infra_failure', reason = $2, counts = $3, machine_fault = $7, ended_at = $4,
           machine_id = coalesce(attempt.machine_id, live.machine_id)
         from live where attempt.id = live.id
         returning attempt.id, attempt.build_id, attempt.number, attempt.lease_id, attempt.machine_id
       ), s as (
         update step set outcome = 'infra_failure', status = $2, ended_at = $4
         from a where attempt_id = a.id and step.started_at is not null and step.ended_at is null returning log_id
       ), logs as (
         update log set ended = true from s where log.id = s.log_id and not log.ended and log.id <> $5
       ), l as (
         update lease set state = 'ended', end_reason = $2, ended_at = $4, away = away + ${awayUntil("$4")}
         from a where lease.id = a.lease_id and lease.state <> 'ended'
       )
       select b.id, b.repo, b.commit_id, b.builder, b.host_type, a.number, a.lease_id, a.machine_id, r.body as recipe
       from a join build b on b.id = a.build_id join recipe r on r.digest = b.recipe`,
      [
        giveUp.attempt,
        giveUp.reason,
        giveUp.counts,
        at(now),
        giveUp.end?.id ?? 0,
        giveUp.epoch,
        giveUp.machineFault,
        giveUp.by === "recovery",
      ],
    );
    if (!open) return ownGiveUp(tx, giveUp, now);
    if (giveUp.end) await endLog(tx, giveUp.end);
    if (giveUp.machineFault && open.machine_id !== null) {
      await setAsideIfFailing(tx, machineId(open.machine_id), giveUp.reason, now);
    }
    const build = buildRef(open);
    const lost = await tx.query<LostAttempt & { machine: number | null }>(LOST_ATTEMPTS, [build.id]);
    const limit = timeOf(open.recipe);
    const next = afterLoss(lost, open.number, limit, policy);
    const again = next === "again";
    if (!again) {
      const late = `; it is not tried again: the farm has used up the ${durationText(limit)} of the build`;
      const spent = next === "late" ? late : "";
      await tx.query(
        "update build set state = 'ended', outcome = 'infra_failure', reason = $2, ended_at = $3 where id = $1 and state <> 'ended'",
        [build.id, `${giveUp.reason}${spent}`, at(now)],
      );
      await endTests(tx, [build.id], giveUp.reason, now);
      return { build, again };
    }
    const charged = lost.filter(({ counts }) => counts);
    const avoid = [...new Set(charged.flatMap(({ machine }) => machine ?? []))].map(machineId);
    const elsewhere = avoid.length > 0 && (await otherMachines(tx, build.hostType, avoid)) > 0;
    const wait = elsewhere ? policy.elsewhereFirst : policy.pause(charged.length);
    await tx.query(
      `with l as (
         insert into lease (kind, class, queue, flow, repo, release, provenance, rank, wanted_at, starves_at, avoid, avoid_until)
         select kind, class, queue, flow, repo, release, provenance, rank, $3, starves_at, $4::bigint[], $5::timestamptz from lease where id = $2
         returning id
       ), b as (
         update build set state = 'scheduled', started_at = null where id = $1
       )
       insert into attempt (build_id, number, lease_id, created_at) select $1, $6, l.id, $3 from l`,
      [build.id, open.lease_id, at(now), avoid, avoid.length === 0 ? null : new Date(now + wait), open.number + 1],
    );
    return { build, again };
  });
}

/** What came of a try of ours whose answer got lost. */
async function ownGiveUp(tx: Sql, { attempt, reason }: GiveUp, now: EpochMs): Promise<GivenUp | undefined> {
  const [own] = await tx.query<OpenAttempt & { again: boolean }>(
    `select b.id, b.repo, b.commit_id, b.builder, b.host_type,
       exists (select from attempt next where next.build_id = b.id and next.number > a.number) as again
     from attempt a join build b on b.id = a.build_id
     where a.id = $1 and a.state = 'ended' and a.outcome = 'infra_failure' and a.reason = $2 and a.ended_at = $3`,
    [attempt, reason, at(now)],
  );
  return own && { build: buildRef(own), again: own.again };
}

/** Stores the end of a log whose attempt somebody else has ended. False: the attempt is open, and others go on with its log. */
export async function endLeftLog(sql: Sql, attempt: AttemptId, end: LogEnd): Promise<boolean> {
  const ended = await sql.query("select from attempt where id = $1 and state = 'ended'", [attempt]);
  if (ended.length > 0) await endLog(sql, end);
  return ended.length > 0;
}

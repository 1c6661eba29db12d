/**
 * Attempts in the database: how they begin, go on step by step, and end. Each of these is one statement, since a farm
 * executes them for every build.
 *
 * Fencing: a statement here changes something only while the attempt is open in the database and its lease is in the
 * epoch that the caller names. The driver of an attempt that was canceled, given up or adopted by another driver can
 * therefore write nothing more, and its call says so. Locks are taken in one order: the attempt's before its lease's.
 *
 * Repeating a call is harmless: a begin finds its own begin, an end finds its own end.
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
  /** When the attempt began. This is earlier than now if it is taken up again. */
  readonly startedAt: EpochMs;
  /** When the time limit of step 0 starts to count (build-time.ts). */
  readonly sourceFrom: EpochMs;
  /** When the time limit of the commands starts to count. Undefined while the attempt is at step 0. */
  readonly commandsFrom: EpochMs | undefined;
  /**
   * The step to go on with: 0 for an attempt that has only begun, one more than there are steps when all have ended.
   */
  readonly at: number;
  /** The log of that step, with what an earlier driver has stored of it. Undefined when all steps have ended. */
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
 * Marks the attempt behind `lease` and its build as running, and inserts rows for all its steps, the first one with a
 * log. An attempt that ran before goes on with the first step that has not ended; from now on only the driver of this
 * epoch writes that step's log.
 *
 * Returns undefined when the lease or the attempt has ended in the meantime, or when another session has adopted the
 * lease.
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
  /** The epoch of the lease, as the driver knows it. */
  readonly epoch: number;
  readonly number: number;
  readonly status: string;
  readonly outcome: Outcome;
}

/**
 * Finds the attempt while it runs in the epoch of `step` (expression `live`), and stores the end of the log only if it
 * does.
 */
function whileLive({ attempt, epoch }: StepEnd, end: LogEnd | undefined): Part {
  return part`live as (
    select a.id, l.away from attempt a join lease l on l.id = a.lease_id
    where a.id = ${attempt} and a.state = 'running' and l.state = 'held' and l.epoch = ${epoch} for update of a, l
  ), ${logEnded(end, part`exists (select from live)`)}`;
}

/**
 * Ends a step that went well and begins the next one. Returns the log of the next step, or undefined when the attempt
 * is not live any more.
 *
 * The row of the next step is locked before it is read. An earlier try of this call, whose connection broke, may have
 * given it a log while this one waited.
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
 * Ends the last step, its log, the attempt, the build and the lease together. If the build `hasTests`, what is left of
 * them ends too: an attempt before this one may have begun them. If the build failed, the person who asked to keep its
 * machine has it from then on.
 *
 * Returns false when the attempt was not live any more.
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
  // As with the chunks of a log (logs.ts): an earlier try of this call may have ended the attempt while this one
  // waited.
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
  /** The epoch of the lease, as the caller knows it. */
  readonly epoch: number;
  /** "driver": gives up only what is not parked. "recovery": gives up parked attempts too. */
  readonly by: "driver" | "recovery";
  readonly reason: string;
  /**
   * False: the attempt is not charged to the retry budget. The farm's own restart ended it, or its machine was unfit for
   * more tests.
   */
  readonly counts: boolean;
  /** The machine went away or broke in the middle of its work. */
  readonly machineFault: boolean;
  readonly end: LogEnd | undefined;
}

export interface RetryPolicy extends RetryBudget {
  /** How long other machines go first, if there are any. */
  readonly elsewhereFirst: Ms;
  /** How long the same machine waits when there is no other one, given how many attempts have failed. */
  readonly pause: (failed: number) => Ms;
}

export interface GivenUp {
  readonly build: BuildRef;
  /**
   * True: a new attempt is wanted. False: the budget or the time is used up, and the build has ended as infra_failure.
   */
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
 * Ends an attempt that the farm failed. Wants a new one while the budget and the time of its build last.
 *
 * Returns undefined when the attempt was not live any more.
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

/** The result of an earlier try of this call whose answer got lost. */
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

/**
 * Stores the end of a log whose attempt was ended by somebody else. False: the attempt is open, and another driver goes
 * on with its log.
 */
export async function endLeftLog(sql: Sql, attempt: AttemptId, end: LogEnd): Promise<boolean> {
  const ended = await sql.query("select from attempt where id = $1 and state = 'ended'", [attempt]);
  if (ended.length > 0) await endLog(sql, end);
  return ended.length > 0;
}

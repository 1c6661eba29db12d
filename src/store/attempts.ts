/**
 * Attempts in the database: begin, step by step, and the end. One statement each, since a farm does these for every build.
 *
 * Fencing: every statement here changes something only while the attempt is still open in the database. An attempt that was canceled,
 * or given to another coordinator, cannot write any more, and its owner is told so (`live: false`).
 * Repeating is harmless: a begin finds its own begin, an end finds its own end.
 */
import type { Outcome, Recipe } from "../farm/build.ts";
import {
  type AttemptId,
  attemptId,
  type CoordinatorId,
  type EpochMs,
  type LogId,
  logId,
  type Ms,
  machineId,
} from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { type BuildRef, buildRef } from "./builds.ts";
import { otherMachines } from "./leases.ts";
import { END_LOG, endLog, endLogParams, type LogEnd } from "./logs.ts";
import { setAsideIfFailing } from "./set-aside.ts";
import { at, type Sql } from "./sql.ts";

/** An attempt that holds its machine and may run. */
export interface Begun {
  readonly attempt: AttemptId;
  readonly number: number;
  readonly build: BuildRef;
  readonly hash: string;
  readonly recipe: Recipe;
  /** Of step 0. */
  readonly log: LogId;
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
  log_id: number;
}

/**
 * The attempt behind `lease` runs from now on, its build too, and all its steps have rows, the first one a log.
 * undefined: the lease or the attempt was ended in the meantime.
 */
export async function beginAttempt(sql: Sql, lease: Lease, now: EpochMs): Promise<Begun | undefined> {
  const [row] = await sql.query<BegunRow>(
    `with a as (
       update attempt set state = 'running', machine_id = l.machine_id, started_at = coalesce(attempt.started_at, $3)
       from lease l
       where attempt.lease_id = $1 and attempt.state in ('waiting', 'running') and l.id = $1 and l.state = 'held' and l.session_id = $2
       returning attempt.id, attempt.build_id, attempt.number
     ), b as (
       update build set state = 'running', started_at = $3 from a where build.id = a.build_id and build.state <> 'ended'
       returning build.id, build.repo, build.commit_id, build.builder, build.host_type, build.recipe
     ), log0 as (
       insert into log (length) select 0 from a where not exists (select from step where attempt_id = a.id) returning id
     ), s as (
       insert into step (attempt_id, number, name, log_id, started_at)
       select a.id, 0, 'source', log0.id, $3::timestamptz from a, log0
       union all
       select a.id, each.number, each.step ->> 'name', null, null
       from a, log0, b join recipe on recipe.digest = b.recipe,
         jsonb_array_elements(recipe.body -> 'steps') with ordinality as each (step, number)
     )
     select a.id as attempt, a.number, b.id, b.repo, b.commit_id, b.builder, b.host_type, c.hash, r.body as recipe,
       coalesce((select id from log0), (select log_id from step where attempt_id = a.id and number = 0)) as log_id
     from a, b join commit c on c.id = b.commit_id join recipe r on r.digest = b.recipe`,
    [lease.id, lease.sessionId, at(now)],
  );
  if (!row) return undefined;
  return {
    attempt: attemptId(row.attempt),
    number: row.number,
    build: buildRef(row),
    hash: row.hash,
    recipe: row.recipe,
    log: logId(row.log_id),
  };
}

export interface StepEnd {
  readonly attempt: AttemptId;
  readonly number: number;
  readonly status: string;
  readonly outcome: Outcome;
}

/** A step ended well and the next one begins: returns the next one's log, or undefined when the attempt is not live any more. */
export async function nextStep(
  sql: Sql,
  step: StepEnd,
  end: LogEnd | undefined,
  now: EpochMs,
): Promise<LogId | undefined> {
  const [row] = await sql.query<{ log_id: number | null }>(
    `with ${END_LOG}, live as (
       select id from attempt where id = $10 and state = 'running' for share
     ), ended as (
       update step set status = $12, outcome = $13, ended_at = $14
       from live where attempt_id = live.id and number = $11 and ended_at is null
     ), new_log as (
       insert into log (length)
       select 0 from live, step s where s.attempt_id = live.id and s.number = $11 + 1 and s.log_id is null returning id
     ), started as (
       update step set log_id = new_log.id, started_at = $14
       from live, new_log where attempt_id = live.id and number = $11 + 1 and log_id is null
     )
     select coalesce((select id from new_log), s.log_id) as log_id
     from live join step s on s.attempt_id = live.id and s.number = $11 + 1`,
    [...endLogParams(end), step.attempt, step.number, step.status, step.outcome, at(now)],
  );
  return row?.log_id ? logId(row.log_id) : undefined;
}

export interface Verdict {
  readonly outcome: "success" | "failure";
  readonly reason: string | null;
  readonly failedStep: string | null;
}

/** The last step, its log, the attempt, the build and the lease end together. False: the attempt was not live any more. */
export async function endAttempt(
  sql: Sql,
  step: StepEnd,
  end: LogEnd | undefined,
  verdict: Verdict,
  now: EpochMs,
): Promise<boolean> {
  const [row] = await sql.query<{ live: boolean }>(
    `with ${END_LOG}, a as (
       update attempt set state = 'ended', outcome = $15, reason = $16, ended_at = $14
       where id = $10 and state = 'running' returning id, build_id, lease_id
     ), s as (
       update step set status = $12, outcome = $13, ended_at = $14
       from a where attempt_id = a.id and number = $11 and step.ended_at is null
     ), b as (
       update build set state = 'ended', outcome = $15, reason = $16, failed_step = $17, ended_at = $14
       from a where build.id = a.build_id and build.state <> 'ended'
     ), l as (
       update lease set state = 'ended', end_reason = $15, ended_at = $14
       from a where lease.id = a.lease_id and lease.state <> 'ended'
     )
     select exists (select from a)
       or exists (select from attempt where id = $10 and state = 'ended' and outcome = $15 and ended_at = $14) as live`,
    [
      ...endLogParams(end),
      step.attempt,
      step.number,
      step.status,
      step.outcome,
      at(now),
      verdict.outcome,
      verdict.reason,
      verdict.failedStep,
    ],
  );
  return row?.live ?? false;
}

export interface GiveUp {
  readonly attempt: AttemptId;
  readonly reason: string;
  /** False: the farm's own restart, not charged to the budget. */
  readonly counts: boolean;
  /** The machine went away or broke in the middle of its work. */
  readonly machineFault: boolean;
  readonly end: LogEnd | undefined;
}

export interface RetryPolicy {
  /** Infra failures that are tried again. */
  readonly retries: number;
  /** Attempts of one build, whatever ended them. */
  readonly attempts: number;
  /** For so long another machine goes first, where there is one. */
  readonly elsewhereFirst: Ms;
  /** Where there is none: how long the same machine waits, given how many attempts failed. */
  readonly pause: (failed: number) => Ms;
}

export interface GivenUp {
  readonly build: BuildRef;
  /** A new attempt is wanted; false: the budget is spent and the build ended as infra_failure. */
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
}

/** The farm failed an attempt: it ends, and a new one is wanted while the budget lasts. undefined: it was not live any more. */
export async function giveUpAttempt(
  sql: Sql,
  giveUp: GiveUp,
  policy: RetryPolicy,
  now: EpochMs,
): Promise<GivenUp | undefined> {
  return sql.tx(async (tx) => {
    if (giveUp.end) await endLog(tx, giveUp.end);
    const [open] = await tx.query<OpenAttempt>(
      `with a as (
         update attempt set state = 'ended', outcome = 'infra_failure', reason = $2, counts = $3, machine_fault = $6, ended_at = $4,
           machine_id = coalesce(attempt.machine_id, l.machine_id)
         from lease l where attempt.id = $1 and attempt.state <> 'ended' and l.id = attempt.lease_id
         returning attempt.id, attempt.build_id, attempt.number, attempt.lease_id
       ), s as (
         update step set outcome = 'infra_failure', status = $2, ended_at = $4
         from a where attempt_id = a.id and step.started_at is not null and step.ended_at is null returning log_id
       ), logs as (
         update log set ended = true from s where log.id = s.log_id and not log.ended and log.id <> $5
       ), l as (
         update lease set state = 'ended', end_reason = $2, ended_at = $4 from a where lease.id = a.lease_id and lease.state <> 'ended'
       )
       select b.id, b.repo, b.commit_id, b.builder, b.host_type, a.number, a.lease_id from a join build b on b.id = a.build_id`,
      [giveUp.attempt, giveUp.reason, giveUp.counts, at(now), giveUp.end?.id ?? 0, giveUp.machineFault],
    );
    if (!open) return undefined;
    if (giveUp.machineFault) await setAsideIfFailing(tx, giveUp.attempt, now);
    const build = buildRef(open);
    const [past] = await tx.query<{ charged: number; machines: number[] }>(
      `select count(*) filter (where counts) as charged,
         coalesce(array_agg(distinct machine_id) filter (where counts and machine_id is not null), '{}') as machines
       from attempt where build_id = $1 and outcome = 'infra_failure'`,
      [build.id],
    );
    const charged = past?.charged ?? 0;
    const again = charged <= policy.retries && open.number < policy.attempts;
    if (!again) {
      await tx.query(
        `update build set state = 'ended', outcome = 'infra_failure', reason = $2, ended_at = $3 where id = $1 and state <> 'ended'`,
        [build.id, giveUp.reason, at(now)],
      );
      return { build, again };
    }
    const avoid = (past?.machines ?? []).map(machineId);
    const elsewhere = avoid.length > 0 && (await otherMachines(tx, build.hostType, avoid)) > 0;
    const wait = elsewhere ? policy.elsewhereFirst : policy.pause(charged);
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

/** The open attempts that coordinators held which have ended. */
export async function orphanedAttempts(sql: Sql): Promise<{ attempt: AttemptId; coordinator: CoordinatorId }[]> {
  return sql.query(
    `select a.id as attempt, l.coordinator_id as coordinator
     from lease l join coordinator c on c.id = l.coordinator_id join attempt a on a.lease_id = l.id
     where l.state = 'held' and c.ended_at is not null and a.state <> 'ended' order by a.id`,
  );
}

/** Those of `attempts` that are not running any more. */
export async function endedAmong(sql: Sql, attempts: readonly AttemptId[]): Promise<AttemptId[]> {
  const rows = await sql.query<{ id: number }>(
    "select id from attempt where id = any ($1::bigint[]) and state = 'ended'",
    [attempts],
  );
  return rows.map((row) => attemptId(row.id));
}

/**
 * What was left of the tests of a build when it ended: nothing of it goes on, whoever ended the build. Its verdict was written
 * (test-verdict.ts), an attempt ended it before all tests had ended, it was canceled, skipped, or given up by the farm.
 *
 *   tests that had no outcome   are skipped: no turn comes after that (test-turn.ts)
 *   groups that ran             have ended, and their logs
 *   helpers                     are not needed: their leases end
 */
import type { AttemptId, BuildId, EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/** Turns of the tests wait from now on. To be called before the locks that it comes before: those of attempt, build and lease. */
export async function lockTests(
  tx: Sql,
  of: { readonly builds: readonly BuildId[] } | { readonly attempt: AttemptId },
): Promise<void> {
  if ("builds" in of) {
    await tx.query("select from test_run where build_id = any ($1::bigint[]) order by build_id for update", [
      of.builds,
    ]);
  } else {
    await tx.query("select from test_run where build_id = (select build_id from attempt where id = $1) for update", [
      of.attempt,
    ]);
  }
}

/** To be called by whoever has ended `builds`, in the same transaction, after lockTests(). */
export async function endTests(tx: Sql, builds: readonly BuildId[], reason: string, now: EpochMs): Promise<void> {
  await tx.query(
    `with r as (
       update test_run set waiting = 0, running = 0, known_ms = 0, unknown = 0 where build_id = any ($1::bigint[])
     ), t as (
       update test set state = 'ended', outcome = 'skipped' where build_id = any ($1::bigint[]) and state <> 'ended'
     ), g as (
       update test_group set state = 'ended', status = $2, ended_at = $3 where build_id = any ($1::bigint[]) and state = 'running' returning log_id
     ), logs as (
       update log set ended = true from g where log.id = g.log_id and not log.ended
     )
     update lease set state = 'ended', end_reason = $2, ended_at = $3
     where id in (select lease_id from helper where build_id = any ($1::bigint[])) and state <> 'ended'`,
    [builds, reason, at(now)],
  );
}

/**
 * What the time of a build ran out on: tests that run, and those of groups that ended with `status`, which says that it did. Where such a
 * group said which of its tests had begun and not ended, that one, which has failed; else all that it says nothing about.
 */
export async function unendedTests(sql: Sql, build: BuildId, status: string): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    `select t.name from test t join test_group g on g.id = t.group_id
     where t.build_id = $1 and (t.state = 'running' or (g.status = $2 and (t.outcome = 'failure' or (t.state = 'waiting' and
       not exists (select from test f where f.build_id = $1 and f.outcome = 'failure' and f.group_id = g.id)))))
     order by t.number`,
    [build, status],
  );
  return rows.map(({ name }) => name);
}

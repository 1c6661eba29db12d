/**
 * Ends the rest of a build's tests when the build has ended in any way: with a verdict (test-verdict.ts), by an attempt
 * that ended before its tests, canceled, skipped, or given up by the farm.
 *
 *   tests without an outcome    are skipped: no turn comes after that (test-turn.ts)
 *   groups that ran             have ended, and their logs
 *   helpers                     are not needed: their leases end
 */
import type { AttemptId, BuildId, EpochMs } from "../farm/ids.ts";
import { at, type Sql } from "./sql.ts";

/**
 * Makes turns of the tests wait. Call this before taking the locks of attempt, build and lease, which come after it.
 */
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

/** Ends the tests of `builds`. Call this in the transaction that ended the builds, after lockTests(). */
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
 * The tests on which the time of a build ran out: those that run, and those of groups that ended with `status`, which
 * says that the time is up. If such a group reported a test that had begun and not ended, it is that one, which has
 * failed. Otherwise it is all tests that the group has not reported.
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

/**
 * The tests of a build that ended without a verdict of theirs: it was canceled, or skipped, or the farm gave it up. No turn comes after that
 * (test-turn.ts), so what was running then is let go here: its groups have ended, and the tests wait for good.
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

export async function leaveTests(tx: Sql, builds: readonly BuildId[], reason: string, now: EpochMs): Promise<void> {
  await tx.query(
    `with g as (
       update test_group set state = 'ended', status = $2, ended_at = $3 where build_id = any ($1::bigint[]) and state = 'running'
     ), t as (
       update test set state = 'waiting' where build_id = any ($1::bigint[]) and state = 'running'
     )
     update test_run set waiting = waiting + running, running = 0 where build_id = any ($1::bigint[]) and running > 0`,
    [builds, reason, at(now)],
  );
}

/** Gives a build of the seed (seed.ts) tests. */
import type { Sql } from "../../store/sql.ts";
import { HOSTILE, LONG } from "./seed-config.ts";

/** A list of tests: failed, unschedulable, flaky, running and plain ones, and names of every kind. */
export async function seedTests(sql: Sql, build: number, machine: number, log: number, count = 250): Promise<void> {
  const [group] = await sql.query<{ id: number }>(
    `insert into test_group (build_id, lease_id, machine_id, log_id, tests, nonce, state, status, started_at, ended_at)
     select $1, a.lease_id, $2, $3, '{1}', 'n', 'ended', 'exit status 1', now(), now() from attempt a where a.build_id = $1 order by number limit 1
     returning id`,
    [build, machine, log],
  );
  await sql.query(
    `insert into test (build_id, number, name, expected_ms, state, outcome, failures, losses, group_id, duration_ms, from_byte, to_byte,
       failed_group, failed_from, failed_to)
     select $1, n,
       case n when 1 then 'parser/TestQuotes' when 2 then $4 when 3 then 'net/TestLost' when 4 then $5 else 'pkg/Test' || n end,
       case when n % 3 = 0 then null else n * 10 end, case n when 6 then 'running' else 'ended' end,
       case n when 1 then 'failure' when 2 then 'failure' when 3 then 'unschedulable' when 4 then 'flaky' when 5 then 'skipped' when 6 then null else 'success' end,
       case when n in (1, 2) then 2 when n = 4 then 1 else 0 end, case n when 3 then 3 else 0 end, $3::bigint, n * 11, 0, 200,
       case when n in (1, 2, 4) then $3::bigint end, case when n in (1, 2, 4) then 0 end, case when n in (1, 2, 4) then 200 end
     from generate_series(1, $2::integer) n`,
    [build, count, group?.id, `${HOSTILE} ${LONG}`, "unicode/Тест \u202e naïve 🙂"],
  );
  await sql.query(
    `insert into test_run (build_id, listed_at, total, waiting, running, failed, flaky, known_ms, unknown) values ($1, now(), $2, 0, 1, 3, 1, 0, 0)`,
    [build, count],
  );
}

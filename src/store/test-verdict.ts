/** The verdict of a build whose last test has ended. */
import { keepMachine } from "./gomote-holds.ts";
import { endTests } from "./left-tests.ts";
import { at } from "./sql.ts";
import { statement } from "./statement.ts";
import { linesStored, lossesText, lostLine, type RunningGroup, shown } from "./test-lines.ts";
import type { TestCounts, TestRun, Turn } from "./test-run.ts";

/** A test that was lost with so many machines fails the build. */
export const LOSSES = 3;

/** How a group ended whose tests ran twice. */
const OTHERS_WERE_FIRST = "others had ended its tests";

/** The build, its attempt, the step of its tests, and all its leases end together; whoever waits for its failure has its machine from then on. */
export async function writeVerdict({ tx, run, said, now }: Turn): Promise<TestCounts> {
  const { build, counts } = run;
  const [bad] = await tx.query<{ name: string; outcome: string }>(
    `select name, outcome from test where build_id = $1 and outcome in ('failure', 'unschedulable') order by outcome desc, number limit 1`,
    [build],
  );
  const outcome = bad ? "failure" : "success";
  const running = await tx.query<RunningGroup>(
    `select m.name as machine, cardinality(g.tests) as count, (select name from test where build_id = $1 and number = g.tests[1]) as first
     from test_group g join machine m on m.id = g.machine_id
     where g.build_id = $1 and g.state = 'running' order by g.id`,
    [build],
  );
  const stopped = running.map((group) => lostLine(group, OTHERS_WERE_FIRST));
  await tx.query(
    ...statement`with ${linesStored(build, [...said, ...stopped])}
      select id from attempt where build_id = ${build} and state <> 'ended' order by id for update`,
  );
  await tx.query(
    `with r as (
       update test_run set failed = $5, flaky = $6, stopped = $7, ended_at = $4 where build_id = $1
     ), a as (
       update attempt set state = 'ended', outcome = $2, reason = $3, ended_at = $4
       where build_id = $1 and state <> 'ended' returning id, lease_id
     ), s as (
       update step set outcome = case when last.number = step.number then $2 else 'canceled' end,
         status = case when last.number = step.number then coalesce($3, 'ok') else 'others had run the tests' end, ended_at = $4
       from a, lateral (select max(number) as number from step where attempt_id = a.id) last
       where step.attempt_id = a.id and step.started_at is not null and step.ended_at is null
     ), b as (
       update build set state = 'ended', outcome = $2, reason = $3, failed_step = case when $2 = 'failure' then 'tests' end, flaky_tests = $6, ended_at = $4
       where id = $1 and state <> 'ended'
     )
     update lease set state = 'ended', end_reason = 'the tests have ended', ended_at = $4 from a where lease.id = a.lease_id and lease.state <> 'ended'`,
    [build, outcome, bad ? failedText(run, bad) : null, at(now), counts.failed, counts.flaky, run.stopped],
  );
  await endTests(tx, [build], OTHERS_WERE_FIRST, now);
  if (bad) await keepMachine(tx, build, now);
  return { ...counts, ended: run.total };
}

function failedText(
  { counts: { failed, total }, stopped }: TestRun,
  first: { readonly name: string; readonly outcome: string },
): string {
  const why = first.outcome === "unschedulable" ? `, unschedulable: ${lossesText(LOSSES)}` : "";
  const others = failed === 1 ? "" : ` and ${failed - 1} more`;
  return `${failed} of ${total} tests failed: ${shown(first.name)}${why}${others}${stopped ? "; the rest was not run" : ""}`;
}

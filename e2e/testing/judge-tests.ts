/**
 * What always holds of the tests that `tests.sh` ran, whatever was killed meanwhile. Original buildlets may fail a build
 * as the farm's own failure, so that less holds there.
 */
import { expect } from "vitest";
import { OUR_TYPE, type SeveralCoordinators, TESTS } from "./several.ts";

/** Fails the test, saying what does not hold, once all builds have ended. */
export async function judgeTests(farm: SeveralCoordinators): Promise<void> {
  const ended = "b.outcome not in ('canceled', 'skipped') and t.build_id = b.id";
  const ours = `${ended} and b.host_type = '${OUR_TYPE}'`;
  expect({
    unsettled: await farm.rows(
      `select b.id as build, t.name, t.state, t.outcome from build b, test t where ${ended} and t.state <> 'ended'`,
    ),
    listed: await farm.rows(
      `select b.id as build, count(*)::integer as tests from build b, test t where ${ended} group by 1 having count(*) <> ${TESTS.length}`,
    ),
    sums: await farm.rows(
      `select * from (
         select b.id as build, b.outcome, b.flaky_tests, t.total, t.waiting, t.running, t.failed, t.flaky, t.ended_at is not null as over,
           (select count(*) from test where build_id = b.id and outcome in ('failure', 'unschedulable')) as failures,
           (select count(*) from test where build_id = b.id and outcome = 'flaky') as passed_later
         from build b, test_run t where ${ended}) r
       where not over or waiting <> 0 or running <> 0 or total <> ${TESTS.length} or failed <> failures or flaky <> passed_later
         or flaky_tests <> flaky or outcome <> 'infra_failure' and (outcome = 'failure') <> (failures > 0)`,
    ),
    unexplained: await farm.rows(
      `select b.id as build, t.name, t.outcome, t.losses from build b join commit c on c.id = b.commit_id, test t
       where ${ours} and t.losses < 3 and t.outcome <> 'success' and t.name <> 'flaky' and not (t.name = 'broken' and substr(c.message, 2)::integer % 3 = 0)`,
    ),
    running: await farm.rows("select id, build_id, lease_id, tests from test_group where state = 'running'"),
    // A test that failed once was run once more, and no other: groups whose command ended by itself are those that count. Of what was slow, and
    // begun once more elsewhere while it ran, either may have ended: those are left out.
    settledOften: await farm.rows(
      `select b.id as build, t.name, t.outcome, t.failures, (${COUNTED})::integer as groups from build b, test t
       where ${ours} and t.outcome in ('success', 'flaky', 'failure') and (${COUNTED}) <> t.failures + (t.outcome <> 'failure')::integer
         and not exists (
           select from test_group g join test_group h on h.build_id = g.build_id and h.id > g.id and h.started_at < coalesce(g.ended_at, 'infinity')
           where g.build_id = b.id and t.number = any (g.tests) and t.number = any (h.tests))`,
    ),
    ranOften: await testsRanOften(farm),
    helpedWithoutTree: await farm.rows(
      `select g.id, g.build_id from test_group g join helper h on h.lease_id = g.lease_id where not exists (
         select from build b join snapshot s on s.commit_id = b.commit_id and s.builder = b.builder where b.id = g.build_id and s.uses > 0)`,
    ),
  }).toEqual({
    unsettled: [],
    listed: [],
    sums: [],
    unexplained: [],
    running: [],
    settledOften: [],
    ranOften: [],
    helpedWithoutTree: [],
  });
}

const ENDED_BY_ITSELF = "(g.status = 'ok' or g.status like 'exit status %')";
const COUNTED = `select count(*) from test_group g where g.build_id = b.id and t.number = any (g.tests) and ${ENDED_BY_ITSELF}`;

/** Tests that did not run once in a group whose command ended by itself, ran more than once in any, or in one that had not got them. */
async function testsRanOften(farm: SeveralCoordinators): Promise<string[]> {
  const given = await farm.rows<{ run: string; build: number; group: number; ended: boolean }>(
    `select g.nonce || ' ' || t.name as run, g.build_id::integer as build, g.id::integer as group, g.status is not null and ${ENDED_BY_ITSELF} as ended
     from test_group g join test t on t.build_id = g.build_id and t.number = any (g.tests)
       join build b on b.id = g.build_id where b.host_type = '${OUR_TYPE}'`,
  );
  const ran = await farm.testRuns();
  const known = new Set(given.map(({ run }) => run));
  return [
    ...given
      .map(({ run, build, group, ended }) => ({ run, build, group, ended, times: ran.get(run) ?? 0 }))
      .filter(({ ended, times }) => times > 1 || (ended && times === 0))
      .map(({ run, build, group, times }) => `build ${build}, group ${group}: ${run} ran ${times} times`),
    ...[...ran.keys()].filter((run) => !known.has(run)).map((run) => `${run} ran, and nobody gave it`),
  ];
}

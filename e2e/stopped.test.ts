/**
 * A coordinator that is stopped, as by a hypervisor, for longer than the others take it to live, in the middle of a transaction, with the lock
 * that all machines of a build wait for: the others live, the build ends without it, and it ends itself when it runs again.
 */
import pg from "pg";
import { expect, test } from "vitest";
import { until } from "./testing/process.ts";
import { nameOf, OUR_TYPE, SeveralCoordinators, TESTS } from "./testing/several.ts";

const BUILDERS = `[
  { name: "linux-amd64-tests", host: "${OUR_TYPE}", helpers: 2, steps: [{ name: "make", command: ["./work.sh", "make", "1", "0"] }],
    snapshot: {}, tests: { list: "./tests.sh list", run: "./tests.sh run", results: "markers", groupTarget: "1s", unknown: "500ms" } },
]`;

test("a coordinator that is stopped in the middle of a turn until others declare it dead takes nobody with it", {
  timeout: 240_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ coordinators: 2, builders: BUILDERS });
  await using machines = new AsyncDisposableStack();
  for (const name of ["m1", "m2", "m3"]) machines.use(await farm.machine(name));
  const some = (text: string, what: string) =>
    until(
      async () => (await farm.rows(text)).length > 0,
      120_000,
      () => `${what}\n${farm.said()}`,
    );
  await some("select from test_group where ended_at is not null", "a group that ended");

  // Whoever takes a turn now has the lock of its build, and waits for ours.
  const holder = new pg.Client(farm.database.connection);
  await holder.connect();
  await holder.query("begin; lock table test in share row exclusive mode");
  const turn =
    "select application_name as name from pg_stat_activity where wait_event = 'relation' order by query_start";
  await some(turn, "a turn");
  const [{ name } = { name: "" }] = await farm.rows<{ name: string }>(turn);
  const at = name === nameOf(0) ? 0 : 1;
  farm.pauseCoordinator(at, "SIGSTOP");
  await holder.end();
  await some(
    `select from pg_stat_activity where state = 'idle in transaction' and application_name = '${name}'`,
    "a transaction that nobody goes on with",
  );

  farm.balancer.targets = [...farm.running.values()].filter((each) => each.at !== at).map(({ tlsPort }) => tlsPort);
  const stopped = farm.running.get(at)?.process;
  await some(`select from coordinator where pid = ${stopped?.child.pid} and ended_at is not null`, "declared dead");
  await farm.ended(1, 120_000);
  const verdict = () =>
    farm.rows(
      `select b.outcome, r.total, r.waiting, r.running, r.failed, (select count(*)::integer from coordinator where ended_at is null) as living
       from build b join test_run r on r.build_id = b.id`,
    );
  const whole = [{ outcome: "success", total: TESTS.length, waiting: 0, running: 0, failed: 0, living: 1 }];
  expect(await verdict()).toEqual(whole);

  farm.pauseCoordinator(at, "SIGCONT");
  expect(await stopped?.exited).not.toBe("SIGKILL");
  expect(await verdict()).toEqual(whole);
});

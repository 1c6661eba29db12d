/**
 * A farm of three coordinators upgraded one by one under load, to a version with one more migration and another agent: meanwhile old and
 * new run side by side, on a database that is the new one's already. No build is lost or doubled, none is charged for it, no test is lost,
 * and pages and live logs work from any of them.
 */
import { join } from "node:path";
import { expect, test } from "vitest";
import { judgeTests } from "./testing/judge-tests.ts";
import { NEXT_VERSION, nextVersion } from "./testing/next-version.ts";
import { until } from "./testing/process.ts";
import { ORIGINAL_TYPE, OUR_TYPE, outputOf, SeveralCoordinators, TESTS } from "./testing/several.ts";

const LINES = 120;
const BUILDERS = `[
  ...["a", "b"].map((name) => ({ name: "linux-amd64-" + name, host: "${OUR_TYPE}", steps: ["make", "test"].map((step) => ({ name: step, command: ["./work.sh", step, "${LINES}", "0.05"] })) })),
  { name: "linux-amd64-original", host: "${ORIGINAL_TYPE}", steps: [{ name: "make", command: ["./work.sh", "make", "${LINES}", "0.05"] }] },
  { name: "linux-amd64-tests", host: "${OUR_TYPE}", helpers: 2, steps: [{ name: "tree", command: ["./work.sh", "tree", "1", "0"] }], snapshot: {},
    tests: { list: "./tests.sh list", run: "./tests.sh run", results: "markers", groupTarget: "1s", unknown: "500ms" } },
  { name: "linux-amd64-original-tests", host: "${ORIGINAL_TYPE}", helpers: 1, steps: [{ name: "tree", command: ["./work.sh", "tree", "1", "0"] }], snapshot: {},
    tests: { list: ${JSON.stringify(TESTS)}, run: { command: ["./tests.sh", "run"] }, groupTarget: "1s", unknown: "500ms" } },
]`;
const BUILDERS_COUNT = 5;
const PAGES = ["/", "/builders", "/queues", "/machines", "/status", "/b/1", "/b/1/make/log"];

/** Loads pages from whichever coordinators run, until it is told to stop; resolves with those that could not be shown. */
async function visit(farm: SeveralCoordinators, signal: AbortSignal): Promise<string[]> {
  const failed: string[] = [];
  for (let n = 0; !signal.aborted; n++) {
    const running = [...farm.running.values()];
    const coordinator = running[n % running.length];
    const path = PAGES[n % PAGES.length];
    if (!coordinator) continue;
    const status = await fetch(`${coordinator.http}${path}`).then(
      async (response) => {
        await response.text();
        return String(response.status);
      },
      (error: Error) => error.message,
    );
    // One that is being stopped says so, or nothing.
    if (status !== "200" && farm.running.get(coordinator.at) === coordinator) failed.push(`${path}: ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return failed;
}

test("three coordinators are upgraded one by one under load, the first one with a further migration", {
  timeout: 240_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ coordinators: 3, builders: BUILDERS });
  const before = farm.dist;
  const next = await nextVersion(join(farm.folder, "next"));
  await using machines = new AsyncDisposableStack();
  for (const name of ["m1", "m2", "m3", "m4"]) machines.use(await farm.machine(name));
  for (const name of ["o1", "o2"]) machines.use(await farm.original(name));
  const done = new AbortController();
  machines.defer(() => done.abort());
  const visited = visit(farm, done.signal);

  farm.dist = next; // machines that are sent for a newer agent get this one as well
  for (const at of [0, 1, 2]) {
    if (at > 0) await farm.commit();
    let live: { build: number } | undefined;
    await until(
      async () => {
        [live] = await farm.rows<{ build: number }>(
          `select b.id as build from build b join commit c on c.id = b.commit_id join attempt a on a.build_id = b.id join step s on s.attempt_id = a.id
           where b.host_type = '${OUR_TYPE}' and c.message = 'c${farm.commits}' and s.name = 'make' and s.log_id is not null and s.ended_at is null limit 1`,
        );
        return live !== undefined;
      },
      60_000,
      () => `a build of c${farm.commits} that runs\n${farm.said()}`,
    );
    const log = `/b/${live?.build}/make/log`;
    const text = async (http: string, path: string) => (await fetch(`${http}${path}`)).text();
    const others = [...farm.running.values()].filter((each) => each.at !== at);
    const followed = Promise.all(others.map(({ http }) => text(http, `${log}?follow=1`)));
    await farm.stopCoordinator(at, "SIGTERM");
    const { http } = await farm.startCoordinator(at);
    const seen = [...(await followed), await text(http, `${log}?follow=1`)];
    expect(seen).toEqual(Array(3).fill(outputOf("make", LINES)));
    const { page } = JSON.parse(await text(http, "/status?format=json"));
    const newer = page.data.coordinators.filter(({ version }: { version: string }) => version === NEXT_VERSION);
    expect([newer.length, page.data.coordinators.length]).toEqual([at + 1, 3]);
  }
  await farm.ended(farm.commits * BUILDERS_COUNT, 120_000);
  done.abort();
  expect(await visited).toEqual([]);
  expect({
    builds: await farm.rows(
      "select outcome, count(*)::int as n from build where builder <> 'linux-amd64-tests' group by outcome",
    ),
    lost: await farm.rows("select build_id, name, losses from test where losses > 0"),
    verdicts: await farm.rows(
      "select build_id from attempt where outcome in ('success', 'failure') group by build_id having count(*) > 1",
    ),
    charged: await farm.rows("select reason from attempt where outcome = 'infra_failure' and counts"),
    ranOften: [...(await farm.runs())].filter(([, times]) => times !== 1),
    commands: (await farm.runs()).size,
    leases: await farm.number("select count(*) as n from lease where state <> 'ended'"),
    aside: await farm.number("select count(*) as n from machine where set_aside_at is not null"),
  }).toEqual({
    builds: [{ outcome: "success", n: farm.commits * (BUILDERS_COUNT - 1) }],
    lost: [],
    verdicts: [],
    charged: [],
    ranOften: [],
    commands: farm.commits * 5,
    leases: 0,
    aside: 0,
  });

  await judgeTests(farm);

  farm.dist = before;
  await farm.stopCoordinator(0, "SIGTERM");
  await expect(farm.startCoordinator(0, 1)).rejects.toThrow(/its schema is version \d+, this program knows \d+/);
});

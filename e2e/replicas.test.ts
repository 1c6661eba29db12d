/**
 * Three coordinators on one PostgreSQL behind one address: machines' connections arrive anywhere, and whichever is killed or upgraded, no build is
 * lost, none is doubled, and any of them shows any page and follows any log.
 */
import { expect, test } from "vitest";
import { until } from "./testing/process.ts";
import { ORIGINAL_TYPE, OUR_TYPE, outputOf, SeveralCoordinators } from "./testing/several.ts";

const LINES = 40;
const BUILDERS = `[
  ...["a", "b"].map((name) => ({ name: "linux-amd64-" + name, host: "${OUR_TYPE}", steps: ["make", "test"].map((step) => ({ name: step, command: ["./work.sh", step, "${LINES}", "0.05"] })) })),
  { name: "linux-amd64-original", host: "${ORIGINAL_TYPE}", steps: [{ name: "make", command: ["./work.sh", "make", "${LINES}", "0.02"] }] },
]`;

test("three coordinators started at once on an empty database serve one farm, and take turns in being killed and upgraded under load", {
  timeout: 240_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ coordinators: 3, builders: BUILDERS });
  await using machines = new AsyncDisposableStack();
  for (const name of ["m1", "m2", "m3", "m4"]) machines.use(await farm.machine(name));
  machines.use(await farm.original("o1"));
  const get = async (http: string, path: string) => (await fetch(`${http}${path}`)).text();
  const each = () => [...farm.running.values()];

  // One farm: the same coordinators, machines and health, whomever one asks.
  await until(
    async () => (await farm.number("select count(*) as n from session where closed_at is null")) >= 5,
    30_000,
    () => `five machines\n${farm.said()}`,
  );
  for (const { http } of each()) {
    const { page } = JSON.parse(await get(http, "/status?format=json"));
    expect(page.data.coordinators.length).toBe(3);
    expect(page.data.coordinators.filter(({ here }: { here: boolean }) => here).length).toBe(1);
    expect(await get(http, "/status/coordinators")).toBe("ok\n");
    expect(new Set((await get(http, "/status/reverse.json")).match(/"m[1-4]"/g)).size).toBe(4);
  }

  // A log is followed from every coordinator, also from those that do not run the build.
  await until(
    async () =>
      (await farm.number(
        "select count(*) as n from step where name = 'make' and log_id is not null and ended_at is null",
      )) > 0,
    30_000,
    () => `a step that runs\n${farm.said()}`,
  );
  const [live] = await farm.rows<{ build: number }>(
    "select a.build_id as build from step s join attempt a on a.id = s.attempt_id where s.name = 'make' and s.log_id is not null and s.ended_at is null limit 1",
  );
  const followed = await Promise.all(each().map(({ http }) => get(http, `/b/${live?.build}/make/log?follow=1`)));
  expect(followed).toEqual(Array(3).fill(outputOf("make", LINES)));
  await farm.ended(3, 60_000);

  // Each is upgraded, then each is killed, while builds run.
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (const at of [0, 1, 2]) {
      await farm.commit();
      const begun = farm.commits * 3;
      await until(
        async () => (await farm.number("select count(*) as n from attempt where started_at is not null")) >= begun - 1,
        30_000,
        () => `builds of commit ${farm.commits} under way\n${farm.said()}`,
      );
      await farm.stopCoordinator(at, signal);
      await farm.startCoordinator(at);
    }
  }
  await farm.ended(farm.commits * 3, 120_000);
  expect(await farm.rows("select outcome, count(*)::int as n from build group by outcome")).toEqual([
    { outcome: "success", n: farm.commits * 3 },
  ]);
  expect(
    await farm.rows(
      "select build_id from attempt where outcome in ('success', 'failure') group by build_id having count(*) > 1",
    ),
  ).toEqual([]);
  const runs = [...(await farm.runs())].filter(([, times]) => times !== 1);
  expect(runs, JSON.stringify(await farm.retries(), undefined, 1)).toEqual([]);
  expect((await farm.runs()).size).toBe(farm.commits * 4);

  // Every log is what the command wrote, from any coordinator.
  const steps = await farm.rows<{ build: number; name: string }>(
    "select b.id as build, s.name from build b join attempt a on a.build_id = b.id and a.outcome = 'success' join step s on s.attempt_id = a.id and s.number > 0 order by b.id, s.number",
  );
  for (const [index, { build, name }] of steps.entries()) {
    const [{ http } = { http: "" }] = each().slice(index % 3);
    expect(await get(http, `/b/${build}/${name}/log`), `build ${build} ${name}`).toBe(outputOf(name, LINES));
  }
  expect(await farm.number("select count(*) as n from lease where state <> 'ended'")).toBe(0);
  expect(
    await farm.number(
      "select count(*) as n from session s join coordinator c on c.id = s.coordinator_id where s.closed_at is null and c.ended_at is not null",
    ),
  ).toBe(0);
});

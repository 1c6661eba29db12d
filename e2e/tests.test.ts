/**
 * One build's tests on three real machines: the tree made once and handed to the helpers, one helper killed and the coordinator too in the
 * middle, one test that fails and one that only failed first. What the pages say of it, and a rebuild that makes nothing again.
 */
import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { connectionOf } from "../src/store/embedded-server.ts";
import { Process, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";
import { RestartableFarm } from "./testing/restartable.ts";

const HOST = "host-linux-amd64-e2e";
const TESTS = 40;
const NAMES = Array.from({ length: TESTS }, (_, n) => `test ${String(n + 1).padStart(2, "0")}`);
const [FAILS, FLAKES] = ["test 07", "test 11"];

const FILES = {
  make: `#!/bin/bash
echo "make" >> "$RUNS"
mkdir out && echo made > out/tree && head -c 300000 /dev/urandom > out/data
`,
  list: `#!/bin/bash
for n in $(seq -w 1 ${TESTS}); do echo "test $n"; done
`,
  run: `#!/bin/bash
bad=0
for name in "$@"; do
  echo "$BARNRAISER_MARK begin $name"
  echo "$name in $PWD: $(cat out/tree)"
  echo "$name" >> "$RUNS"
  sleep 0.25
  word=pass
  if [ "$name" = "${FAILS}" ]; then word=fail; fi
  if [ "$name" = "${FLAKES}" ] && mkdir "$STATE/flaked" 2>/dev/null; then word=fail; fi
  [ $word = pass ] || bad=1
  echo "$BARNRAISER_MARK $word $name"
done
exit $bad
`,
};

interface TestLine {
  readonly number: number;
  readonly name: string;
  readonly status: string;
  readonly group: number;
  readonly machine: { readonly name: string } | null;
}

test("one build on three machines, through the loss of a helper and of the coordinator", {
  timeout: 120_000,
}, async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await using repository = await Repository.make();
  await repository.commit("First", FILES);
  const runs = join(folder, "runs");
  const builder = {
    name: "linux-amd64",
    host: HOST,
    env: { RUNS: runs, STATE: folder },
    steps: [{ name: "make", command: "./make" }],
    tests: { list: "./list", run: "./run", results: "markers", groupTarget: "1s", unknown: "250ms" },
    snapshot: {},
    helpers: 2,
    tryHelpers: 2,
  };
  await using farm = await RestartableFarm.start({
    folder,
    hostType: HOST,
    repository: repository.path,
    builders: [builder],
  });
  const machines = new Map<string, Process>();
  for (const name of ["m1", "m2", "m3"]) machines.set(name, await farm.machine(name));
  await using stack = new AsyncDisposableStack();
  const db = new pg.Client(await connectionOf(farm.data));
  await db.connect();
  stack.defer(() => db.end().catch(() => {}));
  db.on("error", () => {}); // the database may end with its coordinator

  const query = async (client: pg.Client, text: string) => (await client.query(text)).rows;
  const helping = () =>
    query(
      db,
      `select m.name from test_group g join machine m on m.id = g.machine_id join helper h on h.lease_id = g.lease_id
       where g.state = 'running' order by 1`,
    );
  await until(
    async () => (await helping()).length === 2,
    60_000,
    () => `two helpers at work\n${farm.output}`,
  );
  const [lost] = await helping();
  machines.get(lost.name)?.kill("SIGKILL"); // it does not come back
  await farm.killAndStart();

  const page = async (path: string) =>
    (await fetch(`${farm.pages}${path}${path.includes("?") ? "&" : "?"}format=json`)).json();
  const build = async (id: number) => (await page(`/b/${id}`)).page.data;
  const over = async (id: number): Promise<void> => {
    const reached = async () => ["success", "failure", "flaky"].includes((await build(id)).build.status);
    await until(reached, 60_000, () => `build ${id} to end\n${farm.output}`);
  };
  await over(1);
  const ended = await build(1);
  expect(ended.build.status).toBe("failure");
  expect(ended.tests).toMatchObject({ total: TESTS, ended: TESTS, failed: 1, flaky: 1 });
  const lines: TestLine[] = ended.tests.rows;
  const rest = NAMES.filter((name) => name !== FAILS && name !== FLAKES).map((name) => [name, "success"]);
  const wanted = [[FAILS, "failure"], [FLAKES, "flaky"], ...rest];
  expect(lines.map(({ name, status }) => [name, status])).toEqual(wanted);
  expect(ended.tests.machines.filter(({ helper }: { helper: boolean }) => helper).length).toBe(2);
  for (const { number, name } of lines) {
    const found = await fetch(`${farm.pages}/b/1/test/${number}`, { redirect: "manual" });
    const [, path, line] = /^(.*)\?test=\d+#L(\d+)$/.exec(found.headers.get("location") ?? "") ?? [];
    const shown = await (await fetch(`${farm.pages}${path}/lines?from=${line}&count=1`)).json();
    expect(shown.lines[0]).toMatch(new RegExp(`^${name} in .*: made$`));
  }
  const ran = (await readFile(runs, "utf8")).trim().split("\n");
  expect(ran.filter((line) => line === "make").length).toBe(1); // the helpers had its tree
  expect(new Set(ran)).toEqual(new Set(["make", ...NAMES]));
  expect(ran.filter((line) => line === FAILS).length).toBeGreaterThanOrEqual(2);
  expect(existsSync(join(folder, "flaked"))).toBe(true);

  const asked = Process.program("coordinator.js", ["-data", farm.data, "-rebuild", "1"]);
  expect(await asked.exited, asked.output).toBe(0);
  await over(2);
  expect((await build(2)).build.status).toBe("failure");
  expect((await build(2)).tests).toMatchObject({ total: TESTS, failed: 1, flaky: 0 });
  const rebuilt = (await readFile(runs, "utf8")).trim().split("\n").slice(ran.length);
  expect(rebuilt).not.toContain("make");
});

/**
 * `kill -9` of the coordinator at random points (SEED) while fifty builds run on fifty machines, each a process of its own: every build ends well in
 * its first attempt, each log is byte for byte what its command wrote, and no command ran twice.
 *
 *   fifty builds run -killed KILLS times-> fifty builds run, none the worse -told to end, killed once more-> all have ended
 */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type LogId, seconds } from "../src/farm/ids.ts";
import { Logs } from "../src/logs/logs.ts";
import { openPool, PooledSql } from "../src/store/connection.ts";
import { connectionOf } from "../src/store/embedded-server.ts";
import { systemClock } from "../src/store/system-clock.ts";
import { until } from "./testing/process.ts";
import { random } from "./testing/random.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";
import { RestartableFarm } from "./testing/restartable.ts";

const HOST_TYPE = "host-linux-amd64-e2e";
const BUILDS = 50;
/** So many machines start at a time. */
const WAVE = 10;
const KILLS = 3;
/** Builds whose first command runs. */
const RUNNING = "select from step where name = 'make' and log_id is not null and ended_at is null";
const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);

/** Notes that it ran, and prints lines at an uneven pace, some of them long, until it is told to end; what it prints is kept beside its log. */
const WORK = `#!/bin/bash
echo "$GO_BUILDER_NAME $1" >> "$FOLDER/runs"
say() { echo "$1"; echo "$1" >> "$FOLDER/wrote/$GO_BUILDER_NAME.$STEP"; }
STEP=$1
long=$(head -c 5000 /dev/zero | tr '\\0' 'x')
i=0
until [ $i -ge $2 ] && [ -e "$FOLDER/end" ]; do
  i=$((i + 1))
  say "$GO_BUILDER_NAME $STEP line $i"
  [ $((i % 7)) = 0 ] && say "$long"
  sleep 0.$((RANDOM % 6 + 1))
done
say "$i lines"
`;

test(`the coordinator killed under ${BUILDS} running builds: all finish, logs are what was written, nothing runs twice (SEED=${seed})`, {
  timeout: 240_000,
}, async () => {
  const next = random(seed);
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await using repository = await Repository.make();
  await repository.commit("First", { "work.sh": WORK });
  await mkdir(join(folder, "wrote"));
  const builders = Array.from({ length: BUILDS }, (_, n) => ({
    name: `linux-amd64-b${n}`,
    host: HOST_TYPE,
    env: { FOLDER: folder },
    steps: [
      { name: "make", command: "./work.sh make 20" },
      { name: "test", command: "./work.sh test 5" },
    ],
  }));
  await using farm = await RestartableFarm.start({
    folder,
    hostType: HOST_TYPE,
    repository: repository.path,
    builders,
  });
  await using stack = new AsyncDisposableStack();
  const pool = openPool(await connectionOf(farm.data), { debug() {}, info() {}, warn() {}, error() {} });
  stack.defer(() => pool.end());
  const never = new AbortController().signal;
  const sql = new PooledSql({ pool, clock: systemClock, patience: seconds(20), signal: never });
  const counted = (text: string, count: number) =>
    until(
      async () => (await sql.query(text)).length === count,
      60_000,
      () => `${count} of ${text}\n${farm.output}`,
    );
  for (let n = 0; n < BUILDS; n += WAVE) {
    await Promise.all(Array.from({ length: WAVE }, (_, at) => farm.machine(`m${n + at}`)));
  }
  await counted(RUNNING, BUILDS);
  const killed = async (withinMs: number) => {
    await new Promise((resolve) => setTimeout(resolve, next() * withinMs)); // the random point
    await farm.killAndStart();
  };
  for (let kill = 0; kill < KILLS; kill++) await killed(2000);
  await counted(RUNNING, BUILDS);
  await writeFile(join(folder, "end"), "");
  await killed(1000);
  await counted("select from build where state = 'ended'", BUILDS);

  const builds = await sql.query<{ builder: string; outcome: string; attempts: number; reasons: string }>(
    `select b.builder, b.outcome, count(*) as attempts, string_agg(a.reason, '; ') as reasons
     from build b join attempt a on a.build_id = b.id group by b.id order by b.id`,
  );
  expect(builds).toEqual(
    builders.map(({ name }) => ({ builder: name, outcome: "success", attempts: 1, reasons: null })),
  );
  const ran = (await readFile(join(folder, "runs"), "utf8")).trim().split("\n").sort();
  expect(ran).toEqual(builders.flatMap(({ name }) => [`${name} make`, `${name} test`]).sort());
  await using logs = new Logs({
    sql,
    bus: { publish() {}, subscribe() {} },
    clock: systemClock,
  });
  const steps = await sql.query<{ builder: string; name: string; log: LogId }>(
    `select b.builder, s.name, s.log_id as log from step s join attempt a on a.id = s.attempt_id join build b on b.id = a.build_id
     where s.name <> 'source' order by b.id, s.number`,
  );
  expect(steps.length).toBe(2 * BUILDS);
  for (const { builder, name, log } of steps) {
    const parts: Buffer[] = [];
    for await (const part of logs.read(log)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toBe(await readFile(join(folder, "wrote", `${builder}.${name}`), "utf8"));
  }
});

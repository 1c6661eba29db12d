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
import { builderKey } from "../src/wire/builder-key/builder-key.ts";
import { Process, until } from "./testing/process.ts";
import { random } from "./testing/random.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

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
  const data = join(folder, "farm");
  const config = join(folder, "farm.config.mjs");
  const builders = Array.from({ length: BUILDS }, (_, n) => ({
    name: `linux-amd64-b${n}`,
    host: HOST_TYPE,
    env: { FOLDER: folder },
    steps: [
      { name: "make", command: "./work.sh make 20" },
      { name: "test", command: "./work.sh test 5" },
    ],
  }));
  const farm = {
    repos: [{ name: "app", url: repository.path, poll: "1s" }],
    hosts: [{ hostType: HOST_TYPE, trust: "team" }],
    builders,
  };
  await writeFile(config, `export default ${JSON.stringify(farm)};\n`);
  await writeFile(join(folder, "master.key"), "a master key for tests\n");
  await writeFile(join(folder, "machine.key"), builderKey("a master key for tests", HOST_TYPE), { mode: 0o600 });
  let addresses = { https: "https://127.0.0.1:0", http: "http://127.0.0.1:0" };
  const start = async () => {
    const program = Process.program("coordinator.js", [
      ...["-config", config, "-data", data, "-masterkey", join(folder, "master.key")],
      ...["-listen", new URL(addresses.https).host, "-http", new URL(addresses.http).host],
    ]);
    await program.says(/The farm runs/);
    addresses = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8"));
    return program;
  };
  let coordinator = await start();
  await using stack = new AsyncDisposableStack();
  stack.defer(() => coordinator[Symbol.asyncDispose]());
  const pool = openPool(await connectionOf(data), { debug() {}, info() {}, warn() {}, error() {} });
  stack.defer(() => pool.end());
  const never = new AbortController().signal;
  const sql = new PooledSql({ pool, clock: systemClock, patience: seconds(20), signal: never });
  const machines: Process[] = [];
  const lend = async (n: number) => {
    const work = join(folder, `work${n}`);
    await mkdir(work);
    const flags = [
      `-coordinator=${new URL(addresses.https).host}`,
      `-reverse-type=${HOST_TYPE}`,
      `-hostname=m${n}`,
      `-ca-file=${join(data, "tls/ca.pem")}`,
      `-workdir=${work}`,
      "-health-addr=127.0.0.1:0",
      "-halt=false",
    ];
    const env = { GO_BUILD_KEY_PATH: join(folder, "machine.key") };
    const machine = stack.use(Process.program("agents/buildlet.mjs", flags, { env }));
    machines.push(machine);
    await machine.says(/Registered/);
  };
  const said = () => `\n${coordinator.output}\n${machines.map((machine) => machine.output).join("\n")}`;
  const counted = (text: string, count: number) =>
    until(
      async () => (await sql.query(text)).length === count,
      60_000,
      () => `${count} of ${text}${said()}`,
    );
  for (let n = 0; n < BUILDS; n += WAVE) {
    await Promise.all(Array.from({ length: WAVE }, (_, at) => lend(n + at)));
  }
  await counted(RUNNING, BUILDS);
  const killed = async (withinMs: number) => {
    await new Promise((resolve) => setTimeout(resolve, next() * withinMs)); // the random point
    coordinator.kill("SIGKILL");
    await coordinator.exited;
    coordinator = await start();
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

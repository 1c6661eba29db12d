/**
 * `kill -9` of the coordinator at random points while builds run on machines that other processes lend: every build ends well in its first
 * attempt, each log is byte for byte what its command wrote, and no command ran twice.
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
import { Repository, temporaryFolder } from "./testing/repository.ts";

const HOST_TYPE = "host-linux-amd64-e2e";
const MACHINES = 10;
const BUILDERS = 20;
const KILLS = 4;

/** Prints lines at an uneven pace, some of them long, and notes that it ran. */
const WORK = `#!/bin/bash
echo "$GO_BUILDER_NAME $1" >> "$RUNS"
for i in $(seq 1 "$2"); do
  echo "$GO_BUILDER_NAME $1 line $i"
  if [ $((i % 7)) = 0 ]; then head -c 5000 /dev/zero | tr '\\0' 'x'; echo; fi
  sleep 0.0$((RANDOM % 9 + 1))
done
`;

function written(builder: string, step: string, lines: number): string {
  let text = "";
  for (let i = 1; i <= lines; i++) {
    text += `${builder} ${step} line ${i}\n`;
    if (i % 7 === 0) text += `${"x".repeat(5000)}\n`;
  }
  return text;
}

test(`the coordinator killed ${KILLS} times: all builds finish, logs are what was written, nothing runs twice`, {
  timeout: 240_000,
}, async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await using repository = await Repository.make();
  await repository.commit("First", { "work.sh": WORK });
  const runs = join(folder, "runs");
  const data = join(folder, "farm");
  const config = join(folder, "farm.config.mjs");
  const builders = Array.from({ length: BUILDERS }, (_, n) => ({
    name: `linux-amd64-b${n}`,
    host: HOST_TYPE,
    env: { RUNS: runs },
    steps: [
      { name: "make", command: "./work.sh make 60" },
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
  const machines: Process[] = [];
  for (let n = 0; n < MACHINES; n++) {
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
    machines.push(stack.use(Process.program("agents/buildlet.mjs", flags, { env })));
  }
  await Promise.all(machines.map((machine) => machine.says(/Registered/)));
  for (let kill = 0; kill < KILLS; kill++) {
    await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 2000)); // the random point
    coordinator.kill("SIGKILL");
    await coordinator.exited;
    coordinator = await start();
  }
  const pool = openPool(await connectionOf(data), { debug() {}, info() {}, warn() {}, error() {} });
  stack.defer(() => pool.end());
  const never = new AbortController().signal;
  const sql = new PooledSql({ pool, clock: systemClock, patience: seconds(20), signal: never });
  await until(
    async () => (await sql.query("select from build where state = 'ended'")).length === BUILDERS,
    90_000,
    () => `${BUILDERS} builds ended\n${coordinator.output}\n${machines.map((machine) => machine.output).join("\n")}`,
  );
  const builds = await sql.query<{ builder: string; outcome: string; attempts: number; reasons: string }>(
    `select b.builder, b.outcome, count(*) as attempts, string_agg(a.reason, '; ') as reasons
     from build b join attempt a on a.build_id = b.id group by b.id order by b.id`,
  );
  expect(builds).toEqual(
    builders.map(({ name }) => ({ builder: name, outcome: "success", attempts: 1, reasons: null })),
  );
  const ran = (await readFile(runs, "utf8")).trim().split("\n").sort();
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
  for (const { builder, name, log } of steps) {
    const parts: Buffer[] = [];
    for await (const part of logs.read(log)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toBe(written(builder, name, name === "make" ? 60 : 5));
  }
});

/**
 * `kill -9` of the coordinator at random points, with builds under way: after each restart the farm goes on, no build is lost, and
 * none is counted twice.
 */
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";
import { expect, onTestFinished, test } from "vitest";
import { connectionOf } from "../src/store/embedded-server.ts";
import { Process, until } from "./testing/process.ts";
import { random } from "./testing/random.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

const POINTS = 30;
const COMMITS = 12;

test(`the coordinator killed at ${POINTS} random points loses no build and counts none twice`, {
  timeout: 240_000,
}, async () => {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  const next = random(seed);
  const data = await temporaryFolder();
  onTestFinished(() => rm(data, { recursive: true, force: true }));
  await using repository = await Repository.make();
  await repository.commit("First", { "work.sh": "#!/bin/sh\necho begin\nsleep 0.0$1\necho end\n" });
  const config = join(data, "farm.config.ts");
  const builders = ["a", "b", "c"].map(
    (name) => `{ name: "linux-amd64-${name}", host: "host-linux-amd64-local", steps: ["./work.sh 1", "./work.sh 5"] }`,
  );
  await writeFile(
    config,
    `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s", depth: 100, history: 100 }],
      hosts: [{ hostType: "host-linux-amd64-local", pool: "local" }], builders: [${builders.join(",")}] };\n`,
  );
  const start = () =>
    Process.program("barnraiser.js", [
      "-config",
      config,
      "-data",
      join(data, "farm"),
      "-listen",
      "localhost:0",
      "-http",
      "localhost:0",
    ]);
  try {
    let commits = 1;
    for (let point = 0; point < POINTS; point++) {
      await using farm = start();
      // Half of the points are anywhere in the start, half after it, while builds run.
      if (point % 2 === 0) await farm.says(/pages +http/);
      if (commits < COMMITS) {
        await repository.commit(`Change ${++commits}`);
      }
      await new Promise((resolve) => setTimeout(resolve, next() * 900)); // the random point itself
      farm.kill("SIGKILL");
      await farm.exited;
    }
    await using farm = start();
    await farm.says(/pages +http/);
    const client = new pg.Client(await connectionOf(join(data, "farm")));
    await client.connect();
    try {
      const count = async (text: string) => Number((await client.query(text)).rows[0]?.n);
      const expected = commits * builders.length;
      const ended = () => count("select count(*) as n from build where state = 'ended'");
      await until(
        async () => (await ended()) >= expected,
        60_000,
        () => `${expected} builds ended\n${farm.output}`,
      );
      expect(
        {
          builds: await count("select count(*) as n from build"),
          green: await count("select count(*) as n from build where outcome = 'success'"),
          verdicts: await count("select count(*) as n from attempt where outcome in ('success', 'failure')"),
          open: await count("select count(*) as n from attempt where state <> 'ended'"),
          leases: await count("select count(*) as n from lease where state <> 'ended'"),
          steps: await count(
            `select count(*) as n from step s join attempt a on a.id = s.attempt_id
              where a.outcome = 'success' and s.outcome is distinct from 'success'`,
          ),
        },
        `seed ${seed}`,
      ).toEqual({ builds: expected, green: expected, verdicts: expected, open: 0, leases: 0, steps: 0 });
    } finally {
      await client.end();
    }
  } catch (error) {
    throw new Error(`With SEED=${seed}`, { cause: error });
  }
});

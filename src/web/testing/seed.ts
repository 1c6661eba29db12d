/**
 * A farm with a bit of everything, for tests of pages: green and red builders, a retry, a rebuild that passed, work
 * that runs and waits, machines that are idle, busy, away and drained, and text of every kind that can stand in a name
 * or a message.
 */
import type { FarmConfig } from "../../config/effective.ts";
import type { Sql } from "../../store/sql.ts";
import { BuildSeeder } from "./seed-builds.ts";
import { seedCommits } from "./seed-commits.ts";
import { BUILDERS, HOSTS, seedConfig } from "./seed-config.ts";
import { seedMachines } from "./seed-machines.ts";
import { storyUntil } from "./story.ts";

export interface Seeded {
  readonly config: FarmConfig;
  readonly hashes: readonly string[]; // newest first
  readonly failed: number;
  readonly failedLog: number;
  readonly running: number;
  readonly runningLog: number;
  readonly waiting: number;
  readonly retried: number;
  /** The number of a build that was overtaken before it began. */
  readonly skipped: number;
  readonly machine: { readonly id: number; readonly name: string; readonly hostType: string };
}

/** Writes rows directly, as the farm would have. `now` is the end of the story. */
export async function seedFarm(sql: Sql, now: number, commits: number = 30): Promise<Seeded> {
  const config = seedConfig();
  const story = storyUntil(sql, now);
  const { at } = story;
  const machines = await seedMachines(story, config);
  const made = await seedCommits(story, commits);
  const { hashes, ids } = made;
  const builds = new BuildSeeder(story, made, machines);
  await builds.recipe();
  let failed = { id: 0, log: 0 };
  let [retried, skipped, green, culprit] = [0, 0, 0, 0];
  for (let n = 0; n < commits - 1; n++) {
    for (const [b, builder] of BUILDERS.entries()) {
      if (builder === "windows-amd64") continue;
      const red =
        (builder === "linux-amd64" && n >= commits - 4) || builder === "freebsd-amd64" || (n * 7 + b * 3) % 31 === 0;
      const infra = !red && builder !== "linux-amd64-race" && (n * 5 + b) % 47 === 0;
      const again = builder === "linux-386" && n === commits - 3;
      const minutesAgo = Math.max(5, (commits - n) * 20 - 6);
      if (builder === "linux-386" && n === commits - 6) {
        skipped = await builds.skip(
          (await builds.build({ commit: n, builder, state: "scheduled", minutesAgo })).id,
          commits - 5,
          minutesAgo - 5,
        );
        continue;
      }
      const made = await builds.build({
        commit: n,
        builder,
        state: "ended",
        outcome: red || again ? "failure" : infra ? "infra_failure" : "success",
        minutesAgo,
        ...(infra
          ? { reason: "3 machines closed the connection" }
          : builder === "linux-amd64-race" && n === commits - 2
            ? { reason: "tried again elsewhere" }
            : {}),
        ...(red ? { text: failing(n) } : {}),
      });
      if (builder === "linux-amd64" && n === commits - 2) failed = made;
      if (builder === "linux-amd64" && n === commits - 5) green = made.id;
      if (builder === "linux-amd64" && n === commits - 4) culprit = made.id;
      if (builder === "linux-amd64-race" && n === commits - 2) retried = made.id;
      if (again)
        await builds.build({
          commit: n,
          builder,
          state: "ended",
          outcome: "success",
          rebuildOf: made.id,
          minutesAgo: 20,
        });
    }
  }
  if (culprit !== 0)
    await sql.query(
      `insert into standing (repo, branch, builder, kind, red_build, red_commit, green_build, green_commit, between, changed_at)
       values ('app', 'main', 'linux-amd64', 'commit', $1, $2, $3, $4, 0, $5)`,
      [culprit, ids[commits - 4], green, ids[commits - 5], at(60)],
    );
  const nothing = {
    config,
    hashes: [],
    failed: 0,
    failedLog: 0,
    running: 0,
    runningLog: 0,
    waiting: 0,
    retried: 0,
    skipped: 0,
  };
  const machine = { id: machines.get("riverboard")?.id ?? 0, name: "riverboard", hostType: HOSTS[1] };
  if (commits === 0) return { ...nothing, machine };
  const newest = commits - 1;
  const running = await builds.build({
    commit: newest,
    builder: "linux-riscv64",
    state: "running",
    machine: "riverboard",
    minutesAgo: 2.2,
    text: "=== RUN TestOne\n\u001b[32mok\u001b[0m one\n",
  });
  await builds.build({
    commit: newest,
    builder: "darwin-arm64",
    state: "running",
    machine: "macmini",
    minutesAgo: 1.5,
    text: "compiling\n",
  });
  await builds.build({
    commit: newest,
    builder: "linux-amd64",
    state: "running",
    machine: "shed-1",
    minutesAgo: 0.8,
    text: "compiling\n",
  });
  const waiting = await builds.build({
    commit: newest,
    builder: "darwin-arm64-longtest",
    state: "scheduled",
    minutesAgo: 1.4,
  });
  await builds.build({ commit: newest, builder: "freebsd-amd64", state: "scheduled", minutesAgo: 1.4 });
  return {
    config,
    hashes: hashes.toReversed(),
    failed: failed.id,
    failedLog: failed.log,
    running: running.id,
    runningLog: running.log,
    waiting: waiting.id,
    retried,
    skipped,
    machine,
  };
}

/** 1,300 lines of a test run whose reason is not in the last line. */
function failing(n: number): string {
  const lines: string[] = [];
  for (let i = 1; i <= 1290; i++)
    lines.push(i % 40 === 0 ? `\u001b[32m✓\u001b[0m suite ${i / 40} passed` : `  checking case ${i} of part ${n}`);
  lines.push(
    "\u001b[1;31mparser_test.c:41: error: expected 3, got 4\u001b[0m",
    "  in parse_number()",
    "  in parse_file()",
    "<b>not markup</b> & \u202eright to left",
    "make: *** [test] Error 2",
    "make: leaving directory",
  );
  return `${lines.join("\n")}\n`;
}

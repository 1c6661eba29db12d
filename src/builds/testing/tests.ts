/**
 * A build with tests: its recipe, a machine that knows how each test behaves, and what the database says at the end.
 */
import { vi } from "vitest";
import type { Limits, Step, TestsSpec } from "../../farm/build.ts";
import { type BuildId, type EpochMs, logId, ms } from "../../farm/ids.ts";
import type { Snapshot } from "../../store/snapshots.ts";
import type { TestDatabase } from "../../store/testing/database.ts";
import { addCommit, addHostType, NOON, testRecipe } from "../../store/testing/farm.ts";
import type { BuildsDeps } from "../builds.ts";
import { insertPlanned } from "../insert.ts";
import type { Command } from "../machine.ts";
import { MARK_VARIABLE } from "../test-markers.ts";
import type { FakeMachine, Script } from "./fake-machine.ts";
import type { TestFarm } from "./farm.ts";

const STEP: Omit<Step, "name" | "command"> = { dir: "", env: [], path: [], timeLimitMs: 60_000 };

export function testsSpec(names: readonly string[] | undefined, over: Partial<TestsSpec> = {}): TestsSpec {
  return {
    list: names ? { names } : { command: { ...STEP, name: "list", command: ["list"] } },
    run: { ...STEP, name: "run", command: ["run"] },
    names: "args",
    results: "exit",
    groupTargetMs: 10_000,
    unknownMs: 3_000,
    helpers: 0,
    tryHelpers: 0,
    keepGoing: true,
    ...over,
  };
}

export interface PlanTests {
  readonly builder?: string;
  readonly class?: "post-submit" | "try";
  readonly now?: EpochMs;
  readonly steps?: readonly string[];
  readonly limits?: Limits;
}

export async function planTests(database: TestDatabase, tests: TestsSpec, over: PlanTests = {}): Promise<BuildId> {
  await addHostType(database.sql, "linux");
  const hash = Math.random().toString(16).slice(2).padEnd(40, "0");
  const commitId = await addCommit(database.sql, "tool", hash);
  const recipe = {
    ...testRecipe(over.builder ?? "linux-amd64", "linux", over.steps ?? ["make"]),
    tests,
    ...(over.limits && { limits: over.limits }),
  };
  const common = { repo: "tool", commitId, committedAt: NOON, branch: "main", head: true } as const;
  const planned = { ...common, recipe, provenance: "submitted", class: over.class ?? "post-submit" } as const;
  const [build] = await insertPlanned(database.sql, [planned], over.now ?? NOON);
  if (!build) throw new Error("not planned");
  database.bus.publish("queue:linux");
  return build.id;
}

export interface EndedBuild {
  readonly state: string;
  readonly outcome: string | null;
  readonly reason: string | null;
  readonly failed_step: string | null;
  readonly flaky_tests: number;
}

export async function endedBuild(database: TestDatabase, id: BuildId, timeout = 15_000): Promise<EndedBuild> {
  const look = async () => {
    const [row] = await database.sql.query<EndedBuild>(
      "select state, outcome, reason, failed_step, flaky_tests from build where id = $1",
      [id],
    );
    return row;
  };
  await vi.waitFor(
    async () => {
      if ((await look())?.state !== "ended") throw new Error("not ended");
    },
    { timeout, interval: 5 },
  );
  const row = await look();
  if (!row) throw new Error("no such build");
  return row;
}

export interface EndedTest {
  readonly name: string;
  readonly state: string;
  readonly outcome: string | null;
  readonly machine: string | null;
  readonly failures: number;
  readonly losses: number;
  readonly log_id: number | null;
  readonly from_byte: number | null;
  readonly to_byte: number | null;
  readonly duration_ms: number | null;
}

export async function testsOf(database: TestDatabase, id: BuildId): Promise<EndedTest[]> {
  return database.sql.query(
    `select t.name, t.state, t.outcome, m.name as machine, t.failures, t.losses, g.log_id, t.from_byte, t.to_byte, t.duration_ms
     from test t left join test_group g on g.id = t.group_id left join machine m on m.id = g.machine_id
     where t.build_id = $1 order by t.number`,
    [id],
  );
}

/** The stored logs of the step `tests`, one for each attempt that reached it. */
export async function stepLogs({ database, logs }: TestFarm, id: BuildId): Promise<string[]> {
  const rows = await database.sql.query<{ log: number }>(
    `select s.log_id as log from step s join attempt a on a.id = s.attempt_id
     where a.build_id = $1 and s.name = 'tests' and s.log_id is not null order by a.number`,
    [id],
  );
  const texts: string[] = [];
  for (const { log } of rows) {
    const parts: Buffer[] = [];
    for await (const part of logs.read(logId(log))) parts.push(part);
    texts.push(Buffer.concat(parts).toString());
  }
  return texts;
}

/** How often each test was in a group, by name. */
export function runsOf(machines: readonly FakeMachine[]): Map<string, number> {
  const runs = new Map<string, number>();
  for (const { commands } of machines) {
    for (const { cmd, args } of commands) {
      if (cmd === "run") for (const name of args) runs.set(name, (runs.get(name) ?? 0) + 1);
    }
  }
  return runs;
}

/** The output of a program that reports with markers. */
export function marked(command: Command, lines: readonly (readonly [word: string, name: string] | string)[]): string {
  const mark = command.env.find((entry) => entry.startsWith(`${MARK_VARIABLE}=`))?.slice(MARK_VARIABLE.length + 1);
  return lines.map((line) => (typeof line === "string" ? line : `${mark} ${line[0]} ${line[1]}\n`)).join("");
}

export function runScript(run: (names: readonly string[], command: Command) => Script): (command: Command) => Script {
  return (command) => (command.cmd === "run" ? run(command.args, command) : {});
}

const SNAPSHOT = { blob: "b", bytes: 1, sha256: "", madeAt: NOON, build: 1, machine: "m" } as unknown as Snapshot;

/** Snapshots that are there as soon as `kept` says so. `unpacked` is called for each that is written to a machine. */
export function trees(
  kept: Promise<boolean> = Promise.resolve(true),
  unpacked: (machine: string) => void = () => {},
): BuildsDeps["snapshots"] {
  let begun = false; // before, there is none to start from
  return {
    keep: () => {
      begun = true;
      return { kept, finish: () => Promise.resolve() };
    },
    find: async () => (begun && (await kept) ? SNAPSHOT : undefined),
    about: () => "snapshot",
    restore: async (_snapshot, _recipe, machine) => {
      unpacked(machine.name);
      return { skippedLinks: 0 };
    },
    writeOther: async () => undefined,
  };
}
/** How long a failed test waits for another machine in most tests. */
export const SOON = ms(50);

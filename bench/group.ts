/**
 * What a group of tests costs on an idle real machine, whole: its turn in the database, its names handed over, its command started through the
 * agent, its reports removed before and read after where it has some, its log ended. What starting its command takes here by itself is
 * subtracted.
 *
 * One build per run has GROUPS tests, each a group of its own; the first is left out, since everything is cold then.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Step, TestsSpec } from "../src/farm/build.ts";
import { minutes } from "../src/farm/ids.ts";
import type { Bench } from "./bench.ts";
import { BenchFarm, type Wanted } from "./farm.ts";
import { atMost } from "./figure.ts";

const RUNS = 3;
const GROUPS = 100;
const BUILD_LIMIT_MS = 60_000;
/** Modules of others, at the root and further down. */
const INSTALL = `for at in . packages/a packages/b; do for m in $(seq 100); do
  mkdir -p $at/node_modules/m$m && (cd $at/node_modules/m$m && touch $(seq 40))
done; done`;

const KINDS = {
  args: { command: ["/bin/true"], names: "args", results: "exit", steps: [] },
  file: { command: ["/bin/true"], names: "file", results: "exit", steps: [] },
  /** Each test writes its report, in a tree with 12,000 files of others in it. */
  junit: {
    command: ["/bin/sh", "-c", `echo "<testsuite><testcase name='$1' time='0.001'/></testsuite>" > report.xml`, "sh"],
    names: "args",
    results: { junit: "**/*.xml" },
    steps: [{ name: "install", command: ["/bin/sh", "-c", INSTALL] }],
  },
} as const satisfies Record<
  string,
  Pick<TestsSpec, "names" | "results"> & Pick<Step, "command"> & Pick<Wanted, "steps">
>;

export const group: Bench = {
  name: "group",
  about: "what a group of tests costs on a real machine beyond its command",
  limitMs: 180_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    await using _ = await farm.machine("groups");
    for (const [figure, kind] of Object.entries(KINDS)) {
      const beyond: number[] = [];
      for (let run = 0; run <= RUNS; run++) {
        const alone = await bareMs(kind.command, farm.folder);
        const each = await groupMs(farm, kind);
        context.note(`${figure}: ${each.toFixed(1)} ms a group, of which the command ${alone.toFixed(1)} ms`);
        if (run > 0) beyond.push(each - alone); // the first warms up
      }
      context.report({ figure, unit: "ms", values: beyond, ...(figure !== "junit" && { goal: atMost(10) }) });
    }
  },
};

/** Starting the command and seeing it end, without anything of ours. */
async function bareMs([program = "", ...args]: readonly string[], cwd: string): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < GROUPS; i++) {
    const child = spawn(program, [...args, "test"], { cwd, stdio: ["ignore", "pipe", "pipe"], detached: true });
    await once(child, "close");
  }
  return (performance.now() - began) / GROUPS;
}

async function groupMs(
  farm: BenchFarm,
  { command, names, results, steps }: (typeof KINDS)[keyof typeof KINDS],
): Promise<number> {
  const [build] = await farm.want({
    steps,
    after: {
      tests: {
        list: { names: Array.from({ length: GROUPS }, (_, i) => `test-${i}`) },
        run: { name: "run", command, dir: "", env: [], path: [], timeLimitMs: minutes(1) },
        names,
        alone: ["**"],
        results,
        groupTargetMs: 1000,
        unknownMs: 1000,
        helpers: 0,
        tryHelpers: 0,
        keepGoing: true,
      },
    },
  });
  if (!build) throw new Error("Cannot measure: the build was not inserted");
  await farm.allEnded(BUILD_LIMIT_MS, 50);
  const [row] = await farm.sql.query<{ groups: number; ms: number }>(
    `select count(*) as groups, extract(epoch from max(started_at) - min(started_at))::double precision * 1000 as ms
     from test_group where build_id = $1`,
    [build.id],
  );
  if (row?.groups !== GROUPS) throw new Error(`Cannot measure: ${row?.groups} groups ran, not ${GROUPS}`);
  return row.ms / (GROUPS - 1);
}

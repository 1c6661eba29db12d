/**
 * What a group of tests costs on an idle real machine, whole: its turn in the database, its names handed over, its command started through the
 * agent, its log ended. The command is /bin/true, and what starting that takes here by itself is subtracted.
 *
 * One build per run has GROUPS tests, each a group of its own; the first is left out, since everything is cold then.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { minutes } from "../src/farm/ids.ts";
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atMost } from "./figure.ts";

const RUNS = 3;
const GROUPS = 100;
const BUILD_LIMIT_MS = 60_000;

export const group: Bench = {
  name: "group",
  about: "what a group of tests costs on a real machine beyond its command",
  limitMs: 180_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    await using _ = await farm.machine("groups");
    const beyond = { args: [] as number[], file: [] as number[] };
    const bare: number[] = [];
    for (let run = 0; run <= RUNS; run++) {
      const alone = await bareMs();
      for (const names of ["args", "file"] as const) {
        const each = await groupMs(farm, names);
        context.note(`${names}: ${each.toFixed(1)} ms a group, of which the command ${alone.toFixed(1)} ms`);
        if (run > 0) beyond[names].push(each - alone); // the first warms up
      }
      if (run > 0) bare.push(alone);
    }
    context.report({ figure: "args", unit: "ms", values: beyond.args, goal: atMost(10) });
    context.report({ figure: "file", unit: "ms", values: beyond.file, goal: atMost(10) });
    context.report({ figure: "command", unit: "ms", values: bare });
  },
};

/** Starting the command and seeing it end, without anything of ours. */
async function bareMs(): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < GROUPS; i++) {
    const child = spawn("/bin/true", ["test"], { stdio: ["ignore", "pipe", "pipe"], detached: true });
    await once(child, "close");
  }
  return (performance.now() - began) / GROUPS;
}

async function groupMs(farm: BenchFarm, names: "args" | "file"): Promise<number> {
  const [build] = await farm.want({
    steps: [],
    after: {
      tests: {
        list: { names: Array.from({ length: GROUPS }, (_, i) => `test-${i}`) },
        run: { name: "run", command: ["/bin/true"], dir: "", env: [], path: [], timeLimitMs: minutes(1) },
        names,
        alone: ["**"],
        results: "exit",
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

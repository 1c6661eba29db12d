/**
 * What a machine's owner pays for lending it: memory of a waiting buildlet beyond what bare Node takes, and the size of the programs.
 *
 * A real buildlet, started by stage0 as on any machine, is connected and idle for SETTLE_MS; then its resident set is read. The same
 * Node without a program of ours, kept alive by a timer, is measured beside it, in the same run.
 */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Bench } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atMost } from "./figure.ts";
import { Program, residentBytes, root } from "./program.ts";
import { delay } from "./wait.ts";

const RUNS = 3;
const SETTLE_MS = 8000;
const MB = 1024 * 1024;

export const agent: Bench = {
  name: "agent",
  about: "resident memory of an idle buildlet beyond bare Node, and the size of the machine-side programs",
  limitMs: 90_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    const beyond: number[] = [];
    const whole: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      await using machine = await farm.machine(`idle-${run}`);
      await using bare = await Program.start({
        command: process.execPath,
        args: ["-e", "setInterval(() => {}, 1e9)"],
        output: join(farm.folder, "bare.log"),
      });
      await delay(SETTLE_MS, context.signal);
      const [ours, theirs] = [(await residentBytes(machine.pid)) / MB, (await residentBytes(bare.pid)) / MB];
      context.note(`run ${run} of ${RUNS}: buildlet ${ours.toFixed(1)} MB, bare Node ${theirs.toFixed(1)} MB`);
      whole.push(ours);
      beyond.push(ours - theirs);
    }
    context.report({ figure: "idle-beyond-node", unit: "MB", values: beyond, goal: atMost(12) });
    context.report({ figure: "idle", unit: "MB", values: whole });
    for (const name of ["buildlet", "stage0"]) {
      const { size } = await stat(`${root}dist/agents/${name}.mjs`);
      context.report({ figure: `${name}-size`, unit: "KB", values: [size / 1024] });
    }
  },
};

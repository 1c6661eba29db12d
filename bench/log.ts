/**
 * Logs: how fast one build's output gets from its command into the store, what that costs in memory, and how soon people see it.
 *
 * throughput   A real machine runs a step that prints a file of BYTES; the rate is over the step as the database has it, from its
 *              start until all of its output is stored and it has ended. In the same run, alternating, the same command is sent
 *              through a bare TLS pipe (tls-pipe.ts) between two processes. Once with lines of 100 bytes as a test prints
 *              them, once the same text without a single newline.
 * memory       The coordinator's resident set at its peak during these steps, less what it was before the first.
 * viewers      A step prints its clock every LINE_EVERY_MS; VIEWERS pages follow its log as a browser does (viewer.ts); the latency is
 *              from the line being printed to a viewer having it.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, Context } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atLeast, atMost, percentile } from "./figure.ts";
import { MemoryWatch, residentBytes } from "./program.ts";
import { pipeOverTls } from "./tls-pipe.ts";
import { Viewer } from "./viewer.ts";
import { delay, until } from "./wait.ts";

const BYTES = 256 * 1024 * 1024;
const LINE = 100;
const RUNS = 3;
const STEP_LIMIT_MS = 60_000;
const VIEWERS = 200;
const VIEWER_RUNS = 3;
const LINES = 50;
const LINE_EVERY_MS = 100;

export const log: Bench = {
  name: "log",
  about: "a build's output into the store against a bare TLS pipe, memory meanwhile, latency for 200 viewers",
  limitMs: 180_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    await using _machine = await farm.machine("printer");
    await farm.commit();
    await viewers(farm, context);
    await rates(farm, context);
  },
};

async function rates(farm: BenchFarm, context: Context): Promise<void> {
  const { signal } = context;
  const kinds = [
    { name: "lines", file: join(farm.folder, "lines"), ratios: [] as number[] },
    { name: "no-newlines", file: join(farm.folder, "no-newlines"), ratios: [] as number[] },
  ];
  const text = logText();
  for (const { name, file } of kinds) {
    await writeFile(file, name === "lines" ? text : text.map((byte) => (byte === 10 ? 32 : byte)), { mode: 0o644 });
  }
  const before = await residentBytes(farm.coordinator.pid);
  const growth: number[] = [];
  for (let run = 1; run <= RUNS; run++) {
    for (const { name, file, ratios } of kinds) {
      const command = `cat ${Array(BYTES / text.length)
        .fill(file)
        .join(" ")}`;
      const bare = await pipeOverTls({ ...farm.certificate, command, signal });
      if (bare.bytes !== BYTES) throw new Error(`Cannot compare: the bare pipe carried ${bare.bytes} bytes`);
      await using watch = new MemoryWatch(farm.coordinator.pid);
      const stored = await printed(farm, command);
      growth.push((watch.peakBytes - before) / 1024 / 1024);
      ratios.push(bare.ms / stored);
      context.note(
        `${name}, run ${run} of ${RUNS}: ${rate(stored)} into the store, ${rate(bare.ms)} through the bare pipe, peak memory +${growth.at(-1)?.toFixed(0)} MB`,
      );
    }
  }
  for (const { name, ratios } of kinds) {
    context.report({ figure: `${name}-ratio`, unit: "of bare TLS", values: ratios, goal: atLeast(0.25) });
  }
  context.report({ figure: "memory-growth", unit: "MB", values: growth, goal: atMost(200) });
}

/** Runs `command` as a build's step; resolves with how long it was running, in milliseconds. */
async function printed(farm: BenchFarm, command: string): Promise<number> {
  const [build] = await farm.want({ steps: [{ name: "print", command: ["sh", "-c", command] }] });
  await farm.allEnded(STEP_LIMIT_MS, 50);
  const [row] = await farm.sql.query<{ started_at: number; ended_at: number; length: number }>(
    `select s.started_at, s.ended_at, l.length from attempt a join step s on s.attempt_id = a.id join log l on l.id = s.log_id
     where a.build_id = $1 and s.number = 1`,
    [build?.id],
  );
  // The step's log begins with the line that tells what is run.
  if (!row || row.length < BYTES) throw new Error(`Cannot measure: ${row?.length} of ${BYTES} bytes are in the store`);
  return row.ended_at - row.started_at;
}

async function viewers(farm: BenchFarm, context: Context): Promise<void> {
  const p99: number[] = [];
  const p50: number[] = [];
  for (let run = 1; run <= VIEWER_RUNS; run++) {
    const spans = await watchOnce(farm, context);
    p50.push(percentile(spans, 50));
    p99.push(percentile(spans, 99));
    context.note(
      `viewers, run ${run} of ${VIEWER_RUNS}: p50 ${p50.at(-1)?.toFixed(0)} ms, p99 ${p99.at(-1)?.toFixed(0)} ms of ${spans.length} lines seen`,
    );
  }
  context.report({ figure: "viewer-p50", unit: "ms", values: p50 });
  context.report({ figure: "viewer-p99", unit: "ms", values: p99, goal: atMost(150) });
}

/** One build that prints its clock, watched by all viewers; resolves with the latency of every line at every viewer. */
async function watchOnce(farm: BenchFarm, { signal }: Context): Promise<number[]> {
  const go = join(farm.folder, `go-${Math.random()}`);
  // It begins once everybody watches.
  const script = `until [ -e ${go} ]; do sleep 0.01; done
for i in $(seq ${LINES}); do echo "@ $EPOCHREALTIME @"; sleep ${LINE_EVERY_MS / 1000}; done`;
  const [build] = await farm.want({ steps: [{ name: "clock", command: ["bash", "-c", script] }] });
  if (!build) throw new Error("Cannot watch: the build was not made");
  await until(
    async () => {
      const [row] = await farm.sql.query<{ log: number }>(
        `select s.log_id as log from attempt a join step s on s.attempt_id = a.id
         where a.build_id = $1 and s.number = 1 and s.log_id is not null`,
        [build.id],
      );
      return row;
    },
    { signal, limitMs: 10_000, what: () => "the step to run" },
  );
  const spans: number[] = [];
  using stack = new DisposableStack();
  const options = { http: farm.http, base: `/b/${build.id}/clock`, signal };
  const pages = Array.from({ length: VIEWERS }, () =>
    stack.use(new Viewer({ ...options, seen: (age) => spans.push(age) })),
  );
  await Promise.all(pages.map((page) => page.open()));
  await writeFile(go, "");
  await farm.allEnded(STEP_LIMIT_MS, 100);
  await Promise.race([Promise.all(pages.map((page) => page.ended)), delay(10_000, signal)]);
  if (spans.length < VIEWERS * LINES) {
    throw new Error(`Cannot measure viewers: ${spans.length} of ${VIEWERS * LINES} lines were seen`);
  }
  return spans;
}

/** 8 MiB of what a test run prints, in lines of 100 bytes: it packs as well as real logs do. */
export function logText(): Buffer {
  const text = Buffer.alloc(8 * 1024 * 1024, " ");
  let state = 1;
  for (let at = 0, line = 0; at + LINE <= text.length; at += LINE, line++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const words = `=== RUN   Test${state.toString(36)}/case_${line % 97}  pkg/${(state >>> 20).toString(16)}/file_${line % 31}.go:${state % 2000}: ok (${(state % 997) / 100}s) `;
    text.write(words.padEnd(LINE - 1, "abcdefgh ").slice(0, LINE - 1), at, "latin1");
    text[at + LINE - 1] = 10;
  }
  return text;
}

function rate(ms: number): string {
  return `${(BYTES / 1024 / 1024 / (ms / 1000)).toFixed(0)} MB/s`;
}

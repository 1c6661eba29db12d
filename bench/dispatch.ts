/**
 * How long until something happens: from a build being wanted to its first command running, on an idle machine.
 *
 * One real buildlet process waits. A build is inserted into the database, and the coordinator is told as it would be by another
 * coordinator; the clock starts right before the insertion. The build's only step prints the time at which it runs (the
 * shell's own clock, so nothing else is started), and that is where the clock stops. In between lie the insertion, the
 * notification, the claim, cleaning the machine, the source tarball of one small file, and starting the command. A run is
 * SAMPLES builds one after another with pauses, so that machine and farm are idle each time.
 */

import { logId } from "../src/farm/ids.ts";
import { Logs } from "../src/logs/logs.ts";
import type { Sql } from "../src/store/sql.ts";
import { systemClock } from "../src/store/system-clock.ts";
import type { Bench, Context } from "./bench.ts";
import { BenchFarm } from "./farm.ts";
import { atMost, percentile } from "./figure.ts";
import { delay, wallMs } from "./wait.ts";

const RUNS = 5;
const SAMPLES = 60;
const WARM_UP = 20;
const PAUSE_MS = 20;
/** Asking whether it has ended takes from the same two cores: not before it has begun. */
const QUIET_MS = 60;
const BUILD_LIMIT_MS = 10_000;

const STAMP = ["bash", "-c", "echo ran at $EPOCHREALTIME"];

export const dispatch: Bench = {
  name: "dispatch",
  about: "milliseconds from a build being wanted to its first command running on an idle machine",
  limitMs: 90_000,
  async run(context) {
    await using farm = await BenchFarm.start(context);
    await using _machine = await farm.machine("idle");
    await sample(farm, context, WARM_UP);
    const p50: number[] = [];
    const p99: number[] = [];
    for (let run = 1; run <= RUNS; run++) {
      const spans = await sample(farm, context, SAMPLES);
      p50.push(percentile(spans, 50));
      p99.push(percentile(spans, 99));
      context.note(`run ${run} of ${RUNS}: p50 ${p50.at(-1)?.toFixed(1)} ms, p99 ${p99.at(-1)?.toFixed(1)} ms`);
    }
    context.report({ figure: "p50", unit: "ms", values: p50, goal: atMost(15) });
    context.report({ figure: "p99", unit: "ms", values: p99, goal: atMost(60) });
  },
};

async function sample(farm: BenchFarm, { signal }: Context, count: number): Promise<number[]> {
  const { id: commitId } = await farm.commit();
  const wantedAt = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const wanted = wallMs();
    const [build] = await farm.want({ steps: [{ name: "stamp", command: STAMP }], commitId });
    if (build) wantedAt.set(build.id, wanted);
    await delay(QUIET_MS, signal);
    await farm.allEnded(BUILD_LIMIT_MS, 10);
    await delay(PAUSE_MS, signal);
  }
  const spans: number[] = [];
  for (const [build, wanted] of wantedAt) spans.push((await ranAt(farm.sql, build)) - wanted);
  return spans;
}

/** What the step printed, in milliseconds of wall time. */
async function ranAt(sql: Sql, build: number): Promise<number> {
  const [row] = await sql.query<{ log_id: number }>(
    `select s.log_id from attempt a join step s on s.attempt_id = a.id
     where a.build_id = $1 and s.number = 1 order by a.number desc limit 1`,
    [build],
  );
  const quietBus = { publish() {}, subscribe() {} };
  await using logs = new Logs({ sql, bus: quietBus, clock: systemClock });
  let text = "";
  for await (const part of logs.read(logId(row?.log_id ?? 0))) text += part.toString();
  // The first lines tell what is run; they hold the same words, without a number behind them.
  const stamp = /^ran at (\d+)[.,](\d+)$/m.exec(text);
  if (!stamp) throw new Error(`Cannot find the time in the log of build ${build}: ${JSON.stringify(text)}`);
  return Number(stamp[1]) * 1000 + Number(stamp[2]) / 1000;
}

/**
 * `npm run bench [NAME...]`: measures what the farm promises. Without names, everything.
 *
 * Figures go to stdout, one JSON line each (figure.ts); progress and explanations go to stderr. A missed goal is reported, not
 * an error: exit 0 when everything could be measured, 1 when something could not, 2 for a name that is not there.
 */
import { parseArgs } from "node:util";
import { messageOf } from "../src/farm/errors.ts";
import { agent } from "./agent.ts";
import { type Bench, chosenBy, Recorder } from "./bench.ts";
import { dispatch } from "./dispatch.ts";
import { estimate } from "./estimate.ts";
import { formatFigure, isReached } from "./figure.ts";
import { gomote } from "./gomote.ts";
import { grid } from "./grid.ts";
import { group } from "./group.ts";
import { log } from "./log.ts";
import { endAllProcesses } from "./program.ts";
import { push } from "./push.ts";
import { resources } from "./resources.ts";
import { restart } from "./restart.ts";
import { scheduler } from "./scheduler.ts";
import { sessions } from "./sessions.ts";
import { shells } from "./shells.ts";
import { snapshot } from "./snapshot.ts";
import { source } from "./source.ts";
import { tests } from "./tests.ts";
import { throughput } from "./throughput.ts";
import { transfer } from "./transfer.ts";

const benches: readonly Bench[] = [
  dispatch,
  sessions,
  restart,
  throughput,
  log,
  source,
  snapshot,
  grid,
  scheduler,
  estimate,
  tests,
  group,
  agent,
  gomote,
  shells,
  push,
  transfer,
  resources,
];

/** For ending cleanly what a bench started, once it was told to end. */
const GRACE_MS = 45_000;

const ended = new AbortController();
process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  // Go's way of writing flags: -help.
  if (args.some((arg) => /^--?h(elp)?$/.test(arg))) {
    process.stdout.write(usage());
    return 0;
  }
  const { positionals } = parseArgs({ args: [...args], strict: false, allowPositionals: true });
  const unknown = [...args.filter((arg) => arg.startsWith("-")), ...positionals].find(
    (name) => !benches.some((bench) => bench.name === name),
  );
  if (unknown !== undefined) {
    const names = benches.map((bench) => bench.name).join(", ");
    process.stderr.write(`Cannot run bench ${JSON.stringify(unknown)}: want one of ${names}\n`);
    return 2;
  }
  const chosen = chosenBy(positionals, benches);
  process.on("SIGINT", interrupted).on("SIGTERM", interrupted).on("exit", endAllProcesses);
  let status = 0;
  const verdicts: string[] = [];
  for (const bench of chosen) {
    if (ended.signal.aborted) return 1;
    if (!(await runOne(bench, verdicts))) status = 1;
  }
  process.stderr.write(`\n${verdicts.join("\n")}\n`);
  return status;
}

/** Runs one bench; false when it could not measure. */
async function runOne(bench: Bench, verdicts: string[]): Promise<boolean> {
  const limit = new AbortController();
  const recorder = new Recorder(bench.name, AbortSignal.any([ended.signal, limit.signal]), (figure) =>
    process.stdout.write(`${formatFigure(figure)}\n`),
  );
  const late = setTimeout(() => {
    limit.abort(new Error(`Cannot finish within ${bench.limitMs / 1000} s`));
    setTimeout(() => {
      process.stderr.write(`${bench.name}: does not end; leaving\n`);
      process.exit(1);
    }, GRACE_MS).unref();
  }, bench.limitMs);
  const started = performance.now();
  let broken: string | undefined;
  try {
    await bench.run(recorder);
  } catch (error) {
    broken = messageOf(error);
    recorder.note(error instanceof Error && error.stack ? error.stack : broken);
  } finally {
    clearTimeout(late);
  }
  recorder.note(`took ${((performance.now() - started) / 1000).toFixed(1)} s`);
  for (const figure of recorder.figures) {
    const mark = { true: "reached", false: "MISSED", undefined: "" }[String(isReached(figure))] ?? "";
    const goal = figure.goal ? `${figure.goal.is === "at-most" ? "≤" : "≥"} ${figure.goal.value}` : "";
    verdicts.push(
      `${figure.bench.padEnd(11)}${figure.figure.padEnd(26)}${String(figure.value).padStart(8)} ${figure.unit.padEnd(9)}${goal.padEnd(9)}${mark}`,
    );
  }
  if (broken !== undefined) verdicts.push(`${bench.name.padEnd(11)}BROKEN: ${broken.split("\n")[0]}`);
  return broken === undefined;
}

function interrupted(): void {
  if (ended.signal.aborted) process.exit(130); // asked twice: at once
  ended.abort(new Error("Interrupted"));
  setTimeout(() => process.exit(130), GRACE_MS).unref();
}

function usage(): string {
  const lines = benches.map(
    ({ name, about, of }) => `  ${name.padEnd(12)}${about}${of === undefined ? "" : ` (with ${of}, too)`}`,
  );
  return `Usage: npm run bench [NAME...]\n\n${lines.join("\n")}\n`;
}

/**
 * The tests of a build as the last step of an attempt: list them, once per build, and work on them together with the
 * helpers.
 *
 *   listing -command failed, no names-> failed, as any step that fails
 *   listing -names-> working -the last test ended-> settled: the verdict is in the database
 *   working -the build has used up its time-> failed
 *   working -tests are left that may not run on this machine any more-> unfit: the next attempt goes on with them
 *
 * An attempt that comes after one that was lost or unfit finds the list, and goes on with what is left of it.
 *
 * The log of the step begins with what the list command printed. Lines follow in the order of what happened: each group
 * that ended on any machine, where each test that failed or is slow runs again, and its result. It ends with the tests
 * that did not simply pass. An attempt's log tells what happened since the one before it.
 */
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { type Ms, minutes, ms } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";
import { helpersMayCome } from "../store/helper-leases.ts";
import { unendedTests } from "../store/left-tests.ts";
import type { OpenLog } from "../store/logs.ts";
import { troubledTests } from "../store/pages-tests.ts";
import { listed, takeLines } from "../store/test-lines.ts";
import { storeTests, type TestCounts, testCounts } from "../store/test-run.ts";
import { expectedTimes } from "../store/test-times.ts";
import { takenBack } from "./broken-off.ts";
import { folderOf } from "./command.ts";
import { outOfTimeText, timeLeft, withinBuild } from "./command-limits.ts";
import { isAlone, listTests } from "./test-list.ts";
import { type TestsDeps, type TestsJob, workOff } from "./work-tests.ts";

const REMOVE_LIMIT: Ms = minutes(10);
/** How many tests that did not simply pass the log names. A page has them all. */
const TROUBLED_NAMED = 100;

export const TESTS_STEP = "tests";

export interface TestsStep extends Omit<TestsJob, "role" | "tell" | "say"> {
  readonly log: OpenLog;
  readonly writer: LogWriter;
  /** The name of the list command's run (command-run.ts). */
  readonly id: string;
  /** What the log of the step has already. */
  readonly before: AsyncIterable<Buffer>;
  /** Begins to keep the tree for helpers, while the tests run. */
  readonly keep: () => Keeping;
}

export interface Keeping {
  /** Resolves when the keeping has ended, with whether the tree is there now. Never rejects. */
  readonly there: Promise<boolean>;
  /** Called when the tests have ended: the keeping may take a moment more. Resolves when it has ended. */
  readonly finish: () => Promise<void>;
}

export type TestsEnd = { readonly status: string } & (
  | { readonly end: "settled"; readonly counts: TestCounts }
  /**
   * The tests have no verdict. `failed`: they could not be listed, or were stopped. `unfit`: others go on with them.
   */
  | { readonly end: "failed" | "unfit" }
);

/** Rejects when the machine, the log or `signal` ends first, and with `lease-lost` if another driver has the build. */
export async function runTests(deps: TestsDeps, step: TestsStep, signal: AbortSignal): Promise<TestsEnd> {
  const { clock, sql, bus, patiently } = deps;
  const { build, machine, writer, helpers } = step;
  const say = (text: string): Promise<void> => writer.write(Buffer.from(text));
  if ((await patiently(() => testCounts(sql, build.id))) === undefined) {
    await removeUnneeded(clock, step, signal);
    const fault = await list(deps, step, say, signal);
    if (fault !== undefined) return { end: "failed", status: fault };
  }
  const keeping = step.keep();
  const invited = keeping.there.then(async (there) => {
    if (!there || helpers === 0 || timeLeft(clock, step.limit) === 0) return;
    const wanted = await patiently(() => helpersMayCome(sql, build.id, { spec: step.spec, helpers }, clock.now()));
    if (wanted) bus.publish(`queue:${build.hostType}`);
  });
  try {
    const worked = await workOff(deps, { ...step, role: "main", tell: () => tell(deps, step), say }, signal);
    if (worked.why === "over") {
      await summary(deps, step, worked.counts, say);
      return { end: "settled", status: "ok", counts: worked.counts };
    }
    if (worked.why === "out-of-time") {
      const outOfTime = outOfTimeText(step.limit);
      const unended = await patiently(() => unendedTests(sql, build.id, outOfTime));
      const status = unended.length === 0 ? outOfTime : `${outOfTime}; not ended: ${listed(unended)}`;
      await say(`\nbarnraiser: the tests were stopped: ${status}\n`);
      return { end: "failed", status };
    }
    if (worked.why === "unfit") {
      const status = `a test was stopped on ${machine.name} and may still run there; what is left needs a fresh machine`;
      await say(`\nbarnraiser: ${status}\n`);
      return { end: "unfit", status };
    }
    throw takenBack();
  } finally {
    await keeping.finish();
    await invited.catch(() => {}); // the database was away until the coordinator stopped
  }
}

/** Removes what the recipe does not want in the kept tree. Done first, so that tests find the same on each machine. */
async function removeUnneeded(clock: Clock, { recipe, machine, limit }: TestsStep, signal: AbortSignal): Promise<void> {
  const folders = (recipe.snapshot?.remove ?? []).map((dir) => folderOf(recipe.sourceDir, dir));
  if (folders.length === 0) return;
  const signals = [machine.gone, signal];
  await withinBuild(clock, REMOVE_LIMIT, limit, signals, `removing folders on ${machine.name}`, (limited) =>
    machine.client.removeAll(folders, limited),
  );
}

/** Returns why there is no list. */
async function list(
  deps: TestsDeps,
  step: TestsStep,
  say: (text: string) => Promise<void>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { clock, sql, patiently } = deps;
  const { build, spec, helpers } = step;
  const listed = await listTests(clock, step, signal);
  if (typeof listed === "string") {
    await say(`\nbarnraiser: the tests could not be listed: ${listed}\n`);
    return `the tests could not be listed: ${listed}`;
  }
  const { names, doubled } = listed;
  const expected = await patiently(() => expectedTimes(sql, build.repo, build.builder, names));
  const tests = names.map((name) => ({ name, expectedMs: expected.get(name) ?? null, alone: isAlone(spec, name) }));
  const work = tests.reduce((sum, { expectedMs }) => sum + (expectedMs ?? spec.unknownMs), 0);
  const parts = [`${tests.length} tests`];
  if (doubled > 0) parts.push(`${doubled} lines named one again`);
  if (expected.size < tests.length) parts.push(`${tests.length - expected.size} never ran before`);
  parts.push(`about ${durationText(ms(work))} on one machine`);
  if (helpers > 0) parts.push(`up to ${helpers} more may help`);
  const line = `\n${parts.join(", ")}\n\n`;
  if (!(await patiently(() => storeTests(sql, step.worker, tests, line, clock.now())))) throw takenBack();
  return undefined;
}

/** Writes to the log what turns have said since. */
async function tell({ sql, patiently }: TestsDeps, { build, log, writer }: TestsStep): Promise<void> {
  if (writer.next === Number.MAX_SAFE_INTEGER) return; // it takes no more
  const lines = await patiently(() => takeLines(sql, build.id, log, writer.next));
  if (lines.length > 0) await writer.write(lines);
}

async function summary(
  { sql, patiently }: TestsDeps,
  { build }: TestsStep,
  counts: TestCounts,
  say: (text: string) => Promise<void>,
): Promise<void> {
  const troubled = await patiently(() => troubledTests(sql, build.id, TROUBLED_NAMED));
  const lines = troubled.map(({ name, outcome, machine }) => {
    if (outcome === "flaky") return `flaky: ${name} failed on ${machine} and then passed\n`;
    if (outcome === "unschedulable") return `unschedulable: ${name}: each machine that ran it was lost, or too slow\n`;
    return `failed: ${name} on ${machine}\n`;
  });
  const { total, failed, flaky } = counts;
  await say(`\n${lines.join("")}${total} tests: ${failed} failed, ${flaky} flaky\n`);
}

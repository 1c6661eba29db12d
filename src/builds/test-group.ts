/**
 * Runs one group of tests on one machine: its command from beginning to end, its output into a log of its own, and a
 * result for each of its tests.
 *
 *   names      as arguments, or as a file of lines in a folder beside the source tree
 *   output     into the log of the group, byte for byte; what only a report says about a test is added at the end,
 *              under the test's name
 *   reports    of earlier groups are removed before, those of this one are read after (report-files.ts)
 *
 * A group that a coordinator left is taken up again (command-run.ts). The bytes that its log has are read once more,
 * for what they say about the tests. Only the durations of tests that ended while nobody listened stay unknown.
 *
 * Only the machine knows whether the group's command had begun by then. So all that the command needs is done again,
 * except what would harm it: before it begins, the database says that the reports were removed.
 *
 * Nothing here knows whether the group still counts: that is decided when its end is stored.
 */
import type { Recipe, TestsSpec } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import type { LogWriter } from "../logs/writer.ts";
import type { TestGroup } from "../store/test-groups.ts";
import type { TestRan } from "../store/test-turn.ts";
import { GoTestJsonReader } from "../wire/test-report/go-test-json.ts";
import { JUnitReader } from "../wire/test-report/junit.ts";
import { commandOf, folderOf } from "./command.ts";
import type { CommandLimits } from "./command-limits.ts";
import { type CommandRan, runCommand } from "./command-run.ts";
import type { BuildMachine, Command } from "./machine.ts";
import { type FileReader, ReportFiles, type ReportsReader } from "./report-files.ts";
import { MARK_VARIABLE, MarkerReader, markOf } from "./test-markers.ts";
import { NamedReports } from "./test-reports.ts";
import { type Reported, resultsOf, STRANGERS_NAMED, unnamedText } from "./test-results.ts";

/** The folder of the files of names. It is beside the source tree, since a test may look at the whole tree. */
const NAMES_DIR = "barnraiser-tests";
/** The variable that tells a command the path of its file of names. */
const FILE_VARIABLE = "BARNRAISER_TESTS";
const SMALL_CALL: Ms = minutes(1);

export interface GroupJob {
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly group: TestGroup;
  readonly machine: BuildMachine;
  readonly writer: Pick<LogWriter, "write">;
  /** What the log has already, for a group that another coordinator left. */
  readonly before: AsyncIterable<Buffer> | undefined;
  /** Stores that the reports of earlier groups were removed, and whether `all` of them were. */
  readonly removed: (all: boolean) => Promise<void>;
  readonly limits: CommandLimits;
}

export interface GroupRun {
  readonly status: string;
  /** How long the command ran, from its own start, even if another coordinator started it. */
  readonly durationMs: Ms;
  readonly tests: readonly TestRan[];
  /** A limit ended the command. */
  readonly stopped: boolean;
  /** Why the only test fails although the command ended well; undefined: that is not so. */
  readonly unnamed: string | undefined;
}

/** Runs or takes up the group until its command has ended. Rejects when the machine, the log or `signal` ends first. */
export async function runGroup(clock: Clock, job: GroupJob, signal: AbortSignal): Promise<GroupRun> {
  const { spec, group, machine, before, writer, limits } = job;
  const reader = readerOf(spec, group, clock);
  let length = 0;
  for await (const chunk of before ?? []) {
    length += chunk.length;
    reader.behind(length);
    reader.push(chunk);
  }
  await writeNames(clock, job, signal);
  const files = filesOf(clock, job);
  const clean = files && (group.reportsRemoved ?? (await removeReports(files, job, signal)));
  const command = await groupCommand(clock, job, signal);
  const write = (chunk: Buffer): Promise<void> => {
    length += chunk.length;
    reader.push(chunk);
    return writer.write(chunk);
  };
  const takenUp = (printed: number): void => reader.behind(printed);
  const what = group.tests.length === 1 ? `test "${group.tests[0]?.name}"` : `group ${group.id}`;
  const ran = await runCommand(
    clock,
    { machine, command, id: `g${group.id}`, from: length, writer: { write }, limits, what, takenUp },
    signal,
  );
  // The clock of the machine tells what we did not see, and may be set: good enough for a line of the log.
  const durationMs = before || !ran.unbroken ? null : ran.durationMs;
  const add = (output: Buffer): Promise<void> => {
    length += output.length;
    return writer.write(output);
  };
  const reported = await reader.end(ran, length, add, async (reports) => {
    if (clean) await files?.read(reports, signal);
    else files?.pass();
    return { leftOut: files?.troubles ?? [], late: files?.late ?? false };
  });
  const { ok, stopped } = ran;
  const unnamed = unnamedText(group.tests, { ok, reported });
  if (unnamed !== undefined) await add(Buffer.from(`\nbarnraiser: the command succeeded, ${unnamed}\n`));
  return {
    status: ran.state,
    durationMs: ran.durationMs,
    stopped,
    unnamed,
    tests: resultsOf(group.tests, { ok, stopped, durationMs, length, reported }, spec.unknownMs),
  };
}

/** Reads results of one kind from the output of the command, and from the files that it leaves. */
interface ResultsReader {
  /**
   * To be called when the output up to byte `length` was printed before it could be read, at a time that is not known.
   */
  behind(length: number): void;
  push(chunk: Buffer): void;
  /** Ends the reading. `length` is that of the log. `add` writes to the end of the log. */
  end(
    ran: CommandRan,
    length: number,
    add: (output: Buffer) => Promise<void>,
    /** Reads the report files. Resolves with what was left out, and whether that is since it took too long. */
    read: (reports: ReportsReader) => Promise<{ readonly leftOut: readonly string[]; readonly late: boolean }>,
  ): Promise<Reported | undefined>;
}

function readerOf({ results }: TestsSpec, group: TestGroup, clock: Clock): ResultsReader {
  if (results === "exit") return { behind: () => {}, push: () => {}, end: async () => undefined };
  if (results === "markers") {
    const markers = new MarkerReader(group.nonce, () => clock.monotonic());
    return {
      behind: (length) => markers.behind(length),
      push: (chunk) => markers.push(chunk),
      end: async () => {
        const { reports, unended } = markers;
        const names = [...new Set(reports.keys()).difference(new Set(group.tests.map(({ name }) => name)))];
        const strangers = { names: names.slice(0, STRANGERS_NAMED), count: names.length };
        return { reports, unended, strangers, late: false };
      },
    };
  }
  const named = new NamedReports(group.tests);
  if (results === "go-test-json") {
    const events = new GoTestJsonReader({ onTest: (test) => named.take(test) });
    return {
      behind: () => {},
      push: (chunk) => events.push(chunk),
      end: async (_ran, length, add) => {
        const { trouble } = events.end();
        named.begin(length, add);
        const reports = await named.end([trouble]);
        return { reports, unended: new Map(), strangers: named.strangers, late: false };
      },
    };
  }
  return {
    behind: () => {},
    push: () => {},
    end: async (_ran, length, add, read) => {
      const troubles: string[] = [];
      const open = (name: string): FileReader => {
        const xml = new JUnitReader((test) => named.take(test));
        const end = (): void => {
          const { trouble } = xml.end();
          if (trouble !== undefined) troubles.push(`${name}: ${trouble}`);
        };
        return { push: (piece) => xml.push(piece), end };
      };
      named.begin(length, add);
      const { leftOut, late } = await read({ open, taken: () => named.flush() });
      const reports = await named.end([...troubles, ...leftOut]);
      return { reports, unended: new Map(), strangers: named.strangers, late };
    },
  };
}

/** The report files of the group; undefined: its results are not in files. */
function filesOf(clock: Clock, { recipe, spec, machine, limits }: GroupJob): ReportFiles | undefined {
  if (typeof spec.results === "string") return undefined;
  return new ReportFiles(clock, machine, recipe.sourceDir, spec.results.junit, limits.build);
}

async function removeReports(files: ReportFiles, { removed }: GroupJob, signal: AbortSignal): Promise<boolean> {
  const all = await files.remove(signal);
  await removed(all);
  return all;
}

async function writeNames(clock: Clock, { spec, group, machine }: GroupJob, signal: AbortSignal): Promise<void> {
  if (spec.names !== "file") return;
  const lines = Buffer.from(group.tests.map(({ name }) => `${name}\n`).join(""));
  await within(clock, SMALL_CALL, [machine.gone, signal], `writing names to ${machine.name}`, (limited) =>
    machine.client.writeFile(namesFile(group), 0o644, lines, limited),
  );
}

/**
 * The path of the group's file of names. Each driver of the group writes its own, since on some systems a file that is
 * being read cannot be replaced.
 */
function namesFile({ id, log }: TestGroup): string {
  return `${NAMES_DIR}/g${id}.${log.epoch}.txt`;
}

async function groupCommand(clock: Clock, job: GroupJob, signal: AbortSignal): Promise<Command> {
  const { recipe, spec, group, machine } = job;
  const stop = AbortSignal.any([machine.gone, signal]);
  const command = await commandOf(recipe, spec.run, machine.client, stop);
  const mark = spec.results === "markers" ? [`${MARK_VARIABLE}=${markOf(group.nonce)}`] : [];
  const names = group.tests.map(({ name }) => name);
  if (spec.names === "args") return { ...command, args: [...command.args, ...names], env: [...command.env, ...mark] };
  if (spec.names === "dir") {
    const dir = folderOf(recipe.sourceDir, [spec.run.dir, ...names].join("/"));
    return { ...command, dir, env: [...command.env, ...mark] };
  }
  const workDir = await within(clock, SMALL_CALL, [stop], `asking ${machine.name}`, (limited) =>
    machine.client.workDir(limited),
  );
  const separator = workDir.includes("\\") ? "\\" : "/";
  const file = [workDir, ...namesFile(group).split("/")].join(separator);
  const env = [...command.env, ...mark, `${FILE_VARIABLE}=${file}`];
  return { ...command, args: [...command.args, file], env };
}

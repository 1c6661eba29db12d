/**
 * One group of tests on one machine: its command from beginning to end, its output into a log of its own, and what each test came to.
 *
 *   names      as arguments, or as a file of lines in a folder beside the source tree
 *   output     into the log of the group, byte for byte; what is known of a test only from a report is added at the end, under its name
 *   reports    of earlier groups are removed before, those of this one are read after (report-files.ts)
 *
 * A group that a coordinator left is taken up again (command-run.ts): the bytes that the log has are read once more, so that nothing is missed
 * which they say about the tests; only what these took is not known of those that it printed while nobody listened. Whether its command had
 * begun by then only its machine knows, so all that the command needs is done again, but for what it would be hurt by: that the reports were
 * removed is in the database before it begins. Nothing here knows whether the group still counts; that is decided when its end is stored.
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

/** Beside the source tree, which a test may look at as a whole. */
const NAMES_DIR = "barnraiser-tests";
/** In the environment of a command that gets a file of names. */
const FILE_VARIABLE = "BARNRAISER_TESTS";
const SMALL_CALL: Ms = minutes(1);

export interface GroupJob {
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly group: TestGroup;
  readonly machine: BuildMachine;
  readonly writer: Pick<LogWriter, "write">;
  /** What the log has already, of a group that somebody else left. */
  readonly before: AsyncIterable<Buffer> | undefined;
  /** Stores that the reports of earlier groups were removed, `all` of them or not. */
  readonly removed: (all: boolean) => Promise<void>;
  readonly limits: CommandLimits;
}

export interface GroupRun {
  readonly status: string;
  /** From its start, whoever started it. */
  readonly durationMs: Ms;
  readonly tests: readonly TestRan[];
  /** A limit ended the command. */
  readonly stopped: boolean;
  /** Why its only test fails though it ended well; undefined: it is not so. */
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

/** How a kind of results is read off the output, and off what is there afterwards. */
interface ResultsReader {
  /** The output up to byte `length` was printed before it could be read: when, nobody knows. */
  behind(length: number): void;
  push(chunk: Buffer): void;
  /** `length` is that of the log; what `add` is given comes after it. */
  end(
    ran: CommandRan,
    length: number,
    add: (output: Buffer) => Promise<void>,
    /** Reads the report files; resolves with what was left out of them, and whether since that took too long. */
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

/** Undefined where the results are in no files. */
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

/** Whoever takes the group up has one of its own: on some systems none can take the place of one that is being read. */
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

/**
 * One group of tests on one machine: its command from beginning to end, its output into a log of its own, and what each test came to.
 *
 *   names      as arguments, or as a file of lines in a folder beside the source tree
 *   output     into the log of the group, byte for byte; what is known of a test only from a report is added at the end, under its name
 *   reports    of earlier groups are removed before, those of this one are fetched after
 *
 * A group that a coordinator left running is taken up again (command-run.ts): the bytes that the log has are read once more, so that nothing
 * is missed which they say about the tests; only what these took is not known of those that it printed while nobody listened. Nothing here knows whether the group still counts; that is decided when its end is stored.
 */
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { matches } from "../config/globs.ts";
import type { Recipe, TestsSpec } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import { sizeText } from "../farm/size-text.ts";
import { within } from "../farm/within.ts";
import type { LogWriter } from "../logs/writer.ts";
import type { TestGroup } from "../store/test-groups.ts";
import type { TestRan } from "../store/test-turn.ts";
import { parseLsLine } from "../wire/buildlet-api/ls-line.ts";
import { TarReader } from "../wire/tar/tar-reader.ts";
import { GoTestJsonReader } from "../wire/test-report/go-test-json.ts";
import { JUnitReader } from "../wire/test-report/junit.ts";
import { commandOf, folderOf } from "./command.ts";
import type { CommandLimits } from "./command-limits.ts";
import { type CommandRan, runCommand } from "./command-run.ts";
import type { BuildMachine, Command } from "./machine.ts";
import { MARK_VARIABLE, MarkerReader, markOf } from "./test-markers.ts";
import { NamedReports } from "./test-reports.ts";
import { type Reported, resultsOf } from "./test-results.ts";

/** Beside the source tree, which a test may look at as a whole. */
export const NAMES_DIR = "barnraiser-tests";
/** In the environment of a command that gets a file of names. */
const FILE_VARIABLE = "BARNRAISER_TESTS";
const SMALL_CALL: Ms = minutes(1);
const FETCH_LIMIT: Ms = minutes(5);
/** Reports of one group, unpacked; what is beyond is left out, and said to be. */
const REPORT_LIMIT = 256 * 1024 * 1024;

export interface GroupJob {
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly group: TestGroup;
  readonly machine: BuildMachine;
  readonly writer: Pick<LogWriter, "write">;
  /** What the log has already: the command was started by somebody else. */
  readonly before: AsyncIterable<Buffer> | undefined;
  readonly limits: CommandLimits;
}

export interface GroupRun {
  readonly status: string;
  /** From its start, whoever started it. */
  readonly durationMs: Ms;
  readonly tests: readonly TestRan[];
  /** A limit ended the command. */
  readonly stopped: boolean;
}

/** Runs or takes up the group until its command has ended. Rejects when the machine, the log or `signal` ends first. */
export async function runGroup(clock: Clock, job: GroupJob, signal: AbortSignal): Promise<GroupRun> {
  const { spec, group, machine, before, writer, limits } = job;
  const reader = readerOf(spec, group, clock);
  let length = 0;
  if (before) {
    for await (const chunk of before) {
      length += chunk.length;
      reader.behind(length);
      reader.push(chunk);
    }
  } else await prepare(clock, job, signal);
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
  const reported = await reader.end(
    ran,
    length,
    (output) => writer.write(output),
    (open) => fetched(clock, job, open, signal),
  );
  const { ok, stopped } = ran;
  return {
    status: ran.state,
    durationMs: ran.durationMs,
    stopped,
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
    reports: (open: (name: string) => FileReader) => Promise<FetchedReports>,
  ): Promise<Reported | undefined>;
}

/** Takes a file as it comes. */
interface FileReader {
  readonly push: (piece: Uint8Array) => void;
  readonly end: () => void;
}

interface FetchedReports {
  /** Files that went beyond the limit. */
  readonly leftOut: number;
}

function readerOf({ results }: TestsSpec, group: TestGroup, clock: Clock): ResultsReader {
  if (results === "exit") return { behind: () => {}, push: () => {}, end: async () => undefined };
  if (results === "markers") {
    const markers = new MarkerReader(group.nonce, () => clock.monotonic());
    return {
      behind: (length) => markers.behind(length),
      push: (chunk) => markers.push(chunk),
      end: async () => ({ reports: markers.reports, unended: markers.unended }),
    };
  }
  const named = new NamedReports(group.tests);
  if (results === "go-test-json") {
    const events = new GoTestJsonReader({ onTest: (test) => named.take(test) });
    return {
      behind: () => {},
      push: (chunk) => events.push(chunk),
      end: (_ran, length, add) => named.end([events.end().trouble], length, add),
    };
  }
  return {
    behind: () => {},
    push: () => {},
    end: async (_ran, length, add, reports) => {
      const troubles: string[] = [];
      const { leftOut } = await reports((name) => {
        const xml = new JUnitReader((test) => named.take(test));
        const end = (): void => {
          const { trouble } = xml.end();
          if (trouble !== undefined) troubles.push(`${name}: ${trouble}`);
        };
        return { push: (piece) => xml.push(piece), end };
      });
      if (leftOut > 0) {
        troubles.push(`${leftOut} of its files left out: together they may have ${sizeText(REPORT_LIMIT)}`);
      }
      return named.end(troubles, length, add);
    },
  };
}

/** What must be there, and what must not, before the command starts. */
async function prepare(clock: Clock, job: GroupJob, signal: AbortSignal): Promise<void> {
  const { spec, group, machine } = job;
  const signals = [machine.gone, signal];
  if (spec.names === "file") {
    const lines = Buffer.from(group.tests.map(({ name }) => `${name}\n`).join(""));
    await within(clock, SMALL_CALL, signals, `writing names to ${machine.name}`, (limited) =>
      machine.client.writeFile(namesFile(group), 0o644, lines, limited),
    );
  }
  if (typeof spec.results === "string") return;
  const old = await reportFiles(clock, job, signal);
  if (old.length === 0) return;
  await within(clock, SMALL_CALL, signals, `removing reports on ${machine.name}`, (limited) =>
    machine.client.removeAll(old, limited),
  );
}

function namesFile({ id }: TestGroup): string {
  return `${NAMES_DIR}/g${id}.txt`;
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

/** The folder that a glob cannot leave, below the source tree, and what names are asked there. */
function globParts(glob: string): { readonly folder: string; readonly patterns: readonly string[] } {
  const parts = glob.split("/").filter((part) => part !== "" && part !== ".");
  const wild = parts.findIndex((part) => /[*?]/.test(part));
  const fixed = wild < 0 ? parts.length - 1 : wild;
  const rest = parts.slice(fixed).join("/");
  return { folder: parts.slice(0, fixed).join("/"), patterns: [rest, rest.replaceAll("**/", "")] };
}

/** The reports that are there now, relative to the work folder. */
async function reportFiles(clock: Clock, job: GroupJob, signal: AbortSignal): Promise<string[]> {
  const { folder, patterns } = reportsOf(job);
  const { machine } = job;
  const lines = await within(clock, SMALL_CALL, [machine.gone, signal], `listing ${machine.name}`, (limited) =>
    machine.client.ls(folder, { recursive: true }, limited).catch((error: unknown) => {
      if (error instanceof FarmError && error.code === "bad-request") return []; // there is no such folder yet
      throw error;
    }),
  );
  const names = lines.flatMap((line) => parseLsLine(line) ?? []);
  return names.flatMap(({ name, file }) => (file && matches(patterns, name) ? [`${folder}/${name}`] : []));
}

function reportsOf({ recipe, spec }: GroupJob): { readonly folder: string; readonly patterns: readonly string[] } {
  const { folder, patterns } = globParts(typeof spec.results === "string" ? "" : spec.results.junit);
  return { folder: [recipe.sourceDir, folder].filter(Boolean).join("/"), patterns };
}

/** Each report of the group to the reader that `open` gives for it, as it comes; of a large tree no more is fetched than the folders that have some. */
async function fetched(
  clock: Clock,
  job: GroupJob,
  open: (name: string) => FileReader,
  signal: AbortSignal,
): Promise<FetchedReports> {
  const { machine } = job;
  const { folder, patterns } = reportsOf(job);
  const files = await reportFiles(clock, job, signal);
  const unpacking = new Unpacking((path) => {
    const name = folder === "" ? path : path.slice(folder.length + 1);
    return matches(patterns, name) ? open(name) : undefined;
  });
  await within(clock, FETCH_LIMIT, [machine.gone, signal], `fetching reports from ${machine.name}`, async (limited) => {
    for (const dir of outermost(files)) await unpacking.take(dir, await machine.client.readTgz(dir, limited));
  });
  return unpacking;
}

/** The folders that `files` are in, without those that are in another one of them. */
function outermost(files: readonly string[]): string[] {
  const all = new Set(files.map((file) => file.slice(0, Math.max(0, file.lastIndexOf("/")))));
  const isIn = (dir: string): boolean =>
    dir !== "" && dir.split("/").some((_, depth, parts) => depth > 0 && all.has(parts.slice(0, depth).join("/")));
  return all.has("") ? [""] : [...all].filter((dir) => !isIn(dir)).toSorted();
}

/** Files out of several archives: those that somebody wants to read, up to REPORT_LIMIT of them together. */
class Unpacking implements FetchedReports {
  readonly #open: (path: string) => FileReader | undefined;
  #left = REPORT_LIMIT;
  #leftOut = 0;

  constructor(open: (path: string) => FileReader | undefined) {
    this.#open = open;
  }

  get leftOut(): number {
    return this.#leftOut;
  }

  /** Reads a tar.gz of the folder `dir`. */
  async take(dir: string, packed: Readable): Promise<void> {
    let reading: FileReader | undefined;
    const reader = new TarReader({
      entry: ({ name, type, size }) => {
        const plain = name.replace(/^\.\//, "");
        const wanted = type === "file" ? this.#open(dir === "" ? plain : `${dir}/${plain}`) : undefined;
        reading = size > this.#left ? undefined : wanted;
        if (reading) this.#left -= size;
        else if (wanted) this.#leftOut++;
      },
      data: (piece) => reading?.push(piece),
      end: () => reading?.end(),
    });
    const unzipped = packed.pipe(createGunzip());
    packed.once("error", (error) => unzipped.destroy(error));
    try {
      for await (const chunk of unzipped) reader.push(chunk as Buffer);
    } catch (error) {
      if (error instanceof FarmError) throw error;
      throw new FarmError("machine-broken", `The reports cannot be read: ${String(error)}`, { cause: error });
    } finally {
      packed.destroy();
    }
  }
}

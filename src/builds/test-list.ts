/**
 * The names of a build's tests, and which of them are run. They are printed by a command, or fixed, or those of the
 * folders that have a certain file.
 */
import { matches } from "../config/globs.ts";
import type { Recipe, TestList, TestsSpec } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { type Ms, minutes } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";
import { parseLsLine } from "../wire/buildlet-api/ls-line.ts";
import { commandOf } from "./command.ts";
import { type BuildLimit, limitsOf, withinBuild } from "./command-limits.ts";
import { runCommand } from "./command-run.ts";
import { olderName } from "./go-dist.ts";
import type { BuildMachine } from "./machine.ts";
import { MARK_VARIABLE, markOf } from "./test-markers.ts";
import { type Listed, TestNames } from "./test-names.ts";

const FOLDERS_LIMIT: Ms = minutes(5);

export interface ListJob {
  readonly recipe: Recipe;
  readonly spec: TestsSpec;
  readonly machine: BuildMachine;
  readonly limit: BuildLimit;
  readonly writer: LogWriter;
  /** The id of the list command's run (command-run.ts). */
  readonly id: string;
  /** The part of the command's output that the log has already. */
  readonly before: AsyncIterable<Buffer>;
}

/** The tests to run. A text says why that cannot be known: then the builder's list is at fault. */
export async function listTests(clock: Clock, job: ListJob, signal: AbortSignal): Promise<Listed | string> {
  const { spec } = job;
  const listed = await listedBy(clock, job, spec.list, signal);
  if (typeof listed === "string" || spec.only === undefined) return listed;
  const { only } = spec;
  const names = listed.names.filter((name) => matches(only, patternName(spec, name)));
  return names.length === 0 ? "none of the tests that were listed is to be run" : { ...listed, names };
}

/** Whether a test is never in a group with others. */
export function isAlone(spec: TestsSpec, name: string): boolean {
  return spec.names === "dir" || (spec.alone !== undefined && matches(spec.alone, patternName(spec, name)));
}

/** The name of the test that patterns are compared with. */
function patternName({ dialect }: TestsSpec, name: string): string {
  return dialect === "go-dist" ? olderName(name) : name;
}

async function listedBy(clock: Clock, job: ListJob, list: TestList, signal: AbortSignal): Promise<Listed | string> {
  if ("names" in list) return { names: list.names, doubled: 0 };
  if ("foldersWith" in list) return foldersWith(clock, job, list.foldersWith, signal);
  const { recipe, spec, machine, writer, before, id, limit } = job;
  const mark = markOf(id);
  const names = new TestNames(mark);
  let from = 0;
  for await (const chunk of before) {
    from += chunk.length;
    names.push(chunk);
  }
  const taken = {
    write: (chunk: Buffer): Promise<void> => {
      names.push(chunk);
      return writer.write(chunk);
    },
  };
  const command = await commandOf(recipe, list.command, machine.client, AbortSignal.any([machine.gone, signal]));
  const limits = limitsOf(recipe, list.command, limit);
  // Go's own commands are asked just as its own farm asks them.
  const env = spec.dialect === undefined ? [...command.env, `${MARK_VARIABLE}=${mark}`] : command.env;
  const run = { machine, command: { ...command, env }, id, from, writer: taken, limits, what: "the list of tests" };
  const ran = await runCommand(clock, run, signal);
  return ran.ok ? names.end() : ran.state;
}

/** Folders that are not searched: their files are third-party code, or no source. */
const PASSED_OVER = /^[._]|^(testdata|vendor|node_modules)$/;

async function foldersWith(clock: Clock, job: ListJob, file: string, signal: AbortSignal): Promise<Listed | string> {
  const { machine, recipe, limit } = job;
  const signals = [machine.gone, signal];
  const lines = await withinBuild(
    clock,
    FOLDERS_LIMIT,
    limit,
    signals,
    `listing folders of ${machine.name}`,
    (limited) => machine.client.ls(recipe.sourceDir, { recursive: true }, limited),
  );
  const names: string[] = [];
  for (const line of lines) {
    const folders = parseLsLine(line)?.name.split("/") ?? [];
    if (folders.pop() !== file || folders.some((folder) => PASSED_OVER.test(folder))) continue;
    names.push(folders.join("/") || ".");
  }
  return names.length === 0 ? `no folder has a file ${JSON.stringify(file)}` : { names: names.toSorted(), doubled: 0 };
}

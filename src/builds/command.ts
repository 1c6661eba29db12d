/** A step of a recipe as a command for one machine. */
import type { Recipe, Step } from "../farm/build.ts";
import type { BuildClient, Command } from "./machine.ts";

const WORK_DIR = "$WORKDIR";

/**
 * The command of `step`. The machine is asked for its work folder if the environment mentions it, since a machine
 * expands variables in PATH only.
 */
export async function commandOf(
  recipe: Recipe,
  step: Step,
  client: Pick<BuildClient, "workDir">,
  signal: AbortSignal,
): Promise<Command> {
  const [cmd = "", ...args] = step.command;
  const env = [...recipe.env, ...step.env];
  const workDir = env.some((entry) => entry.includes(WORK_DIR)) ? await client.workDir(signal) : "";
  return {
    cmd,
    args,
    dir: folderOf(recipe.sourceDir, step.dir),
    env: env.map((entry) => entry.replaceAll(WORK_DIR, workDir)),
    path: step.path,
    ...(step.showCommand && { debug: true }),
  };
}

/** The folder `dir` of a step, relative to the machine's work folder. */
export function folderOf(sourceDir: string, dir: string): string {
  return foldersOf(belowWorkDir(dir) ?? `${sourceDir}/${dir}`).join("/") || ".";
}

/** The part of `dir` after `$WORKDIR`; undefined for a folder below the source tree. */
function belowWorkDir(dir: string): string | undefined {
  return dir === WORK_DIR || dir.startsWith(`${WORK_DIR}/`) ? dir.slice(WORK_DIR.length) : undefined;
}

/**
 * The parts of `path`, without empty ones and `.`. Each `..` removes the part before it, and never leaves the work
 * folder.
 */
function foldersOf(path: string): string[] {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return parts;
}

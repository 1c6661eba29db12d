/** Commands of the package, whose output is that of the whole. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";

const MOST_OUTPUT = 64 * 1024 * 1024;

/** Says whether it ended well. */
export function run(program: string, args: readonly string[]): boolean {
  return spawn(program, args, "inherit").status === 0;
}

/** What it prints. Without it there is nothing to go on with: one that fails is the end of the program. */
export function output(program: string, args: readonly string[]): string {
  const { status, stdout } = spawn(program, args, "pipe");
  if (status === 0) return stdout;
  process.stdout.write(stdout);
  throw new Error(`${[program, ...args].join(" ")} did not end well`);
}

function spawn(program: string, args: readonly string[], stdout: "inherit" | "pipe"): SpawnSyncReturns<string> {
  // On Windows npm and npx are scripts, which only a shell runs.
  const shell = process.platform === "win32" && program !== process.execPath;
  const ended = spawnSync(program, shell ? args.map(quoted) : args, {
    shell,
    stdio: ["ignore", stdout, "inherit"],
    maxBuffer: MOST_OUTPUT,
    encoding: "utf8",
  });
  if (ended.error) throw ended.error;
  return ended;
}

function quoted(arg: string): string {
  return /^[\w@=:.,\\/-]+$/.test(arg) ? arg : `"${arg.replace(/"/g, '\\"')}"`;
}

/**
 * Ends a command with everything that it started.
 *
 * Each command leads a session and process group of its own, and has a mark in its environment that its descendants
 * inherit.
 *
 *   Linux        All processes that /proc shows to be the command's (linux-processes.ts) are killed, also daemons that
 *                left its group. This is repeated until none is found, since a process may fork while we look. One that
 *                hides on purpose is not found: cleared environment, own session, dead parent, and either nothing in
 *                the work dir any more, or a terminal or display. With `-own-user` none need be found (own-user.ts)
 *   other Unix   The group is killed, and descendants are followed by their parents. A daemon that had left its parents
 *                before is not found
 *   Windows      `taskkill /T`
 */
import { findOnLinux, type Session, type Wanted } from "./linux-processes.ts";

export { leaderEnded, MARK_VARIABLE, type Session, sessionOf } from "./linux-processes.ts";

/** The rounds of looking. Each finds what was forked during the one before. */
const ROUNDS = 20;
/** How long `ps` or `taskkill` may take. */
const RUN_LIMIT_MS = 10_000;

export interface Prey extends Wanted {
  /** The process and group of one command. On Linux `sessions` names it instead. */
  readonly pid?: number | undefined;
}

export async function killTree(prey: Prey, platform: NodeJS.Platform): Promise<void> {
  const { pid } = prey;
  if (platform === "win32") {
    if (pid !== undefined) await run("taskkill", ["/T", "/F", "/PID", String(pid)]);
    return;
  }
  if (platform !== "linux") {
    const below = pid === undefined ? [] : descendants(await run("ps", ["-axo", "pid=,ppid=,pgid="]), pid);
    if (pid !== undefined) kill(-pid);
    for (const process of below) kill(process);
    return;
  }
  const known = new Set<number>();
  for (let round = 0; round < ROUNDS; round++) {
    const { pids, sessions } = findOnLinux(prey, known);
    if (pids.length === 0) return;
    for (const { id } of sessions) kill(-id); // the group of a leader dies at once, before one of it can fork
    for (const process of pids) kill(process);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It is gone already, or another user's, whom we may not kill.
  }
}

export interface Left {
  /**
   * Whether a process of the commands lives, as far as can be seen. True on systems where we do not look before
   * killing.
   */
  readonly any: boolean;
  /** The sessions that they are in. */
  readonly sessions: readonly Session[];
}

export function lookForLeft(wanted: Wanted, platform: NodeJS.Platform): Left {
  if (platform !== "linux") return { any: true, sessions: [] };
  const { pids, sessions } = findOnLinux(wanted, new Set());
  return { any: pids.length > 0, sessions };
}

function descendants(table: string, root: number): number[] {
  const rows = table.split("\n").map((line) => line.trim().split(/\s+/).map(Number));
  const below = new Set([root]);
  for (let before = 0; before !== below.size; ) {
    before = below.size;
    for (const [pid, parent, group] of rows) {
      if (pid !== undefined && parent !== undefined && (below.has(parent) || group === root)) below.add(pid);
    }
  }
  below.delete(root);
  return [...below];
}

async function run(program: string, args: readonly string[]): Promise<string> {
  const { execFile } = await import("node:child_process");
  return new Promise((resolve) => {
    execFile(program, args, { maxBuffer: 64 * 1024 * 1024, timeout: RUN_LIMIT_MS }, (_error, stdout) =>
      resolve(stdout),
    );
  });
}

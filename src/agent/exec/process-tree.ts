/**
 * Ending a command with everything that it started.
 *
 * Each command leads a session and process group of its own, and has a mark in its environment that its descendants
 * inherit. To end it, the group is killed, and on Linux also whoever in /proc has the mark, the session, the group or such
 * a parent: so daemons that left the group go too. A scan repeats until it finds nobody, since a process may fork while we
 * look. Whoever is older than this program cannot be one of them, which spares reading most environments. Only a process that cleared its environment, left its session and lost its parent before is not found.
 * Elsewhere on Unix descendants are followed by parent; a daemon that left its parents before is not found. Windows has
 * `taskkill /T`.
 */
import { readdirSync, readFileSync } from "node:fs";

export const MARK_VARIABLE = "BARNRAISER_EXEC";

/** Rounds of looking: each finds what was forked during the one before. */
const ROUNDS = 20;
/** How long `ps` or `taskkill` may take. */
const RUN_LIMIT_MS = 10_000;

export interface Prey {
  /** The command's process and group, when it was started at all. */
  readonly pid: number | undefined;
  /** Value of MARK_VARIABLE, or the beginning of it: all commands whose mark begins so. */
  readonly mark: string;
  /** Marks that are to be left alone. */
  readonly spare?: ReadonlySet<string>;
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
  const known = new Set(pid === undefined ? [] : [pid]);
  for (let round = 0; round < ROUNDS; round++) {
    const found = findOnLinux(prey, known);
    // Not before the first look: children of the dead have lost their parent.
    if (pid !== undefined) kill(-pid);
    if (found.length === 0) return;
    for (const process of found) kill(process);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone already, or another user's: nothing that we may do.
  }
}

/** Whether any living process belongs to `prey`, as far as it can be told; where only killing looks for them: true. */
export function isLeft(prey: Prey, platform: NodeJS.Platform): boolean {
  return platform !== "linux" || findOnLinux(prey, new Set()).length > 0;
}

interface Row {
  readonly pid: number;
  readonly parent: number;
  readonly ours: boolean;
}

/** Living processes (not zombies) that belong to `prey`, or have a parent in `known`, where all found are added. */
function findOnLinux({ pid, mark, spare }: Prey, known: Set<number>): number[] {
  const wanted = Buffer.from(`${MARK_VARIABLE}=${mark}`);
  const oldest = startedAt(statFields("self"));
  const rows: Row[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const fields = statFields(name);
    const [state = "", parent, group, session] = fields;
    if (state === "" || state === "Z" || state === "X" || startedAt(fields) < oldest) continue;
    const same = pid !== undefined && (Number(group) === pid || Number(session) === pid);
    const ours = same || marked(read(`/proc/${name}/environ`), wanted, spare);
    rows.push({ pid: Number(name), parent: Number(parent), ours });
  }
  for (let before = -1; before !== known.size; ) {
    before = known.size;
    for (const row of rows) if (row.ours || known.has(row.parent)) known.add(row.pid);
  }
  return rows.filter((row) => known.has(row.pid)).map((row) => row.pid);
}

/** The command's name is in brackets and may hold anything; fields count from behind it: state ppid pgrp session. */
function statFields(name: string): string[] {
  const stat = read(`/proc/${name}/stat`).toString("latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** In ticks since the system started. */
function startedAt(fields: readonly string[]): number {
  return Number(fields[19] ?? 0);
}

function marked(environ: Buffer, wanted: Buffer, spare: ReadonlySet<string> | undefined): boolean {
  const at = environ.subarray(0, wanted.length).equals(wanted) ? 0 : environ.indexOf(`\0${wanted.toString()}`) + 1;
  if (at === 0 && !environ.subarray(0, wanted.length).equals(wanted)) return false;
  const end = environ.indexOf(0, at);
  const value = environ.toString("latin1", at + MARK_VARIABLE.length + 1, end === -1 ? undefined : end);
  return spare === undefined || !spare.has(value);
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0); // it ended, or is another user's
  }
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

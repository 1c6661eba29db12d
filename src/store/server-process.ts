/**
 * The process of a PostgreSQL server, whoever started it.
 *
 *   child     a child of this program: its end is an event.
 *   left      by a coordinator that was killed. It is no child of ours, so its end can only be seen by looking
 *             (IS_GONE_EVERY). Its command line, which names the cluster, tells it from a later process with the same
 *             number (in /proc, where the system has that).
 *   backends  of a server that was killed. They end by themselves, but only after their present statement. While one
 *             of them lives, no other server can start on the cluster. They are found by the folder that they run in
 *             (/proc).
 */
import type { ChildProcess } from "node:child_process";
import { readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, ms, seconds } from "../farm/ids.ts";

const IS_GONE_EVERY: Ms = ms(100);
const STOP_LIMIT: Ms = seconds(30);
/**
 * How long backends may take to end: longer than any statement of ours (connection.ts STATEMENT_LIMIT), since a backend
 * may learn that its server is gone only when its statement ends.
 */
const BACKENDS_LIMIT: Ms = seconds(60);

export interface ServerProcess {
  /** The process id. Undefined: the server could not be started. */
  readonly pid: number | undefined;
  isGone(): Promise<boolean>;
  /** Resolves once the process is gone, with what is known of how it ended. */
  ended(): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

/** The server that this program started as `child`. */
export function serverChild(child: ChildProcess): ServerProcess {
  const isGone = () => child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
  return {
    pid: child.pid,
    isGone: async () => isGone(),
    async ended() {
      if (!isGone()) await new Promise((resolve) => child.once("exit", resolve));
      return { code: child.exitCode, signal: child.signalCode };
    },
  };
}

/** The server that runs on `cluster` and was started by another program. Undefined: there is none. */
export async function serverLeft(
  cluster: string,
  clock: Clock,
): Promise<(ServerProcess & { pid: number }) | undefined> {
  const text = await readFile(join(cluster, "postmaster.pid"), "utf8").catch(() => undefined);
  const pid = Number(text?.split("\n")[0]);
  if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
  const isGone = async () => !(await isServerOf(pid, cluster));
  if (await isGone()) return undefined;
  return {
    pid,
    isGone,
    async ended() {
      while (!(await isGone())) await clock.sleep(IS_GONE_EVERY);
      return { code: null, signal: null };
    },
  };
}

/**
 * Whether process `pid` was started by exactly this command and runs the program that is installed now, not one from
 * before an upgrade.
 */
export async function runsCommand(pid: number, program: string, args: readonly string[]): Promise<boolean> {
  try {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8");
    const running = await readlink(`/proc/${pid}/exe`); // "(deleted)" is appended if the file was replaced
    return command === [program, ...args, ""].join("\0") && running === (await realpath(program));
  } catch {
    return false; // another system, or a process that we may not look at
  }
}

/**
 * Asks the server to stop fast, which keeps every commit. After STOP_LIMIT it makes the server quit at once; that
 * server then recovers at its next start.
 */
export async function stopServer(server: ServerProcess, clock: Clock): Promise<void> {
  for (const signal of ["SIGINT", "SIGQUIT"] as const) {
    signalServer(server, signal);
    const limit = clock.monotonic() + STOP_LIMIT;
    while (!(await server.isGone()) && clock.monotonic() < limit) await clock.sleep(ms(10));
    if (await server.isGone()) return;
  }
  throw new FarmError(
    "timed-out",
    `Cannot stop PostgreSQL (process ${server.pid}): it still runs after ${(2 * STOP_LIMIT) / 1000} s`,
  );
}

/**
 * Tells the backends of an ended server on `cluster` to end, and waits for that. Throws `timed-out` naming those that
 * stay.
 */
export async function backendsEnded(cluster: string, clock: Clock, log: Log): Promise<void> {
  const limit = clock.monotonic() + BACKENDS_LIMIT;
  for (let told = ""; ; ) {
    const pids = await processesIn(cluster);
    if (pids.length === 0) return;
    const named = pids.join(", ");
    if (named !== told) {
      told = named;
      log.info({ pids }, "Waiting for processes of the PostgreSQL before, which must end before another can start");
    }
    if (clock.monotonic() > limit) {
      throw new FarmError(
        "timed-out",
        `Cannot start PostgreSQL in ${cluster}: processes of the one before it still run after ${BACKENDS_LIMIT / 1000} s (${named}). End them, then start again.`,
      );
    }
    for (const pid of pids) signalServer({ pid }, "SIGTERM");
    await clock.sleep(IS_GONE_EVERY);
  }
}

/**
 * PostgreSQL processes that run in the folder `cluster`, as all of its processes do. Empty where the system does not
 * show them.
 */
async function processesIn(cluster: string): Promise<number[]> {
  const folder = await realpath(cluster);
  const pids = (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name));
  const runsHere = async (pid: string): Promise<boolean> => {
    try {
      if ((await readlink(`/proc/${pid}/cwd`)) !== folder) return false;
      return /^postgres\b/.test(basename(await readlink(`/proc/${pid}/exe`)));
    } catch {
      return false; // it has ended meanwhile, or belongs to somebody else
    }
  };
  const found = await Promise.all(pids.map(async (pid) => ((await runsHere(pid)) ? [Number(pid)] : [])));
  return found.flat();
}

export function signalServer({ pid }: Pick<ServerProcess, "pid">, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended meanwhile
  }
}

/** A dying process shows no command line any more, but PostgreSQL counts it as running until it is gone. */
async function isServerOf(pid: number, cluster: string): Promise<boolean> {
  if (!isAlive(pid)) return false;
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => undefined);
  if (command === undefined) return process.platform !== "linux";
  if (command !== "") return command.includes(cluster);
  return (await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")).includes("(postgres)");
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

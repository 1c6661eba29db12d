/**
 * Processes that a bench starts: their output goes to a file, they are asked to end when the bench ends, and killed if it dies.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { delay } from "./wait.ts";

export const root: string = fileURLToPath(new URL("..", import.meta.url));

const STOP_LIMIT_MS = 20_000;
const living = new Set<ChildProcess>();

/** Makes sure that `child` does not outlive us. */
export function own(child: ChildProcess): void {
  living.add(child);
  child.once("exit", () => living.delete(child));
}

/** The last resort, at the end of this process. */
export function endAllProcesses(): void {
  for (const child of living) child.kill("SIGKILL");
}

export interface ProgramOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** Takes stdout and stderr. */
  readonly output: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
}

export class Program implements AsyncDisposable {
  readonly pid: number;
  readonly output: string;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, pid: number, output: string) {
    this.#child = child;
    this.pid = pid;
    this.output = output;
  }

  static async start({ command, args, output, env, cwd }: ProgramOptions): Promise<Program> {
    await using file = await open(output, "a");
    const child = spawn(command, [...args], {
      cwd: cwd ?? root,
      env: { ...process.env, ...env },
      stdio: ["ignore", file.fd, file.fd],
    });
    own(child);
    await new Promise<void>((resolve, reject) => child.once("spawn", resolve).once("error", reject));
    if (child.pid === undefined) throw new Error(`Cannot start ${command}: it has no process id`);
    return new Program(child, child.pid, output);
  }

  /** How it ended; undefined while it runs. */
  get ended(): string | undefined {
    const { exitCode, signalCode } = this.#child;
    if (signalCode !== null) return signalCode;
    return exitCode === null ? undefined : `exit status ${exitCode}`;
  }

  /** An error that tells how this program ended, with the last lines of what it printed. */
  async failure(what: string): Promise<Error> {
    const said = await readFile(this.output, "utf8").catch(() => "");
    const lines = said.trimEnd().split("\n").slice(-15).join("\n");
    return new Error(`${what}: ${this.ended ?? "it still runs"}. It said:\n${lines}`);
  }

  /** Asks it to end, insists after a while, and resolves when it is gone. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.ended !== undefined) return;
    const gone = new Promise<void>((resolve) => this.#child.once("exit", () => resolve()));
    this.#child.kill(signal);
    const insist = setTimeout(() => this.#child.kill("SIGKILL"), STOP_LIMIT_MS);
    await gone;
    clearTimeout(insist);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Resident memory of a process in bytes, from /proc. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kilobytes === undefined) throw new Error(`Cannot read the memory of process ${pid}: it ended`);
  return Number(kilobytes) * 1024;
}

/** Processor time that a process has used, all threads and both modes, in milliseconds (steps of 10). */
export async function processorMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name before may hold anything
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Samples a process's memory until disposed. */
export class MemoryWatch implements AsyncDisposable {
  peakBytes = 0;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  constructor(pid: number, everyMs = 50) {
    this.#loop = this.#watch(pid, everyMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #watch(pid: number, everyMs: number): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.peakBytes = Math.max(this.peakBytes, await residentBytes(pid).catch(() => 0));
      await delay(everyMs, this.#stop.signal).catch(() => {});
    }
  }
}

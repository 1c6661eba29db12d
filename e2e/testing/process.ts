/** Real processes for tests: started, listened to line by line, and gone with everything they started when the test ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** How long a test waits for something that should take moments. */
const LIMIT_MS = 60_000;

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Where the program was built to; our own `dist`. */
  readonly dist?: string;
  readonly user?: { readonly uid: number; readonly gid: number };
}

export class Process implements AsyncDisposable {
  readonly child: ChildProcess;
  output = "";
  readonly exited: Promise<number | NodeJS.Signals>;
  readonly #changed = new Set<() => void>();

  constructor(command: string, args: readonly string[], options: RunOptions = {}) {
    this.child = spawn(command, [...args], {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: ["ignore", "pipe", "pipe"],
      ...options.user,
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
        this.#tell();
      });
    }
    this.exited = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code, signal) => {
        resolve(signal ?? code ?? 0);
        this.#tell();
      });
    });
  }

  /** Node running one of our programs. */
  static program(name: string, args: readonly string[], options: RunOptions = {}): Process {
    return new Process(process.execPath, [`${options.dist ?? `${root}dist`}/${name}`, ...args], options);
  }

  /** Resolves with the match once the output has it; rejects, showing the output, when the process ends or the limit passes first. */
  async says(pattern: RegExp, limitMs: number = LIMIT_MS): Promise<RegExpExecArray> {
    const match = () => pattern.exec(this.output);
    await until(
      () => match() !== null || this.child.exitCode !== null,
      limitMs,
      () => `${pattern} in:\n${this.output}`,
      this.#changed,
    );
    const found = match();
    if (!found)
      throw new Error(`The process ended (${this.child.exitCode}) without saying ${pattern}:\n${this.output}`);
    return found;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGTERM");
      const insist = setTimeout(() => this.child.kill("SIGKILL"), 20_000);
      await this.exited;
      clearTimeout(insist);
    }
  }

  #tell(): void {
    for (const call of this.#changed) call();
  }
}

/** Resolves when `done` holds, asked on each change and often; rejects naming `what` when `limitMs` passes. */
export async function until(
  done: () => boolean | Promise<boolean>,
  limitMs: number,
  what: () => string,
  changes?: Set<() => void>,
): Promise<void> {
  const limit = performance.now() + limitMs;
  while (!(await done())) {
    if (performance.now() > limit) throw new Error(`Waited ${limitMs} ms in vain for ${what()}`);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(go, 25);
      function go() {
        clearTimeout(timer);
        changes?.delete(go);
        resolve();
      }
      changes?.add(go);
    });
  }
}

/** Command lines of living processes that mention `word` (Linux), to see that nothing is left behind. */
export async function processesWith(word: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) continue;
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(word)) found.push(`${pid} ${command.replaceAll("\0", " ")}`);
  }
  return found;
}

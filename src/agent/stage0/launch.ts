/** Starts the agent in stage0's place, or as its child where the system has no execve. */
import type { Environment } from "../../dial/proxy.ts";

/**
 * V8 options that keep an idle agent small: it may collect its garbage when idle (../idle-memory.ts), and a compiler
 * that the few hot loops of an agent do not need stays unloaded. Node before 22 does not know the second.
 */
function nodeOptions(nodeVersion: string): readonly string[] {
  return ["--expose-gc", ...(Number.parseInt(nodeVersion, 10) >= 22 ? ["--no-maglev"] : [])];
}

export interface Program {
  readonly path: string;
  readonly args: readonly string[];
}

/** The program and arguments for `file`: the Node that runs us runs scripts; anything else is a program itself. */
export function commandFor(file: string, args: readonly string[]): Program {
  if (!/\.[mc]?js$/.test(file)) return { path: file, args };
  return { path: process.execPath, args: [...nodeOptions(process.versions.node), file, ...args] };
}

/** Becomes the program. Returns only where that is impossible. */
export function becomeProgram({ path, args }: Program, env: Environment): void {
  const execve: unknown = Reflect.get(process, "execve"); // Node 20 has none, nor has Windows
  if (typeof execve !== "function" || process.platform === "win32") return;
  process.removeAllListeners("warning"); // the owner need not know that execve is new
  Reflect.apply(execve, process, [path, [path, ...args], env]);
}

/** Runs the program with our output until `signal` aborts. Resolves with its exit code, or 1 after a signal. */
export async function runChild({ path, args }: Program, env: Environment, signal: AbortSignal): Promise<number> {
  const { spawn } = await import("node:child_process");
  return await new Promise((resolve, reject) => {
    const child = spawn(path, args, { env: { ...env }, stdio: ["ignore", "inherit", "inherit"] });
    const stop = () => void child.kill("SIGTERM");
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    child.once("error", reject);
    child.once("exit", (code) => {
      signal.removeEventListener("abort", stop);
      resolve(code ?? 1);
    });
  });
}

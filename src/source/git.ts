/**
 * Runs the git program on addresses and commits that other people chose.
 *
 * What always holds: no shell, no question to a terminal or a dialog, no program that a repository or a setting names
 * (hooks, helpers, `ext::`), and a time limit on every run. When a run ends early, by limit, signal or a reader that
 * stops reading, its whole process group is killed.
 *
 *   remote  talks to another repository; the user's git settings apply (proxies, certificate authorities, `insteadOf`)
 *   local   reads a mirror of ours; no user's settings apply, so that a tree is the same on every computer
 */
import { spawn } from "node:child_process";
import { devNull } from "node:os";
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import type { Ms } from "../farm/ids.ts";

export interface GitRun {
  readonly kind: "remote" | "local";
  readonly limit: Ms;
  /** What is written to git's standard input; undefined: nothing. */
  readonly input?: string;
  /** Variables for this run alone. Secrets go here, since arguments can be read by everybody on the computer. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The failure of a run of git. */
export class GitError extends Error {
  override readonly name = "GitError";
  /**
   * `exit`: git itself failed; `limit`: it ran too long; `output`: it wrote too much; `missing`: there is no git
   * program.
   */
  readonly why: "exit" | "limit" | "output" | "missing";
  /** The end of what git wrote to standard error, made printable. */
  readonly stderr: string;

  constructor(why: GitError["why"], stderr: string, message: string) {
    super(message);
    this.why = why;
    this.stderr = stderr;
  }
}

const STDERR_KEPT = 8192;
const OUTPUT_LIMIT = 64 << 20;

const SETTINGS = [
  "credential.helper=",
  "core.askPass=",
  `core.hooksPath=${devNull}`,
  "core.fsmonitor=false",
  "gc.autoDetach=false",
  "core.quotePath=false",
  "safe.directory=*",
  "submodule.recurse=false",
  "fetch.recurseSubmodules=false",
  "fetch.fsckObjects=false",
  // Ends a run whose server stops in the middle of an answer.
  "http.lowSpeedLimit=1",
  "http.lowSpeedTime=60",
].flatMap((setting) => ["-c", setting]);

/**
 * The value of `--upload-pack` for a folder. The folder may belong to another user than the farm's, and settings do not
 * reach git's own child. The pack need not be small, since nothing goes over a network, and tidying packs better later.
 */
export const LOCAL_UPLOAD_PACK = "git -c 'safe.directory=*' -c pack.window=0 -c pack.compression=1 upload-pack";

export class Git {
  readonly #clock: Clock;
  readonly #environment: NodeJS.ProcessEnv;

  constructor(clock: Clock, environment: NodeJS.ProcessEnv) {
    this.#clock = clock;
    this.#environment = environment;
  }

  /** Runs git, and returns all that it writes. Throws GitError, or the reason of `signal`. */
  async run(args: readonly string[], options: GitRun, signal: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of this.stream(args, options, signal)) {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes > OUTPUT_LIMIT) {
        throw new GitError("output", "", `git ${verbOf(args)} wrote more than ${OUTPUT_LIMIT} bytes`);
      }
    }
    return Buffer.concat(chunks);
  }

  /** Runs git, and gives what it writes as it comes. A reader that stops ends git. Throws as `run` does. */
  async *stream(args: readonly string[], options: GitRun, signal: AbortSignal): AsyncGenerator<Buffer, void> {
    signal.throwIfAborted();
    const child = spawn("git", [...SETTINGS, ...args], {
      env: { ...environmentOf(this.#environment, options.kind), ...options.env },
      stdio: ["pipe", "pipe", "pipe"],
      detached: process.platform !== "win32", // a group of its own, and no terminal to ask on
      windowsHide: true,
    });
    const ended = Promise.withResolvers<number | string>();
    let failed: Error | undefined;
    child.once("error", (error) => {
      failed = error;
      ended.resolve("error");
    });
    child.once("close", (code, killedBy) => ended.resolve(code ?? killedBy ?? "gone"));
    const kill = (): void => killGroup(child.pid);
    let overdue = false;
    const over = new AbortController();
    const timer = this.#clock.sleep(options.limit, over.signal).then(
      () => {
        overdue = true;
        kill();
      },
      () => {}, // git was faster
    );
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-STDERR_KEPT);
    });
    child.stdin.on("error", () => {}); // git may end without having read it all
    child.stdin.end(options.input ?? "");
    signal.addEventListener("abort", kill, { once: true });
    let read = false;
    try {
      for await (const chunk of child.stdout) yield chunk;
      read = true;
      const code = await ended.promise;
      signal.throwIfAborted();
      const said = printable(stderr);
      if (overdue)
        throw new GitError("limit", said, `git ${verbOf(args)} ran longer than ${durationText(options.limit)}`);
      if (failed) throw new GitError("missing", "", `Cannot run the git program: ${failed.message}`);
      if (code !== 0) throw new GitError("exit", said, `git ${verbOf(args)} ended with ${code}: ${said}`);
    } finally {
      signal.removeEventListener("abort", kill);
      over.abort();
      if (!read) kill();
      await Promise.all([ended.promise, timer]);
    }
  }
}

/** The command in the arguments, such as `fetch` of `--git-dir X fetch ...`. */
function verbOf(args: readonly string[]): string {
  return (args[0] === "--git-dir" ? args[2] : args[0]) ?? "";
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(process.platform === "win32" ? pid : -pid, "SIGKILL");
  } catch {
    // it has ended by itself
  }
}

/**
 * The farm's environment, without variables that would point git to another repository, another program or a person.
 */
function environmentOf(base: NodeJS.ProcessEnv, kind: GitRun["kind"]): NodeJS.ProcessEnv {
  const kept = Object.entries(base).filter(([key]) => {
    if (/^(SSH_ASKPASS.*|DISPLAY|WAYLAND_DISPLAY|LANGUAGE)$/i.test(key)) return false;
    return !/^GIT_/i.test(key) || /^GIT_(SSH|SSH_COMMAND|SSH_VARIANT|SSL_CAINFO|SSL_CAPATH|EXEC_PATH)$/i.test(key);
  });
  return {
    ...Object.fromEntries(kept),
    LC_ALL: "C", // its messages are read by remote-trouble.ts
    GIT_TERMINAL_PROMPT: "0",
    GIT_ASKPASS: "",
    GIT_ALLOW_PROTOCOL: "file:http:https:ssh",
    GIT_OPTIONAL_LOCKS: "0",
    GIT_SSH_COMMAND: base.GIT_SSH_COMMAND ?? "ssh -o BatchMode=yes -o ConnectTimeout=15 -o ServerAliveInterval=15",
    ...(kind === "local" ? { GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: devNull, GIT_ATTR_NOSYSTEM: "1" } : {}),
  };
}

/** A printable form of what git prints, since servers may put anything into it. */
function printable(text: string): string {
  return text
    .replace(/\p{Cc}\[[0-9;?]*[A-Za-z]/gu, "")
    .replace(/(?!\n)\p{C}/gu, " ")
    .trim();
}

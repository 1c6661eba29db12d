/**
 * POST /shell: what a borrower has of this machine (wire/buildlet-api/shell.ts). No sshd is needed and nothing listens:
 * a shell is reached only over the very connection on which it was asked for.
 *
 *   asked -open-> starting -> running -exits-> reported, hung up
 *   any -the connection breaks, the lease ends, the agent ends-> killed, with all that it started
 *
 * A command finds what a command of /exec finds: the same environment and the same work dir; TERM is added. So what
 * works here works in a build.
 */
import { randomBytes } from "node:crypto";
import { constants as access, accessSync } from "node:fs";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { constants } from "node:os";
import { delimiter, isAbsolute, join } from "node:path";
import { messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { type Opening, SHELL_UPGRADE, type ShellFrame, type Started } from "../../wire/buildlet-api/shell.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { encodeResponseHead, fieldValues, type ReadHead, type RequestHead } from "../../wire/revdial/http-head.ts";
import type { ApiDeps } from "../api/api-deps.ts";
import { sameText } from "../api/same-text.ts";
import { execEnv, gorootBootstrap } from "../exec/exec-env.ts";
import { OutputPipes } from "../exec/output-pipe.ts";
import { killTree, leaderEnded, MARK_VARIABLE, type Session, sessionOf } from "../exec/process-tree.ts";
import { ensureWorkDir } from "../work-dir.ts";
import type { Opened } from "./opened.ts";
import { byScript, inPipes, inPty, type ShellCommand, type ShellProcess, type ShellSink } from "./processes.ts";
import { PtyLoader } from "./pty.ts";

/** The most shells, file services and forwarded connections at a time. */
export const MOST_SHELLS = 256;
/** How long killed shells may take to end. They end at once, unless the system waits for a disk. */
const END_LIMIT: Ms = seconds(20);

export class Shells implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #pty: PtyLoader;
  readonly #pipes: OutputPipes;
  readonly #id = randomBytes(8).toString("hex");
  readonly #lines = new Set<ShellLine>();
  readonly #ends = new Set<Promise<void>>();
  #count = 0;

  constructor(deps: ApiDeps) {
    this.#deps = deps;
    this.#pty = new PtyLoader(deps);
    this.#pipes = new OutputPipes(deps.platform);
    this.#pipes.prepare();
  }

  /** Serves a request whose `head`, and `rest` behind it, were read from `socket` already. */
  accept(socket: Socket, { head, rest }: ReadHead<RequestHead>): void {
    const problem = this.#problem(head);
    if (problem) {
      const body = Buffer.from(`${problem.text}\n`);
      const fields = [
        ["Content-Type", "text/plain; charset=utf-8"],
        ["Content-Length", String(body.length)],
        ["Connection", "close"],
      ] as const;
      socket.write(encodeResponseHead(problem.status, STATUS_CODES[problem.status] ?? "", fields));
      socket.end(body);
      return;
    }
    socket.write(
      encodeResponseHead(101, "Switching Protocols", [
        ["Upgrade", SHELL_UPGRADE],
        ["Connection", "Upgrade"],
      ]),
    );
    if (rest.length > 0) socket.unshift(rest);
    const line = new ShellLine(socket);
    this.#lines.add(line);
    const end = this.#serve(line).finally(() => {
      this.#lines.delete(line);
      this.#ends.delete(end);
    });
    this.#ends.add(end);
  }

  /** Ends all shells. Resolves when nothing of them is left; rejects when that takes longer than END_LIMIT. */
  async clear(): Promise<void> {
    for (const line of this.#lines) line.destroy();
    await within(this.#deps.clock, END_LIMIT, [], "ending shells", () => Promise.allSettled(this.#ends));
    if (this.#count > 0) await killTree({ mark: `${this.#id}.`, sessions: [] }, this.#deps.platform);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.clear().catch(() => {}); // no lease follows that a leftover could harm
    this.#pipes[Symbol.dispose]();
    await this.#pty[Symbol.asyncDispose]();
  }

  #problem(head: RequestHead): { readonly status: number; readonly text: string } | undefined {
    const { password } = this.#deps;
    const basic = Buffer.from(
      (fieldValues(head, "Authorization")[0] ?? "").replace(/^Basic /, ""),
      "base64",
    ).toString();
    if (password !== "" && !sameText(basic.replace(/^[^:]*:/, ""), password))
      return { status: 403, text: "invalid password" };
    if (fieldValues(head, "Upgrade")[0] !== SHELL_UPGRADE)
      return { status: 400, text: `Cannot open a shell: want Upgrade: ${SHELL_UPGRADE}` };
    if (this.#lines.size >= MOST_SHELLS)
      return { status: 503, text: `Cannot open a shell: there are ${MOST_SHELLS} already; close some` };
    return undefined;
  }

  /** Serves one line. Resolves once its connection is closed and nothing that was started over it is left. */
  async #serve(line: ShellLine): Promise<void> {
    const { promise: closed, resolve: close } = Promise.withResolvers<void>();
    let opening: Promise<Opened | undefined> | undefined;
    let take: ((frame: ShellFrame) => void) | undefined;
    line.listen({
      frame: (frame) => {
        if (take) {
          take(frame);
          return;
        }
        if (frame.kind !== "open" || opening) {
          line.destroy();
          return;
        }
        line.pause(); // until a handler takes what follows
        opening = this.#open(frame.opening, line).then(
          (opened) => {
            take = opened.take;
            line.resume();
            return opened;
          },
          (error) => {
            line.send({ kind: "exit", exit: { code: 127, signal: null, problem: messageOf(error) } });
            line.end();
            return undefined;
          },
        );
      },
      closed: () => close(),
    });
    await closed;
    await (await opening)?.kill(); // the client may have hung up meanwhile
  }

  async #open(opening: Opening, line: ShellLine): Promise<Opened> {
    switch (opening.what) {
      case "shell":
        return await this.#shell(opening, line);
      case "files": {
        const { serveFiles } = await import("./files.ts");
        ensureWorkDir(this.#deps.workDir);
        return serveFiles(line, this.#deps);
      }
      case "dial": {
        const { dialLoopback } = await import("./loopback.ts");
        return await dialLoopback(opening.host, opening.port, line);
      }
    }
  }

  async #shell({ command, terminal, env }: Opening & { what: "shell" }, line: ShellLine): Promise<Opened> {
    const { workDir, platform, clock } = this.#deps;
    ensureWorkDir(workDir);
    const mark = `${this.#id}.${++this.#count}`;
    const whole = execEnv({
      own: { ...process.env, WORKDIR: workDir },
      workDir,
      gorootBootstrap: await gorootBootstrap(workDir),
      env,
      path: [],
      dir: workDir,
      windows: platform === "win32",
    });
    const shell = shellOf(platform, whole);
    const args = command === null ? [] : platform === "win32" ? ["/d", "/s", "/c", command] : ["-c", command];
    const wanted: ShellCommand = { program: shell, args, dir: workDir, env: { ...whole, [MARK_VARIABLE]: mark } };
    const sink: ShellSink = {
      output: (kind, bytes) => {
        if (line.send({ kind, bytes })) return true;
        void line.drained().then(() => running?.resume());
        return false;
      },
      exited: () => {
        if (session) session = leaderEnded(session, clock.monotonic() - asked);
      },
      ended: (exit) => {
        void killAll().then(() => {
          line.send({ kind: "exit", exit });
          line.end();
        });
      },
    };
    let running: ShellProcess | undefined;
    let asked = 0; // when the process was asked for
    const piped = async (command: ShellCommand): Promise<ShellProcess> => {
      asked = clock.monotonic();
      const started = await inPipes(command, this.#pipes, clock, sink);
      this.#pipes.prepare(); // so that the next command starts sooner
      return started;
    };
    let session: Session | undefined; // until it has ended
    const killAll = async () => {
      const sessions = session === undefined ? [] : [session];
      session = undefined; // it will be empty, and its number may be a stranger's
      await killTree({ pid: running?.pid, mark, sessions }, platform);
    };
    const start = async (): Promise<Started> => {
      if (terminal === null) {
        running = await piped(wanted);
        return { terminal: null, note: "" };
      }
      const loaded = await this.#pty.load();
      if ("pty" in loaded) {
        asked = clock.monotonic();
        running = inPty(loaded.pty, { ...wanted, env: { ...wanted.env, TERM: terminal.name } }, terminal, clock, sink);
        return { terminal: "pty", note: "" };
      }
      const script = programOn(whole.PATH ?? "", "script");
      if (script !== undefined) {
        running = await piped(byScript(script, wanted, terminal));
        const note = `No terminal of our own for this machine (${loaded.missing}): script(1) stands in, and the window keeps its size.`;
        return { terminal: "script", note };
      }
      running = await piped(wanted);
      const note = `No terminal for this machine (${loaded.missing}), and no script(1): you see no prompt and no line editing.`;
      return { terminal: "pipe", note };
    };
    const started = await start();
    if (running?.pid !== undefined) session = sessionOf(running.pid);
    line.send({ kind: "started", started });
    return {
      take: (frame) => {
        if (running) takeInput(frame, running, line, platform);
      },
      kill: killAll,
    };
  }
}

function takeInput(frame: ShellFrame, running: ShellProcess, line: ShellLine, platform: NodeJS.Platform): void {
  switch (frame.kind) {
    case "data":
      if (running.write(frame.bytes)) return;
      line.pause();
      void running.drained().then(() => line.resume());
      return;
    case "eof":
      running.end();
      return;
    case "resize":
      running.resize(Math.max(frame.columns, 1), Math.max(frame.rows, 1));
      return;
    case "signal":
      signalGroup(running.pid, frame.signal, platform);
      return;
    default:
      line.destroy();
  }
}

function signalGroup(pid: number | undefined, name: string, platform: NodeJS.Platform): void {
  const signal = `SIG${name}`;
  if (pid === undefined || !isSignal(signal)) return;
  try {
    process.kill(platform === "win32" ? pid : -pid, signal);
  } catch {
    // It has just ended.
  }
}

function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}

/** The shell, chosen as the original does: bash if Linux has one, cmd on Windows, else that of the agent's user. */
function shellOf(platform: NodeJS.Platform, env: { readonly [name: string]: string }): string {
  if (platform === "win32") return env.COMSPEC ?? env.ComSpec ?? "cmd.exe";
  const bash = platform === "linux" ? programOn(process.env.PATH ?? "", "bash") : undefined;
  return bash ?? (env.SHELL || "/bin/sh");
}

function programOn(path: string, name: string): string | undefined {
  return path
    .split(delimiter)
    .filter((dir) => isAbsolute(dir))
    .map((dir) => join(dir, name))
    .find((file) => {
      try {
        accessSync(file, access.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

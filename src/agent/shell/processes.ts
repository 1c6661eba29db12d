/**
 * What a shell runs in: a pseudo-terminal, or `script` where the platform has no prebuilt package for one, or pipes.
 *
 *   running -exits-> ended       once its output is at its end, too. A descendant that keeps the output open gets
 *                                HELD_OUTPUT, which does not pass while the reader is behind
 *   running -kill-> ended        with all that it started
 *
 * While the reader is behind, output is held back, not stored.
 */
import type { ChildProcess } from "node:child_process";
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { type Clock, ENOUGH } from "../../farm/clock.ts";
import { errnoOf, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import type { Exit, Terminal } from "../../wire/buildlet-api/shell.ts";
import { closeInput, type InputPipe, makeInputPipe } from "../exec/input-pipe.ts";
import { closePipe, closeWriter, type OutputPipe, type OutputPipes, readerOf, writerOf } from "../exec/output-pipe.ts";
import type { Pty, PtyModule } from "./pty.ts";
import { PtyInput } from "./pty-input.ts";

/** How long a background process of an ended shell may keep the output open. */
export const HELD_OUTPUT: Ms = seconds(2);

export interface ShellCommand {
  readonly program: string;
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: { readonly [name: string]: string };
}

/** Takes the output of a process. False asks it to stop until its `resume` is called. */
export interface ShellSink {
  output(kind: "data" | "errors", bytes: Buffer): boolean;
  /** Called once, when the program is gone. What it printed may still be on its way. */
  exited(): void;
  ended(exit: Exit): void;
}

export interface ShellProcess {
  readonly pid: number | undefined;
  /** Writes input. False: wait for `drained` before the next call. */
  write(bytes: Uint8Array): boolean;
  drained(): Promise<void>;
  /** Ends the input. It does nothing to a terminal: there the user types the end. */
  end(): void;
  resize(columns: number, rows: number): void;
  resume(): void;
}

export function inPty(
  module: PtyModule,
  { program, args, dir, env }: ShellCommand,
  terminal: Terminal,
  clock: Clock,
  sink: ShellSink,
): ShellProcess {
  const { name, columns: cols, rows } = terminal;
  const encoding = process.platform === "win32" ? "utf8" : null;
  const pty: Pty = module.spawn(program, args, { name, cols, rows, cwd: dir, env, encoding });
  const input = encoding === null && pty.fd !== undefined ? new PtyInput(pty.fd, clock) : undefined;
  const typed = new TextDecoder();
  let isGone = false;
  const gone = () => {
    if (!isGone) sink.exited();
    isGone = true;
  };
  let open = true;
  const closing = () => {
    open = false;
    input?.close();
  };
  const held = heldToItsEnd(pty, clock, gone, closing);
  let over = false;
  pty.onData((data) => {
    if (!sink.output("data", typeof data === "string" ? Buffer.from(data) : data)) held.pause();
  });
  pty.onExit(({ exitCode, signal }) => {
    over = true;
    input?.close();
    gone();
    const name = signalName(signal);
    sink.ended(
      name === null ? { code: exitCode, signal: null, problem: "" } : { code: null, signal: name, problem: "" },
    );
  });
  return {
    pid: pty.pid,
    write(bytes) {
      if (over) return true;
      if (input) return input.write(bytes);
      pty.write(typed.decode(bytes, { stream: true })); // Windows knows only text, and takes all of it
      return true;
    },
    drained: () => input?.drained() ?? Promise.resolve(),
    end() {},
    resize(columns, rows) {
      if (!over && open) pty.resize(columns, rows);
    },
    resume: held.resume,
  };
}

/**
 * Keeps a terminal open to the end of its output. The library would close it 200 ms after the end of its program, with
 * all output that was not read by then. Here it stays open while output is held back, and for HELD_OUTPUT from then on.
 *
 * `gone` is called when the library wants to close the terminal and the program has ended: the library itself says so
 * only once the terminal is closed. It also closes a terminal that its program closed and outlives. `closing` is called
 * before the terminal is closed: after that its number may be another file's.
 */
function heldToItsEnd(
  pty: Pty,
  clock: Clock,
  gone: () => void,
  closing: () => void,
): { pause(): void; resume(): void } {
  const { _socket: socket } = pty;
  let paused = false;
  let late = false;
  if (socket) {
    const destroy = socket.destroy.bind(socket);
    socket.destroy = (error) => {
      if (hasEnded(pty.pid)) gone();
      if (paused) {
        late = true;
        return socket;
      }
      closing();
      return destroy(error);
    };
  }
  const never = new AbortController().signal;
  return {
    pause() {
      paused = true;
      pty.pause();
    },
    resume() {
      paused = false;
      pty.resume();
      if (!late) return;
      late = false;
      void clock.sleep(HELD_OUTPUT, never).then(() => socket?.destroy());
    },
  };
}

/**
 * Runs the command in pipes. Its input and its two outputs are pipes of their own, since a program may open
 * `/dev/stdin` and `/dev/stderr` once more (exec/input-pipe.ts, exec/output-pipe.ts). Throws the errno when it cannot
 * start.
 */
export async function inPipes(
  command: ShellCommand,
  pipes: OutputPipes,
  clock: Clock,
  sink: ShellSink,
): Promise<ShellProcess> {
  const ends = await Promise.all([makeInputPipe(process.platform), pipes.take(), pipes.take()]);
  const { child, stdin, stdout, stderr } = await startInPipes(command, ...ends);
  stdin?.on("error", () => {}); // the command reads no more
  const outputs = [stdout, stderr].filter((stream) => stream !== null);
  let open = outputs.length;
  let behind = false; // whether the reader is
  let exit: Exit | undefined;
  let held = new AbortController();
  const look = () => {
    held.abort(ENOUGH);
    if (exit === undefined) return;
    if (open === 0) {
      sink.ended(exit);
      return;
    }
    held = new AbortController();
    if (behind) return;
    clock.sleep(HELD_OUTPUT, held.signal).then(
      () => {
        for (const stream of outputs) stream.destroy();
      },
      () => {},
    );
  };
  for (const stream of outputs) {
    const kind = stream === stdout ? "data" : "errors";
    stream.on("data", (bytes: Buffer) => {
      if (sink.output(kind, bytes)) return;
      behind = true;
      for (const each of outputs) each.pause();
      held.abort(ENOUGH);
    });
    stream.on("error", () => {}); // a close follows
    stream.once("close", () => {
      open--;
      if (open === 0) look();
    });
  }
  child.once("exit", (code, signal) => {
    exit = { code, signal: signal?.replace(/^SIG/, "") ?? null, problem: "" };
    stdin?.destroy(); // a process that it left may never read it
    sink.exited();
    look();
  });
  return {
    pid: child.pid,
    write: (bytes) => !stdin?.writable || stdin.write(bytes),
    drained: () =>
      new Promise((resolve) => {
        if (!stdin?.writableNeedDrain) resolve();
        else stdin.once("drain", resolve).once("close", resolve);
      }),
    end: () => void stdin?.end(),
    resize() {},
    resume: () => {
      behind = false;
      for (const stream of outputs) stream.resume();
      if (open > 0) look();
    },
  };
}

interface Started {
  readonly child: ChildProcess;
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
}

async function startInPipes(
  { program, args, dir, env }: ShellCommand,
  input: InputPipe | undefined,
  out: OutputPipe,
  errors: OutputPipe,
): Promise<Started> {
  const { spawn } = await import("node:child_process");
  let isStarted = false;
  try {
    const child = spawn(program, args, {
      cwd: dir,
      env: { ...env },
      stdio: [input?.readFd ?? "pipe", writerOf(out), writerOf(errors)],
      detached: process.platform !== "win32", // it leads a session and a group of its own
      windowsHide: true,
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    isStarted = true;
    const stdin = input ? new Socket({ fd: input.writeFd, readable: false, writable: true }) : child.stdin;
    return { child, stdin, stdout: readerOf(out) ?? child.stdout, stderr: readerOf(errors) ?? child.stderr };
  } catch (error) {
    throw new Error(errnoOf(error) || messageOf(error), { cause: error });
  } finally {
    if (input && isStarted) closeSync(input.readFd);
    else if (input) closeInput(input);
    for (const pipe of [out, errors])
      if (isStarted)
        closeWriter(pipe); // the pipe ends when the command and its descendants have closed theirs
      else closePipe(pipe);
  }
}

/** The command run by `script`, in a terminal of that program's. Its size never changes. */
export function byScript(script: string, command: ShellCommand, { name, columns, rows }: Terminal): ShellCommand {
  const words = [command.program, ...command.args].map(quoted).join(" ");
  const sized = `stty cols ${columns} rows ${rows} 2>/dev/null; exec ${words}`;
  const args =
    process.platform === "linux" ? ["-qfec", sized, "/dev/null"] : ["-q", "/dev/null", "/bin/sh", "-c", sized];
  return { ...command, program: script, args, env: { ...command.env, TERM: name, SHELL: "/bin/sh" } };
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Whether the library knows that the process has ended. Until then `pid` is still the process's. */
function hasEnded(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return errnoOf(error) === "ESRCH";
  }
}

function signalName(number: number | undefined): string | null {
  if (!number) return null;
  const [name] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
  return name?.replace(/^SIG/, "") ?? "KILL";
}

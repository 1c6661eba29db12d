/**
 * The commands that run on this machine for the coordinator: they start, stream, and end with all their descendants.
 *
 *   started -exit-> ended             as soon as the output pipe is at its end, too
 *   started -exit-> holding -> ended  a descendant keeps the pipe open; once it was silent for HELD_PIPE it is killed
 *   started -abort-> killed -> ended  the client went away or the session ended: the whole tree is killed
 *
 * A background process that does not hold the output outlives its command, and later commands may use it. It is killed
 * when the lease ends (`killLeftovers`) and when the session ends. Soon after a command ended we look whether there are
 * any, so that the next build need not wait for that. Sessions of ended commands are remembered while a process is in
 * them. Output is never buffered beyond one pipe and one chunk: while the reader is behind, the command waits.
 */
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import type { Readable } from "node:stream";
import { type Clock, ENOUGH } from "../../farm/clock.ts";
import { errnoOf } from "../../farm/errors.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { within } from "../../farm/within.ts";
import { processState, startErrorState } from "../../wire/buildlet-api/process-state.ts";
import { closePipe, closeWriter, type OutputPipe, OutputPipes, readerOf, writerOf } from "./output-pipe.ts";
import { killAllOthers, LIMIT } from "./own-user.ts";
import { killTree, leaderEnded, lookForLeft, MARK_VARIABLE, type Session, sessionOf } from "./process-tree.ts";
import { type Resolved, startProblem } from "./resolve.ts";

/** How long a descendant may keep the output of an ended command open without writing. */
export const HELD_PIPE: Ms = seconds(5);
/** How long we wait for a killed tree to be gone. */
const KILL_WAIT: Ms = seconds(5);
/** How long after a command ended we look for what it left running. */
const LOOK_AFTER: Ms = ms(30);
/** A program just written may still be open for writing in another child that is starting. That passes soon. */
const BUSY_TRIES = 10;
const BUSY_PAUSE: Ms = ms(20);

export interface Command extends Resolved {
  readonly args: readonly string[];
  readonly env: { readonly [name: string]: string };
}

/** Takes output. False asks the sender to stop until `drained` resolves. */
export interface OutputSink {
  write(chunk: Buffer): boolean;
  drained(): Promise<void>;
}

export class Commands implements AsyncDisposable {
  readonly #clock: Clock;
  readonly #platform: NodeJS.Platform;
  readonly #workDir: string;
  readonly #ownUid: number | undefined;
  readonly #pipes: OutputPipes;
  readonly #id = randomBytes(8).toString("hex"); // tells our commands from those of other buildlets
  readonly #running = new Set<string>(); // marks
  /** End of each command that has begun → the signal that kills the command. */
  readonly #ends = new Map<Promise<unknown>, AbortSignal>();
  readonly #over = new AbortController();
  #count = 0;
  /** The sessions of ended commands, and of what they left running. */
  #sessions: Session[] = [];
  /** Whether nothing lives that we started, so that nothing new can come of it. */
  #nobodyLeft = true;
  #look = new AbortController();

  /** `ownUid` is the id of a user that only the agent has. */
  constructor(clock: Clock, platform: NodeJS.Platform, workDir: string, ownUid?: number) {
    this.#clock = clock;
    this.#platform = platform;
    this.#workDir = workDir;
    this.#ownUid = ownUid;
    this.#pipes = new OutputPipes(platform);
  }

  /** Gets ready for the next command, so that it starts sooner. */
  prepare(): void {
    this.#pipes.prepare();
  }

  /**
   * Runs `command` to its end and gives the text of Process-State. `signal` kills it with all its descendants.
   * A command that cannot be started ends with the reason as its state.
   */
  async run(command: Command, sink: OutputSink, signal: AbortSignal): Promise<string> {
    this.#look.abort(ENOUGH);
    this.#nobodyLeft = false;
    const mark = `${this.#id}.${++this.#count}`;
    this.#running.add(mark);
    const kill = AbortSignal.any([signal, this.#over.signal]);
    const end = this.#run(command, mark, sink, kill).finally(() => {
      this.#running.delete(mark);
      this.#ends.delete(end);
      this.#pipes.prepare();
      this.#lookForLeftovers();
    });
    this.#ends.set(end, kill);
    return await end;
  }

  /** Notes that something else, a shell, ran in the work dir and may have left processes. */
  expectLeftovers(): void {
    this.#nobodyLeft = false;
  }

  /**
   * Ends a lease: waits for commands that are being killed, then kills what ended commands left running. Processes that
   * only the work dir gives away are killed, too, unless commands run. Where the agent has a user of its own, all other
   * processes of that user are killed. Rejects when some of them cannot be ended.
   */
  async killLeftovers(): Promise<void> {
    const dying = [...this.#ends].filter(([, kill]) => kill.aborted).map(([end]) => end);
    await within(this.#clock, LIMIT, [], "ending commands", () => Promise.allSettled(dying));
    if (this.#ownUid !== undefined) return await killAllOthers(this.#ownUid, this.#clock);
    if (this.#nobodyLeft) return;
    const place = this.#running.size === 0 ? this.#workDir : undefined;
    const spare = new Set(this.#running);
    await killTree({ mark: `${this.#id}.`, spare, sessions: this.#sessions, place }, this.#platform);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort(new Error("The session ended"));
    await Promise.allSettled(this.#ends.keys());
    this.#look.abort(ENOUGH);
    await this.killLeftovers().catch(() => {}); // no lease follows that a leftover could harm
    this.#pipes[Symbol.dispose]();
  }

  #lookForLeftovers(): void {
    if (this.#running.size > 0) return;
    this.#look = new AbortController();
    this.#clock.sleep(LOOK_AFTER, this.#look.signal).then(
      () => {
        const wanted = { mark: `${this.#id}.`, sessions: this.#sessions, place: this.#workDir };
        const left = lookForLeft(wanted, this.#platform);
        this.#nobodyLeft = !left.any;
        this.#sessions = [...left.sessions];
      },
      () => {}, // the next command began, and its end looks again
    );
  }

  async #run(command: Command, mark: string, sink: OutputSink, signal: AbortSignal): Promise<string> {
    const windows = this.#platform === "win32";
    const problem = startProblem(command, windows);
    if (problem) return startErrorState(problem.what, problem.path, problem.errno);
    if (signal.aborted) return processState(null, "SIGKILL");
    for (let attempt = 1; ; attempt++) {
      const pipe = await this.#pipes.take();
      const asked = this.#clock.monotonic();
      const started = await start(command, mark, pipe, windows);
      if ("child" in started) return await this.#watch(started, asked, mark, sink, signal);
      if (started.errno !== "ETXTBSY" || attempt === BUSY_TRIES) {
        return startErrorState("fork/exec", command.program, started.errno);
      }
      await this.#clock.sleep(BUSY_PAUSE);
    }
  }

  async #watch(
    { child, session: led, outputs }: Running,
    asked: number,
    mark: string,
    sink: OutputSink,
    signal: AbortSignal,
  ): Promise<string> {
    let exited: string | undefined;
    let session = led;
    let open = outputs.length;
    let stalled = 0; // outputs that wait for the reader
    let heard = this.#clock.monotonic();
    let changed = () => {};
    for (const output of outputs) {
      output.on("data", (chunk: Buffer) => {
        heard = this.#clock.monotonic();
        if (sink.write(chunk)) return;
        stalled++;
        output.pause();
        void sink.drained().then(() => {
          stalled--;
          heard = this.#clock.monotonic();
          output.resume();
        });
      });
      output.on("error", () => {}); // a close follows
      output.once("close", () => {
        open--;
        changed();
      });
    }
    child.once("exit", (code, name) => {
      exited = processState(code, name);
      heard = this.#clock.monotonic();
      session = leaderEnded(led, heard - asked);
      changed();
    });
    const over = () => exited !== undefined && open === 0;
    /** Waits until something changed, at most for `span`. */
    const wait = async (span: Ms | undefined, until?: AbortSignal) => {
      const timer = new AbortController();
      await new Promise<void>((resolve) => {
        changed = resolve;
        until?.addEventListener("abort", () => resolve(), { once: true });
        if (span !== undefined) this.#clock.sleep(span, timer.signal).then(resolve, () => {});
        if (until?.aborted) resolve();
      });
      changed = () => {};
      timer.abort(ENOUGH);
    };
    while (!over() && !signal.aborted) {
      if (exited === undefined) {
        await wait(undefined, signal);
        continue;
      }
      const silent = stalled > 0 ? 0 : this.#clock.monotonic() - heard;
      if (silent >= HELD_PIPE) break;
      await wait(ms(HELD_PIPE - silent), signal);
    }
    if (!over()) {
      await killTree({ pid: child.pid, mark, sessions: [session] }, this.#platform);
      const limit = this.#clock.monotonic() + KILL_WAIT;
      if (signal.aborted) for (const output of outputs) output.destroy();
      for (let left = KILL_WAIT; !over() && left > 0; left = ms(limit - this.#clock.monotonic())) await wait(left);
      for (const output of outputs) output.destroy();
    }
    this.#sessions.push(session);
    return exited ?? processState(null, "SIGKILL");
  }
}

interface Running {
  readonly child: ChildProcess;
  readonly session: Session;
  readonly outputs: readonly Readable[];
}

type Started = Running | { readonly errno: string };

async function start(command: Command, mark: string, pipe: OutputPipe, windows: boolean): Promise<Started> {
  const out = writerOf(pipe);
  let child: ChildProcess | undefined;
  let errno = "";
  const { spawn } = await import("node:child_process"); // an idle agent does not load it
  try {
    const starting = spawn(command.program, command.args, {
      cwd: command.dir,
      env: { ...command.env, [MARK_VARIABLE]: mark },
      stdio: ["ignore", out, out],
      detached: !windows, // it leads a session and a group of its own
      windowsHide: true,
    });
    await new Promise<void>((resolve, reject) => {
      starting.once("spawn", resolve);
      starting.once("error", reject);
    });
    child = starting;
  } catch (error) {
    errno = errnoOf(error);
    if (errno === "" || errno.startsWith("ERR_")) errno = "EINVAL"; // a zero byte in an argument
  } finally {
    if (child)
      closeWriter(pipe); // the pipe ends when the command and its descendants have closed theirs
    else closePipe(pipe);
  }
  if (child?.pid === undefined) return { errno };
  const session = sessionOf(child.pid);
  const reader = readerOf(pipe);
  const outputs = reader ? [reader] : [child.stdout, child.stderr].filter((stream) => stream !== null);
  return { child, session, outputs };
}

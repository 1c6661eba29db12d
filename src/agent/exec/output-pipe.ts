/**
 * The pipe that a command's output comes through.
 *
 * Standard output and standard error have to be the same open pipe, or their order is lost. It must be a real pipe,
 * since `/dev/stderr` cannot be opened on the sockets that Node gives to children. Node has no call for a pipe, so one
 * is made as a FIFO (`mkfifo` is everywhere in Unix), opened at both ends and unlinked at once: nothing is left on
 * disk, and the reading end is polled like a socket. That costs a process of a millisecond or two, so a few are made at
 * once and kept ready. Without mkfifo, and on Windows, the two streams are separate and merged as they come.
 */
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";

export type OutputPipe =
  | { readonly kind: "one"; readonly readFd: number; readonly writeFd: number }
  | { readonly kind: "two" };

/** How many pipes one run of mkfifo makes. */
const SPARES = 4;

export class OutputPipes implements Disposable {
  readonly #platform: NodeJS.Platform;
  readonly #spares: OutputPipe[] = [];
  #making: Promise<void> | undefined;
  #over = false;

  constructor(platform: NodeJS.Platform) {
    this.#platform = platform;
  }

  /** Makes pipes now if none are ready, so that `take` need not wait. */
  prepare(): void {
    if (this.#spares.length === 0 && !this.#over) void this.#make();
  }

  /** A pipe whose two ends the caller must close. */
  async take(): Promise<OutputPipe> {
    while (this.#spares.length === 0 && !this.#over) await this.#make();
    return this.#spares.pop() ?? { kind: "two" };
  }

  [Symbol.dispose](): void {
    this.#over = true;
    for (const pipe of this.#spares.splice(0)) closePipe(pipe);
  }

  #make(): Promise<void> {
    this.#making ??= makePipes(this.#platform).then((pipes) => {
      this.#making = undefined;
      if (this.#over) for (const pipe of pipes) closePipe(pipe);
      else this.#spares.push(...pipes);
    });
    return this.#making;
  }
}

export function closePipe(pipe: OutputPipe): void {
  if (pipe.kind === "two") return;
  closeSync(pipe.readFd);
  closeSync(pipe.writeFd);
}

/** What a child gets of it, as an entry of `stdio`. */
export function writerOf(pipe: OutputPipe): number | "pipe" {
  return pipe.kind === "one" ? pipe.writeFd : "pipe";
}

/** Closes our writing end. Call it once a child has the pipe. */
export function closeWriter(pipe: OutputPipe): void {
  if (pipe.kind === "one") closeSync(pipe.writeFd);
}

/**
 * The reading end as a stream, which closes the end when it is destroyed. Undefined: the child has streams of its own.
 */
export function readerOf(pipe: OutputPipe): Readable | undefined {
  return pipe.kind === "one" ? new Socket({ fd: pipe.readFd, readable: true, writable: false }) : undefined;
}

async function makePipes(platform: NodeJS.Platform): Promise<OutputPipe[]> {
  if (platform === "win32") return [{ kind: "two" }];
  const pipes: OutputPipe[] = [];
  let dir: string | undefined;
  try {
    dir = await mkdtemp(join(tmpdir(), "buildlet-pipe-"));
    const paths = Array.from({ length: SPARES }, (_, number) => join(dir ?? "", String(number)));
    const { execFile } = await import("node:child_process");
    await new Promise<void>((resolve, reject) => {
      execFile("mkfifo", ["-m", "600", ...paths], (error) => (error ? reject(error) : resolve()));
    });
    for (const path of paths) pipes.push(openPipe(path));
  } catch {
    if (pipes.length === 0) pipes.push({ kind: "two" });
  } finally {
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  }
  return pipes;
}

function openPipe(path: string): OutputPipe {
  // The reading end is opened first, without waiting. The writing end then finds a reader and does not wait either.
  const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { kind: "one", readFd, writeFd: openSync(path, constants.O_WRONLY) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  }
}

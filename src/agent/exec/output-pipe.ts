/**
 * The pipe that a command's output comes through.
 *
 * Standard output and standard error have to be the same open pipe, or their order is lost; and a real pipe, since
 * `/dev/stderr` cannot be opened on the sockets that Node gives to children. Node has no call for a pipe, so one is made
 * as a FIFO (`mkfifo` is everywhere in Unix), opened at both ends and unlinked at once: nothing is left on disk, and
 * the reading end is polled like a socket. That costs a process of a millisecond or two, so a spare is kept ready.
 * Without mkfifo, and on Windows, the two streams are separate and merged as they come.
 */
import { closeSync, constants, openSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type OutputPipe =
  | { readonly kind: "one"; readonly readFd: number; readonly writeFd: number }
  | { readonly kind: "two" };

export class OutputPipes implements Disposable {
  #spare: Promise<OutputPipe> | undefined;
  readonly #platform: NodeJS.Platform;

  constructor(platform: NodeJS.Platform) {
    this.#platform = platform;
  }

  /** Makes the next pipe now, so that `take` need not wait. */
  prepare(): void {
    this.#spare ??= makePipe(this.#platform);
  }

  /** A pipe that the caller owns: both ends are to be closed. */
  async take(): Promise<OutputPipe> {
    this.prepare();
    const taken = this.#spare;
    this.#spare = undefined;
    return taken ?? { kind: "two" };
  }

  [Symbol.dispose](): void {
    void this.#spare?.then(closePipe);
    this.#spare = undefined;
  }
}

export function closePipe(pipe: OutputPipe): void {
  if (pipe.kind === "two") return;
  closeSync(pipe.readFd);
  closeSync(pipe.writeFd);
}

async function makePipe(platform: NodeJS.Platform): Promise<OutputPipe> {
  if (platform === "win32") return { kind: "two" };
  let dir: string | undefined;
  try {
    dir = await mkdtemp(join(tmpdir(), "buildlet-pipe-"));
    const path = join(dir, "output");
    const { execFile } = await import("node:child_process");
    await new Promise<void>((resolve, reject) => {
      execFile("mkfifo", ["-m", "600", path], (error) => (error ? reject(error) : resolve()));
    });
    // Reading first and without waiting; then a writer finds a reader and does not wait either.
    const readFd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      return { kind: "one", readFd, writeFd: openSync(path, constants.O_WRONLY) };
    } catch (error) {
      closeSync(readFd);
      throw error;
    }
  } catch {
    return { kind: "two" };
  } finally {
    if (dir !== undefined) rmSync(dir, { recursive: true, force: true });
  }
}

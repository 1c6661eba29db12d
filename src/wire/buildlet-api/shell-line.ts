/**
 * Either end of a connection that carries a shell (shell.ts): frames in and out, with the flow control of the connection.
 *
 *   open -the other side hangs up, breaks the format, or `end`-> closed
 *
 * `closed` is told exactly once. After it nothing is sent, and no frame arrives.
 */
import type { Duplex } from "node:stream";
import { encodeShellFrame, type ShellFrame, ShellFrameError, ShellFrameReader } from "./shell.ts";

export interface ShellLineListener {
  frame(frame: ShellFrame): void;
  /** Undefined: the other side hung up. */
  closed(error: Error | undefined): void;
}

export class ShellLine {
  readonly #duplex: Duplex;
  readonly #reader = new ShellFrameReader();
  /** Frames that came in one piece with what made the listener pause. */
  readonly #waiting: ShellFrame[] = [];
  #paused = false;
  #listener: ShellLineListener | undefined;
  #closed = false;
  #full: PromiseWithResolvers<void> | undefined;

  /** Nobody else reads from or writes to `duplex` from now on; nothing is read before `listen`. */
  constructor(duplex: Duplex) {
    this.#duplex = duplex;
  }

  listen(listener: ShellLineListener): void {
    this.#listener = listener;
    const duplex = this.#duplex;
    duplex.on("drain", () => this.#drain());
    duplex.on("error", (error: Error) => this.#close(error));
    duplex.on("end", () => this.#close(undefined));
    duplex.on("close", () => this.#close(undefined));
    duplex.on("data", (chunk: Buffer) => this.#take(chunk));
    if (duplex.destroyed) this.#close(undefined);
    duplex.resume();
  }

  /** False: `drained` should be waited for before more is sent. */
  send(frame: ShellFrame): boolean {
    if (this.#closed) return true;
    return this.#duplex.write(encodeShellFrame(frame));
  }

  drained(): Promise<void> {
    if (this.#closed || !this.#duplex.writableNeedDrain) return Promise.resolve();
    this.#full ??= Promise.withResolvers();
    return this.#full.promise;
  }

  /** No frame arrives until `resume`. */
  pause(): void {
    this.#paused = true;
    this.#duplex.pause();
  }

  resume(): void {
    if (this.#closed) return;
    this.#paused = false;
    this.#give();
    if (!this.#paused) this.#duplex.resume();
  }

  /** Hangs up once what was sent has left. */
  end(): void {
    this.#duplex.end();
    this.#close(undefined);
  }

  destroy(): void {
    this.#duplex.destroy();
    this.#close(undefined);
  }

  #take(chunk: Buffer): void {
    if (this.#closed) return;
    try {
      this.#waiting.push(...this.#reader.push(chunk));
      this.#give();
    } catch (error) {
      if (!(error instanceof ShellFrameError)) throw error;
      this.#duplex.destroy();
      this.#close(error);
    }
  }

  #give(): void {
    while (!this.#paused && !this.#closed) {
      const frame = this.#waiting.shift();
      if (!frame) return;
      this.#listener?.frame(frame);
    }
  }

  #drain(): void {
    this.#full?.resolve();
    this.#full = undefined;
  }

  #close(error: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#drain();
    this.#listener?.closed(error);
  }
}

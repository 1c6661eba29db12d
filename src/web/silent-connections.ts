/**
 * Connections that have not yet said what they want. They cost us memory, and cost nothing to those who open them. So
 * they have a time limit and a cap: late ones are told so, and over the cap the one that has been silent longest is
 * dropped.
 *
 * There is one timer for all: with one limit, the oldest connection is always the next to time out.
 */
import type { Socket } from "node:net";
import type { Clock } from "../farm/clock.ts";
import { type Ms, ms } from "../farm/ids.ts";

export interface SilentOptions {
  readonly most: number;
  readonly limit: Ms;
  readonly clock: Clock;
  readonly late: (socket: Socket) => void;
}

interface Entry {
  readonly socket: Socket;
  readonly since: number;
  /** Removes the caller's listeners from the socket. */
  readonly forget: () => void;
}

export class SilentConnections implements AsyncDisposable {
  readonly #options: SilentOptions;
  /** The connections that are watched, the oldest first. */
  readonly #entries = new Set<Entry>();
  readonly #stop = new AbortController();
  #sweeping: Promise<void> | undefined;

  constructor(options: SilentOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Watches `socket` until the returned function is called, or its time is over. Both call `forget`. */
  add(socket: Socket, forget: () => void): () => void {
    const entry: Entry = { socket, since: this.#options.clock.monotonic(), forget };
    this.#entries.add(entry);
    if (this.#entries.size > this.#options.most) {
      const [oldest] = this.#entries;
      if (oldest) {
        this.#leave(oldest);
        oldest.socket.destroy();
      }
    }
    this.#sweeping ??= this.#sweep().finally(() => {
      this.#sweeping = undefined;
    });
    return () => this.#leave(entry);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#sweeping;
  }

  #leave(entry: Entry): void {
    if (this.#entries.delete(entry)) entry.forget();
  }

  async #sweep(): Promise<void> {
    const { clock, limit, late } = this.#options;
    while (!this.#stop.signal.aborted) {
      const [oldest] = this.#entries;
      if (!oldest) return;
      const left = oldest.since + limit - clock.monotonic();
      if (left > 0) {
        await clock.sleep(ms(left), this.#stop.signal).catch(() => {});
        continue;
      }
      this.#leave(oldest);
      late(oldest.socket);
    }
  }
}

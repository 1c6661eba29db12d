/**
 * One command that outlives the connections over which its output is read.
 *
 *   attended   A client is attached, and the command goes at the client's pace. What was sent is kept for a while
 *              (BEHIND): if the connection breaks, it may not have been stored yet.
 *   alone      No client is attached. Output is kept until there is no more room; then the command waits. It is given
 *              up after the time that its last client named.
 *   over       The command has ended. A client gets the rest of the output, and how the command ended.
 *
 * Always: a client gets the bytes from its offset on, in order, each once; only the newest client gets any.
 */
import type { ServerResponse } from "node:http";
import { type Clock, ENOUGH } from "../../farm/clock.ts";
import type { Ms } from "../../farm/ids.ts";
import { PROCESS_STATE } from "../../wire/buildlet-api/buildlet-api.ts";
import type { OutputSink } from "./commands.ts";
import { Spool } from "./spool.ts";

/** How much of what was sent may not have arrived: it is in buffers of two systems, of the network, and of the farm. */
const BEHIND = 64 * 1024 * 1024;
/** The room at which a command has to wait, so that its last chunk still fits. */
const MARGIN = 1024 * 1024;
const PIECE = 64 * 1024;

export class Execution implements Disposable {
  /** Takes the command's output. */
  readonly sink: OutputSink;
  readonly stop: AbortController = new AbortController();
  readonly #clock: Clock;
  readonly #spool = new Spool();
  readonly #startedAt: number;
  #endedAt: number | undefined;
  readonly #givenUp: () => void;
  #client: ServerResponse | undefined;
  /** The offset of the next byte for the client; beyond any output when the client wants none. */
  #at = 0;
  /** Whether the client's connection takes no more for now. */
  #full = false;
  #state: string | undefined;
  #alone = new AbortController();
  #waiting: (() => void)[] = [];

  constructor(clock: Clock, givenUp: () => void) {
    this.#clock = clock;
    this.#startedAt = clock.monotonic();
    this.#givenUp = givenUp;
    this.sink = {
      write: (chunk) => this.#take(chunk),
      drained: () => new Promise((resolve) => this.#waiting.push(resolve)),
    };
  }

  /** Milliseconds from the command's start to its end, or to the present. */
  get age(): number {
    return Math.floor((this.#endedAt ?? this.#clock.monotonic()) - this.#startedAt);
  }

  /** How many bytes the command has printed. */
  get length(): number {
    return this.#spool.end;
  }

  get isOver(): boolean {
    return this.#state !== undefined;
  }

  get isAlone(): boolean {
    return this.#client === undefined;
  }

  /** Whether the output from `from` on is still there. */
  has(from: number): boolean {
    return from >= this.#spool.from;
  }

  /**
   * Sends the output from `from` on, and the end, to `client`, which has the head of the answer already. When the
   * client leaves, the command is kept for `aloneFor`.
   */
  attach(client: ServerResponse, from: number, aloneFor: Ms): void {
    this.#client?.destroy();
    this.#alone.abort(ENOUGH);
    this.#client = client;
    this.#at = from;
    this.#full = false;
    client.on("drain", () => {
      if (this.#client !== client) return;
      this.#full = false;
      this.#pump();
    });
    client.once("close", () => this.#detach(client, aloneFor));
    if (client.destroyed) this.#detach(client, aloneFor);
    this.#pump();
  }

  /** Notes that the command has ended. */
  end(state: string): void {
    this.#state = state;
    this.#endedAt = this.#clock.monotonic();
    this.#pump();
  }

  [Symbol.dispose](): void {
    this.#alone.abort(ENOUGH);
    this.stop.abort(new Error("The execution was ended"));
    this.#client?.destroy();
    this.#spool[Symbol.dispose]();
    this.#letGo();
  }

  #take(chunk: Buffer): boolean {
    if (this.stop.signal.aborted) return true;
    const live = this.#at === this.#spool.end && !this.#full;
    this.#spool.append(chunk);
    if (this.#client && live) this.#send(chunk);
    return this.#mayGoOn();
  }

  #mayGoOn(): boolean {
    if (this.#client) return !this.#full && this.#at >= this.#spool.end;
    return this.#spool.room > MARGIN;
  }

  #pump(): void {
    const client = this.#client;
    if (!client) return;
    while (!this.#full && this.#at < this.#spool.end) {
      if (!this.has(this.#at)) return void client.destroy(); // the disk took no more: a new request is refused
      this.#send(this.#spool.read(this.#at, PIECE));
    }
    if (this.#full) return;
    if (this.#state !== undefined) {
      client.addTrailers({ [PROCESS_STATE]: this.#state });
      client.end();
    }
    this.#letGo();
  }

  #send(chunk: Buffer): void {
    this.#at += chunk.length;
    this.#spool.forget(this.#at - BEHIND);
    this.#full = this.#client?.write(chunk) === false;
  }

  #detach(client: ServerResponse, aloneFor: Ms): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#alone = new AbortController();
    this.#clock.sleep(aloneFor, this.#alone.signal).then(this.#givenUp, () => {});
    this.#letGo();
  }

  #letGo(): void {
    if (!this.#mayGoOn()) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/**
 * The coordinator's end of one control channel: asks a machine for connections, and notices when it is gone.
 *
 * A machine behind NAT keeps one socket open to us. When we want to call it we write `conn-ready` with a path; it opens
 * a further connection and fetches that path, and that socket becomes ours to write requests to. The path is new for
 * every dial, so an answer, late or not, belongs to exactly one dial.
 *
 *   dial   waiting -picked up-> done;  waiting -pickup-failed | limit | caller's signal | close-> failed
 *
 * A failure may not say which dial it is about: the original machine leaves it out when its pick-up was refused. It
 * fails a dial only when it can be about no other: at once, or when the others were picked up, or at the limit of the
 * first that was not.
 *
 * A machine that could not open a connection is alive, and nothing was sent. So `connection` asks it again, by a
 * further dial: the farm's address leads to any coordinator, and the one that was reached may have been about to stop.
 *
 * Liveness. We write a keep-alive at once, and again before the machine has heard nothing for too long. A machine of
 * ours answers each with a pong: silent for SILENCE after one that it left unanswered, it is gone. The original answers
 * nothing here and is asked over HTTP instead (../reverse/). A write that cannot be delivered for WRITE_LIMIT closes.
 *
 * Always: every dial settles, at the latest when this closes; it closes once, with a reason; `tick` is called about
 * once a second by the owner, since thousands of these are idle at a time and a timer each would cost more than all
 * they do.
 */
import { timingSafeEqual } from "node:crypto";
import type { Clock } from "../../farm/clock.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { type ControlLine, ControlLineReader, encodeControlLine } from "../../wire/revdial/control-line.ts";
import { encodeResponseHead } from "../../wire/revdial/http-head.ts";
import { connPath } from "../../wire/revdial/registration.ts";
import type { MachineSocket } from "../door.ts";

/** How often original machines get a keep-alive: they expect one within 30 s. */
export const KEEP_ALIVE_EVERY: Ms = seconds(28);
/** How often our own machines get a keep-alive. They answer, so that a lost one is noticed sooner. */
export const PING_EVERY: Ms = seconds(14);
/** How long a keep-alive may stay unanswered: an idle machine has missed two in a row by then; a busy one three. */
const SILENCE_IDLE: Ms = seconds(20);
const SILENCE_BUSY: Ms = seconds(48);
export const WRITE_LIMIT: Ms = seconds(10);
export const DIAL_LIMIT: Ms = seconds(20);
/** How often a machine is asked for one connection, and the pause between. */
export const PICK_UPS = 5;
export const PICK_UP_PAUSE: Ms = ms(300);
/** How long a dial that was given up is remembered, for a failure that comes late. */
const GIVEN_UP_FOR = seconds(60);

export interface DialerOptions {
  /** The id, 32 hex digits. It is a secret: with it anybody could pose as the machine. */
  readonly id: string;
  /** Our id among the farm's coordinators: a pick-up may arrive at another one. */
  readonly coordinator: string;
  /** The machine's name for people, in messages. */
  readonly name: string;
  readonly socket: MachineSocket;
  /** Whether the machine answers keep-alives. */
  readonly pongs: boolean;
  readonly clock: Clock;
  readonly onPong: () => void;
  /** Called once. `why` is written for the machine's owner; `error` is for the callers. */
  readonly onClosed: (why: string, error: FarmError) => void;
}

interface Waiting {
  readonly deadline: number;
  readonly resolve: (socket: MachineSocket) => void;
  readonly reject: (reason: unknown) => void;
}

export class Dialer {
  readonly #options: DialerOptions;
  readonly #lines = new ControlLineReader();
  readonly #waiting = new Map<number, Waiting>();
  /** Dial → until when it is remembered. */
  readonly #givenUp = new Map<number, number>();
  #dials = 0;
  /** How many pick-ups we refused. The machine will complain about each. */
  #refused = 0;
  /** Failures of which it is not known yet to which dials they belong. */
  #unnamed: PickUpError[] = [];
  #lastSent = Number.NEGATIVE_INFINITY;
  /** When the first keep-alive was sent that is still unanswered. */
  #unanswered: number | undefined;
  /** When the oldest write began that has not ended yet. */
  #writing: number | undefined;
  #writes = 0;
  #busy = false;
  #closed: FarmError | undefined;

  constructor(options: DialerOptions) {
    this.#options = options;
    const { socket } = options;
    socket.on("error", (error) => this.close(`connection broke (${messageOf(error)})`));
    socket.on("end", () => this.close("it closed the connection"));
    socket.on("close", () => this.close("connection broke"));
  }

  /** Call it once the 101 has been delivered. `rest` is what the machine sent before that. */
  start(rest: Uint8Array): void {
    const { socket } = this.#options;
    socket.on("data", (chunk: Uint8Array) => this.#read(chunk));
    socket.resume(); // it was paused, so that nothing is lost
    if (rest.length > 0) this.#read(rest);
    this.#send({ command: "keep-alive" });
  }

  get closed(): FarmError | undefined {
    return this.#closed;
  }

  /** Whether the machine works: then it may answer more slowly. */
  set busy(busy: boolean) {
    this.#busy = busy;
  }

  /** A new connection to the machine, by as many dials as needed, up to PICK_UPS. */
  async connection(signal?: AbortSignal): Promise<MachineSocket> {
    for (let dials = 1; ; dials++) {
      try {
        return await this.dial(signal);
      } catch (error) {
        if (!(error instanceof PickUpError) || dials === PICK_UPS) throw error;
        await this.#options.clock.sleep(PICK_UP_PAUSE, signal);
      }
    }
  }

  /** Asks the machine for a connection once. */
  dial(signal?: AbortSignal): Promise<MachineSocket> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const dial = ++this.#dials;
    const { promise, resolve, reject } = Promise.withResolvers<MachineSocket>();
    const onAbort = () => this.#fail(dial, signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const done = () => signal?.removeEventListener("abort", onAbort);
    this.#waiting.set(dial, {
      deadline: this.#now + DIAL_LIMIT,
      resolve: (socket) => {
        done();
        resolve(socket);
      },
      reject: (reason) => {
        done();
        reject(reason);
      },
    });
    const { id, coordinator } = this.#options;
    this.#send({ command: "conn-ready", connPath: connPath(id, dial, coordinator) });
    return promise;
  }

  /** Whether `id` is ours. The time of the comparison does not show how much of it was right. */
  is(id: string): boolean {
    return id.length === this.#options.id.length && timingSafeEqual(Buffer.from(id), Buffer.from(this.#options.id));
  }

  /** Takes a connection that the machine opened for `dial`. False: nobody waits for it, and the caller must answer. */
  deliver(dial: number | undefined, socket: MachineSocket): boolean {
    const waiting = dial === undefined ? undefined : this.#waiting.get(dial);
    if (dial === undefined || !waiting) {
      this.#refused++;
      return false;
    }
    // The head is sent alone: the machine loses all that it reads together with it.
    socket.write(encodeResponseHead(101, "Switching Protocols"), (error) => {
      if (error || !this.#waiting.delete(dial)) {
        socket.destroy();
        if (error) this.#fail(dial, new PickUpError(this.#options.name, messageOf(error)));
        return;
      }
      waiting.resolve(socket);
      this.#nameFailed();
    });
    return true;
  }

  /** Sends keep-alives and ends dials that are due. */
  tick(): void {
    if (this.#closed) return;
    const now = this.#now;
    for (const [dial, { deadline }] of this.#waiting) {
      if (deadline <= now) this.#fail(dial, this.#unnamed.shift() ?? noPickUp(this.#options.name));
    }
    for (const [dial, until] of this.#givenUp) if (until <= now) this.#givenUp.delete(dial);
    if (this.#writing !== undefined && now - this.#writing >= WRITE_LIMIT) {
      this.close(`took nothing of what was sent to it for ${WRITE_LIMIT / 1000} s`);
      return;
    }
    const { pongs } = this.#options;
    if (pongs && this.#unanswered !== undefined) {
      const silent = now - this.#unanswered;
      if (silent >= (this.#busy ? SILENCE_BUSY : SILENCE_IDLE)) {
        this.close(`stopped answering: no answer to ${this.#busy ? 3 : 2} questions in a row whether it is there`);
        return;
      }
    }
    if (now - this.#lastSent >= (pongs ? PING_EVERY : KEEP_ALIVE_EVERY)) this.#send({ command: "keep-alive" });
  }

  /** Ends the session. Connections that were picked up end with their own exchange. */
  close(why: string): void {
    if (this.#closed) return;
    const { name, socket, onClosed } = this.#options;
    this.#closed = new FarmError("machine-gone", `Machine ${JSON.stringify(name)} is gone: ${why}`);
    for (const dial of [...this.#waiting.keys()]) this.#fail(dial, this.#closed);
    // After a clean end the machine leaves without complaint. A machine that takes no bytes gets none.
    if (this.#writing === undefined && !socket.destroyed) socket.end(() => socket.destroy());
    else socket.destroy();
    onClosed(why, this.#closed);
  }

  get #now(): number {
    return this.#options.clock.monotonic();
  }

  #send(line: ControlLine): void {
    if (this.#closed) return;
    const now = this.#now;
    this.#lastSent = now;
    this.#writing ??= now;
    if (line.command === "keep-alive") this.#unanswered ??= now;
    this.#writes++;
    this.#options.socket.write(encodeControlLine(line), () => {
      this.#writes--;
      this.#writing = this.#writes === 0 ? undefined : this.#now;
    });
  }

  #read(chunk: Uint8Array): void {
    if (this.#closed) return;
    try {
      for (const line of this.#lines.push(chunk)) this.#take(line);
    } catch (error) {
      this.close(`sent what is no control line (${messageOf(error)})`);
    }
  }

  #take(line: ControlLine): void {
    // Any line shows that the machine is alive. Unknown commands are skipped.
    this.#unanswered = undefined;
    if (line.command === "pong") this.#options.onPong();
    if (line.command === "pickup-failed") this.#pickUpFailed(line);
  }

  #pickUpFailed(line: ControlLine): void {
    const error = new PickUpError(this.#options.name, line.err ?? "no reason given");
    if (line.connPath !== undefined) {
      const dial = Number(/[?&]barnraiser\.dial=(\d+)$/.exec(line.connPath)?.[1]);
      if (!this.#waiting.has(dial) && this.#refused > 0) this.#refused--;
      this.#fail(dial, error);
      this.#givenUp.delete(dial);
      return;
    }
    if (this.#refused > 0) {
      this.#refused--;
      return;
    }
    this.#unnamed.push(error);
    this.#nameFailed();
  }

  /** When all unsettled dials have failed, it is known which have: rejects them. */
  #nameFailed(): void {
    const open = [...this.#waiting.keys(), ...this.#givenUp.keys()];
    if (this.#unnamed.length < open.length) return;
    const errors = this.#unnamed.splice(0).slice(-open.length);
    for (const [i, dial] of open.entries()) {
      this.#fail(dial, errors[i]);
      this.#givenUp.delete(dial); // its failure has come
    }
  }

  #fail(dial: number, reason: unknown): void {
    const waiting = this.#waiting.get(dial);
    if (!waiting) return;
    this.#waiting.delete(dial);
    this.#givenUp.set(dial, this.#now + GIVEN_UP_FOR);
    waiting.reject(reason);
  }
}

function noPickUp(name: string): FarmError {
  const limit = `${DIAL_LIMIT / 1000} s`;
  return new FarmError("machine-gone", `Machine ${JSON.stringify(name)} did not open a connection within ${limit}`);
}

/** The machine reported that it could not open the connection. */
class PickUpError extends FarmError {
  constructor(name: string, why: string) {
    super("machine-gone", `Machine ${JSON.stringify(name)} could not open a connection: ${why}`);
  }
}

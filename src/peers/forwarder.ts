/**
 * Pick-ups that arrive at the wrong coordinator.
 *
 * A farm of several coordinators has one address, and the load balancer behind it knows nothing of machines. One
 * coordinator asks a machine for a further connection; the machine's new connection may reach another coordinator. The
 * path of a pick-up names its owner. The coordinator that got it opens a connection to the owner, sends the same
 * request, and from then on carries bytes both ways.
 *
 *   asking    connection, request, the head of the answer: within ASK_LIMIT, else the machine is refused with a reason,
 *             which it passes on
 *   carrying  until either side ends, or the owner of the pick-up no longer lives (looked at every OWNERS_LOOK_EVERY)
 *
 * A redirect would not do. The original machine follows a 307 on the very connection that it has, without scheme and
 * host, and that connection ends here. Our own machine could dial elsewhere, but often cannot reach the addresses that
 * coordinators have among themselves.
 *
 * The head of the answer goes to the machine in a TLS record of its own, as if it came from the owner: the original
 * loses bytes that it reads together with the head. A pick-up is passed on once: one that was passed on, and is not
 * ours either, is refused. We connect only to coordinators with a living row, MOST at a time, so this is no way to
 * anywhere else.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import { encodeRequestHead, fieldValues, type RequestHead, responseHeadReader } from "../wire/revdial/http-head.ts";
import { FORWARDED_HEADER } from "../wire/revdial/registration.ts";
import type { Peers } from "./peers.ts";

/** The limit of asking, well below the time that the owner waits for a pick-up. */
export const ASK_LIMIT: Ms = seconds(8);
/** The most pick-ups that are passed on at a time. */
const MOST = 4096;
export const OWNERS_LOOK_EVERY: Ms = seconds(10);
/** How long one side may take to read the rest when the other is gone. */
const DRAIN_MS = 5000;

/** A connection that a machine opened for `owner`, with the head that it sent and the `rest` behind it. */
export interface PickUp {
  readonly owner: CoordinatorId;
  readonly head: RequestHead;
  readonly socket: Duplex;
  readonly rest: Uint8Array;
}

export interface Refusal {
  readonly status: number;
  /** The reason, which the machine's owner finds in a log. */
  readonly reason: string;
}

export interface ForwarderDeps {
  readonly peers: Pick<Peers, "self" | "find" | "connect">;
  readonly clock: Clock;
  readonly log: Log;
}

export class Forwarder implements AsyncDisposable {
  readonly #deps: ForwarderDeps;
  readonly #stop = new AbortController();
  /** The connection to the owner of each pick-up that is carried → the owner. */
  readonly #carried = new Map<Duplex, CoordinatorId>();
  readonly #watch: Promise<void>;
  #asking = 0;

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
    this.#watch = this.#lookAfter();
  }

  /** The number of pick-ups that are being passed on. */
  get size(): number {
    return this.#asking + this.#carried.size;
  }

  /**
   * Passes a pick-up on. Resolves once it is carried, or with the answer to send: then the caller still has the socket.
   */
  async forward({ owner, head, socket, rest }: PickUp): Promise<Refusal | undefined> {
    const [before] = fieldValues(head, FORWARDED_HEADER);
    if (before !== undefined) {
      return { status: 421, reason: `This pick-up was passed on by ${before.slice(0, 20)}, and is not ours either.` };
    }
    if (this.size >= MOST) return { status: 503, reason: `More than ${MOST} pick-ups are passed on here already.` };
    this.#asking++;
    const done = new AbortController();
    const limit = new AbortController();
    const seconds = ASK_LIMIT / 1000;
    this.#deps.clock.sleep(ASK_LIMIT, done.signal).then(
      () => limit.abort(new FarmError("timed-out", `Coordinator ${owner} did not answer within ${seconds} s`)),
      () => {},
    );
    let upstream: Duplex | undefined;
    try {
      const signal = AbortSignal.any([limit.signal, this.#stop.signal]);
      upstream = await this.#deps.peers.connect(owner, signal);
      upstream.write(encodeRequestHead("GET", head.target, [[FORWARDED_HEADER, this.#deps.peers.self]]));
      const answer = await answerOf(upstream, owner, signal);
      await written(socket, answer.head);
      if (answer.rest.length > 0) socket.write(answer.rest); // not put back: the owner may have hung up
      if (rest.length > 0) socket.unshift(rest);
      this.#carry(owner, socket, upstream);
      return undefined;
    } catch (error) {
      upstream?.destroy();
      const { code, message } = FarmError.from(error);
      return { status: code === "forbidden" ? 502 : CODES[code].http, reason: `${message}.` };
    } finally {
      done.abort();
      this.#asking--;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "This coordinator is stopping"));
    for (const upstream of this.#carried.keys()) upstream.destroy();
    await this.#watch;
  }

  #carry(owner: CoordinatorId, socket: Duplex, upstream: Duplex): void {
    this.#carried.set(upstream, owner);
    upstream.once("close", () => this.#carried.delete(upstream));
    for (const [from, to] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      from.on("error", (error) =>
        this.#deps.log.debug({ error: messageOf(error) }, "A connection that was passed on broke"),
      );
      from.once("close", () => finish(from, to));
      from.pipe(to);
      if (from.destroyed) finish(from, to);
    }
  }

  async #lookAfter(): Promise<void> {
    const { clock, peers } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await clock.sleep(OWNERS_LOOK_EVERY, signal).catch(() => {});
      for (const owner of new Set(this.#carried.values())) {
        if (await peers.find(owner)) continue;
        for (const [upstream, whose] of this.#carried) if (whose === owner) upstream.destroy();
      }
    }
  }
}

/** The head of the owner's answer, as it came, and what came behind it. It leaves no listeners on the socket. */
async function answerOf(
  upstream: Duplex,
  owner: CoordinatorId,
  signal: AbortSignal,
): Promise<{ readonly head: Uint8Array; readonly rest: Uint8Array }> {
  const reader = responseHeadReader();
  const { promise, resolve, reject } = Promise.withResolvers<{ head: Uint8Array; rest: Uint8Array }>();
  const onReadable = () => {
    const chunk: Buffer | null = upstream.read();
    if (!chunk) return;
    try {
      const read = reader.push(chunk);
      if (read) resolve({ head: reader.bytes.subarray(0, reader.bytes.length - read.rest.length), rest: read.rest });
    } catch (error) {
      reject(
        new FarmError("machine-broken", `Coordinator ${owner} answered with ${messageOf(error)}`, { cause: error }),
      );
    }
  };
  const onClose = () => reject(new FarmError("unavailable", `Coordinator ${owner} closed the connection`));
  const onAbort = () => reject(signal.reason);
  upstream.on("readable", onReadable).on("end", onClose).on("close", onClose);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await promise;
  } finally {
    upstream.off("readable", onReadable).off("end", onClose).off("close", onClose);
    signal.removeEventListener("abort", onAbort);
  }
}

/** Writes `bytes`. Resolves once they have left, so that nothing else gets into their record. */
function written(socket: Duplex, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) =>
      reject(new FarmError("machine-gone", "The machine closed the connection", { cause }));
    if (socket.destroyed) failed(undefined);
    else socket.write(bytes, (error) => (error ? failed(error) : resolve()));
  });
}

/** Handles the end of `from`: if it ended well `to` ends, too; if it broke `to` is broken off. */
function finish(from: Duplex, to: Duplex & { setTimeout?(milliseconds: number, idle: () => void): unknown }): void {
  if (!from.readableEnded) {
    to.destroy();
    return;
  }
  to.setTimeout?.(DRAIN_MS, () => to.destroy());
  to.end();
}

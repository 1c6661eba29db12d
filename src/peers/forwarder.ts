/**
 * Pick-ups that arrive at the wrong coordinator.
 *
 * A farm of several coordinators has one address, and what spreads connections over them knows nothing of machines: a machine that was
 * asked by one coordinator for a further connection opens it to whichever comes. The path of a pick-up says whose it is. The one that got
 * it opens a connection to that one, sends the same request, and from then on carries bytes both ways.
 *
 *   asking    connection, request, the head of the answer: within ASK_LIMIT, else the machine is refused with a reason, which it passes on
 *   carrying  until either side ends, or the owner of the pick-up lives no more (looked at every OWNERS_LOOK_EVERY)
 *
 * A redirect would not do: the original machine follows a 307 on the very connection that it has, without scheme and host, and that one
 * ends here. Our own could dial elsewhere, but often cannot reach the addresses that coordinators have among themselves.
 *
 * The head of the answer goes to the machine alone in its record, as if it had got it from the owner: the original throws away
 * what it reads together with it. A pick-up is passed on once: one that was, and is not ours either, is refused. Only coordinators
 * with a row that lives are ever connected to, MOST at a time, so this is no way to anywhere else.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import { encodeRequestHead, fieldValues, type RequestHead, responseHeadReader } from "../wire/revdial/http-head.ts";
import { FORWARDED_HEADER } from "../wire/revdial/registration.ts";
import type { Peers } from "./peers.ts";

/** Well below the time that the owner waits for a pick-up. */
export const ASK_LIMIT: Ms = seconds(8);
/** Pick-ups passed on at a time. */
export const MOST = 4096;
export const OWNERS_LOOK_EVERY: Ms = seconds(10);
/** When one side is gone: how long the other may take to read what is left. */
const DRAIN_MS = 5000;

/** A connection that a machine opened for `owner`, with the head that it sent; `rest` came behind it. */
export interface PickUp {
  readonly owner: CoordinatorId;
  readonly head: RequestHead;
  readonly socket: Duplex;
  readonly rest: Uint8Array;
}

export interface Refusal {
  readonly status: number;
  /** For the machine's owner, who finds it in a log. */
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
  /** The owner's end of each connection that is carried. */
  readonly #carried = new Map<Duplex, CoordinatorId>();
  readonly #watch: Promise<void>;
  #asking = 0;

  constructor(deps: ForwarderDeps) {
    this.#deps = deps;
    this.#watch = this.#lookAfter();
  }

  /** Pick-ups that are being passed on. */
  get size(): number {
    return this.#asking + this.#carried.size;
  }

  /** Passes a pick-up on; resolves once it is carried, or with what to answer: the socket is then the caller's still. */
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
      if (answer.rest.length > 0) socket.write(answer.rest); // not put back: the owner may have hung up behind it
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

/** The head of what `owner` answers, as it came, and what came behind it. The socket is left as it was found: nobody listens. */
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

/** Resolves once `bytes` have left, so that nothing else gets into their record. */
function written(socket: Duplex, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown) =>
      reject(new FarmError("machine-gone", "The machine closed the connection", { cause }));
    if (socket.destroyed) failed(undefined);
    else socket.write(bytes, (error) => (error ? failed(error) : resolve()));
  });
}

/** `from` is gone: whole, then `to` ends as well; broken, then so is `to`. */
function finish(from: Duplex, to: Duplex & { setTimeout?(milliseconds: number, idle: () => void): unknown }): void {
  if (!from.readableEnded) {
    to.destroy();
    return;
  }
  to.setTimeout?.(DRAIN_MS, () => to.destroy());
  to.end();
}

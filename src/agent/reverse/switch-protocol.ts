/**
 * The one GET with which a machine begins each connection, and its answer, 101. After that the caller has the socket.
 *
 * One 307 is followed on the same connection, to a path without scheme and host; so the body of a redirect is read to
 * its end first. Anything else is refused, with the status and what the coordinator said. After ANSWER_LIMIT we leave
 * a coordinator that takes connections and does not answer (it is stopped, or waits for its own database).
 */
import type { Duplex } from "node:stream";
import { type Clock, ENOUGH } from "../../farm/clock.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import {
  encodeRequestHead,
  fieldValues,
  type HeaderField,
  type ResponseHead,
  responseHeadReader,
} from "../../wire/revdial/http-head.ts";

/** How long to wait for the 101, a redirect included. */
export const ANSWER_LIMIT: Ms = seconds(60);
/** How much of an answer other than 101 is read for the message. */
const BODY_LIMIT = 4096;
/** The longest body of a redirect that we read to its end. */
const REDIRECT_BODY_LIMIT = 64 * 1024;
/** How long to wait for the text of a refusal. Without it the status has to do. */
const REFUSAL_BODY_MS = 2000;

export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }

  /**
   * Whether asking again later is useless. It is not when the coordinator has trouble, or found us slow or too many.
   */
  get isFinal(): boolean {
    return this.status < 500 && this.status !== 408 && this.status !== 429;
  }
}

export interface Switched {
  readonly head: ResponseHead;
  /** Bytes that came behind the head. The original throws them away, so no coordinator should send any. */
  readonly rest: Uint8Array;
}

/** Sends `GET target` with `fields`, and nothing else before the 101. Then it resolves, the socket paused. */
export async function switchProtocol(
  socket: Duplex,
  target: string,
  fields: readonly HeaderField[],
  clock: Clock,
  signal: AbortSignal,
): Promise<Switched> {
  const input = new Input(socket, signal);
  const answered = new AbortController();
  clock.sleep(ANSWER_LIMIT, answered.signal).then(
    () => input.end(new Error(`the coordinator did not answer in ${ANSWER_LIMIT / 1000} s`)),
    () => {},
  );
  try {
    let path = target;
    for (let redirects = 0; ; redirects++) {
      socket.write(encodeRequestHead("GET", path, fields));
      const { head, rest } = await input.head();
      if (head.status === 101) return { head, rest };
      if (head.status !== 307) {
        const body = await input.body(head, rest, BODY_LIMIT, REFUSAL_BODY_MS);
        throw new RefusedError(head.status, `the coordinator answered ${head.status} ${head.reason}: ${body.trim()}`);
      }
      if (redirects === 1) throw new RefusedError(307, "the coordinator redirected a second time");
      path = redirectPath(head);
      await input.body(head, rest, REDIRECT_BODY_LIMIT, undefined);
    }
  } finally {
    answered.abort(ENOUGH);
    input.release();
  }
}

function redirectPath(head: ResponseHead): string {
  const [location] = fieldValues(head, "Location");
  if (location === undefined || location === "")
    throw new RefusedError(307, "the coordinator redirected without a Location");
  if (!location.startsWith("/") || location.startsWith("//") || /[\s\\]/.test(location)) {
    throw new RefusedError(
      307,
      `the coordinator redirected to ${JSON.stringify(location)}: want a path without scheme and host`,
    );
  }
  return location;
}

/** The bytes of a socket, taken when they are wanted. */
class Input {
  readonly #socket: Duplex;
  readonly #signal: AbortSignal;
  readonly #chunks: Buffer[] = [];
  #ended: Error | undefined;
  #wake: () => void = () => {};

  constructor(socket: Duplex, signal: AbortSignal) {
    this.#socket = socket;
    this.#signal = signal;
    socket.on("data", this.#data);
    socket.once("end", this.end);
    socket.once("close", this.end);
    socket.on("error", this.end);
    signal.addEventListener("abort", this.end, { once: true });
  }

  readonly #data = (chunk: Buffer) => {
    this.#chunks.push(chunk);
    this.#wake();
  };

  /** Notes that no more bytes will come. */
  readonly end = (error?: unknown) => {
    this.#ended ??= error instanceof Error ? error : new Error("the connection was closed before the answer came");
    this.#wake();
  };

  release(): void {
    this.#socket.off("data", this.#data);
    this.#socket.off("end", this.end);
    this.#socket.off("close", this.end);
    this.#socket.off("error", this.end);
    this.#signal.removeEventListener("abort", this.end);
    this.#socket.pause();
  }

  /** The next bytes; undefined at the end. */
  async #next(): Promise<Buffer | undefined> {
    while (this.#chunks.length === 0) {
      this.#signal.throwIfAborted();
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#chunks.shift();
  }

  async head(): Promise<{ head: ResponseHead; rest: Uint8Array }> {
    const reader = responseHeadReader();
    for (;;) {
      const chunk = await this.#next();
      if (chunk === undefined) throw this.#ended ?? new Error("the connection was closed");
      const read = reader.push(chunk);
      if (!read) continue;
      // What came behind the head is kept: a body may follow, and after 101 it belongs to the caller.
      return { head: read.head, rest: Buffer.concat([read.rest, ...this.#chunks.splice(0)]) };
    }
  }

  /** The text of a body, by its Content-Length or else to the end of the connection. Bytes behind the body stay. */
  async body(head: ResponseHead, rest: Uint8Array, limit: number, limitMs: number | undefined): Promise<string> {
    if (rest.length > 0) this.#chunks.unshift(Buffer.from(rest));
    const [given] = fieldValues(head, "Content-Length");
    const delimited = given !== undefined && /^\d+$/.test(given);
    if (limitMs === undefined && (!delimited || Number(given) > limit)) {
      throw new RefusedError(head.status, "the coordinator redirected with a body whose end cannot be told");
    }
    const wanted = Math.min(delimited ? Number(given) : limit, limit);
    const timer = limitMs === undefined ? undefined : setTimeout(this.end, limitMs);
    const parts: Buffer[] = [];
    let length = 0;
    try {
      while (length < wanted) {
        const chunk = await this.#next();
        if (chunk === undefined) break;
        const part = chunk.subarray(0, wanted - length);
        if (part.length < chunk.length) this.#chunks.unshift(chunk.subarray(part.length));
        parts.push(part);
        length += part.length;
      }
    } finally {
      clearTimeout(timer);
    }
    return Buffer.concat(parts).toString("utf8");
  }
}

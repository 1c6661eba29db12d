/**
 * HTTP exchanges with one machine, over connections that it opens when asked.
 *
 * A connection serves one exchange at a time and is then kept for the next. At most KEPT are kept, and not for long, so
 * that a machine that waits for work costs one socket. Connections are used again only while FRESH: the machine may be
 * about to close an older one, and a request must not be sent twice.
 *
 * An exchange may end before its response was read whole (by the caller's signal, the machine's end, a limit, or an
 * early answer to an upload). Then its connection is destroyed, and the machine stops its work for it.
 */
import { Readable } from "node:stream";
import { type Clock, ENOUGH } from "../../farm/clock.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { encodeRequestHead, HeadError, type HeaderField, type ResponseHead } from "../../wire/revdial/http-head.ts";
import type { MachineSocket } from "../door.ts";
import { type Body, BrokenResponse, readBody, readHead, SocketReader } from "./response.ts";

const KEPT = 2;
/** How long a connection may be idle and still be used. Agents may close one after 5 s, as Node's server does. */
const FRESH: Ms = seconds(3);

export interface ExchangesOptions {
  /** The machine's name: the Host of every request, and its name in messages. */
  readonly name: string;
  readonly clock: Clock;
  readonly dial: (signal: AbortSignal) => Promise<MachineSocket>;
  /** Aborts when the machine is gone, with the reason. */
  readonly gone: AbortSignal;
  /** Explains a cut connection if the coordinator that passed it on ended, and not the machine. */
  readonly carrierEnded: (socket: MachineSocket) => Promise<string | undefined>;
}

export interface Request {
  readonly method: "GET" | "POST" | "PUT";
  readonly target: string;
  /** What the request is for, as words behind "Cannot". */
  readonly doing: string;
  readonly type?: string;
  /** Further header fields. */
  readonly fields?: readonly HeaderField[];
  readonly body?: Uint8Array | Readable;
  /** How long the head of the response may take once the connection is there. */
  readonly headLimit?: Ms;
}

export interface Response {
  readonly head: ResponseHead;
  readonly body: Body;
  /**
   * Must be called once the response is not read any further. After the `whole` body the connection is kept if
   * possible. Only the first call counts.
   */
  done(whole: boolean): void;
  /** The error for the caller when reading the body has failed with `error`. */
  explain(error: unknown): Promise<unknown>;
}

interface Connection {
  readonly socket: MachineSocket;
  readonly reader: SocketReader;
}

interface Kept extends Connection {
  readonly since: number;
  readonly unwatch: () => void;
}

export class Exchanges {
  readonly #options: ExchangesOptions;
  readonly #kept: Kept[] = [];

  constructor(options: ExchangesOptions) {
    this.#options = options;
  }

  /** Closes connections that were idle for a while. Call it now and then, and when the machine is gone. */
  tick(): void {
    const now = this.#options.clock.monotonic();
    const { aborted } = this.#options.gone;
    for (const kept of [...this.#kept]) if (aborted || now - kept.since >= FRESH) this.#drop(kept);
  }

  /** Sends `request` and reads the head of its response. */
  async send(request: Request, signal?: AbortSignal): Promise<Response> {
    const { gone, name, carrierEnded } = this.#options;
    const stop = signal ? AbortSignal.any([signal, gone]) : gone;
    const what = `${request.method} ${request.target.split("?", 1)[0]}`;
    let connection: Connection | undefined;
    const explain = async (error: unknown): Promise<unknown> => {
      if (stop.aborted) return stop.reason;
      if (!(error instanceof BrokenResponse || error instanceof HeadError)) return error;
      const cut = error instanceof BrokenResponse && error.kind === "cut";
      const ended = cut && connection ? await carrierEnded(connection.socket) : undefined;
      if (ended !== undefined)
        return new FarmError("carrier-gone", `${ended} in the middle of ${what}`, { cause: error });
      const message = `Machine ${JSON.stringify(name)} broke off ${what}: ${messageOf(error)}`;
      // A machine that cut the call off may be gone: its control connection may end a moment later.
      return new FarmError(cut ? "machine-gone" : "machine-broken", message, { cause: error });
    };
    const upload = request.body instanceof Readable ? request.body : undefined;
    upload?.on("error", () => {}); // the reader of `upload` sees the error, even one that came before
    try {
      stop.throwIfAborted();
      connection = this.#take() ?? connect(await this.#options.dial(stop));
      const { socket, reader } = connection;
      const abort = () => socket.destroy();
      stop.addEventListener("abort", abort, { once: true });
      try {
        stop.throwIfAborted();
        const { head, whole } = await this.#converse(socket, reader, request, upload, what);
        const body = readBody(reader, head);
        let over = false;
        return {
          head,
          body,
          explain,
          done: (read) => {
            if (over) return;
            over = true;
            stop.removeEventListener("abort", abort);
            this.#keep({ socket, reader }, read && whole && body.reusable);
          },
        };
      } catch (error) {
        stop.removeEventListener("abort", abort);
        throw error;
      }
    } catch (error) {
      upload?.destroy();
      connection?.socket.destroy();
      throw await explain(error);
    }
  }

  /** Writes the request and waits for the head. `whole`: the whole request had been sent by then. */
  async #converse(
    socket: MachineSocket,
    reader: SocketReader,
    request: Request,
    upload: Readable | undefined,
    what: string,
  ): Promise<{ head: ResponseHead; whole: boolean }> {
    const fields: HeaderField[] = [["Host", this.#options.name.replace(/[^\x21-\x7e]/g, "?")]];
    if (request.type) fields.push(["Content-Type", request.type]);
    fields.push(...(request.fields ?? []));
    const body = request.body instanceof Uint8Array ? request.body : new Uint8Array(0);
    if (upload) fields.push(["Transfer-Encoding", "chunked"]);
    else if (request.method !== "GET") fields.push(["Content-Length", String(body.length)]);
    const head = encodeRequestHead(request.method, request.target, fields);
    const limit = new AbortController();
    try {
      const answer = readHead(reader);
      if (!upload) {
        socket.write(Buffer.concat([head, body]));
        return { head: await this.#limited(answer, request, what, limit.signal), whole: true };
      }
      // The machine may answer before it has read everything, with the reason why we should stop.
      let answered = false;
      const uploaded = writeUpload(socket, head, upload, () => answered);
      const early = answer.then((head) => {
        answered = true;
        return head;
      });
      uploaded.catch(() => {});
      early.catch(() => {});
      const first = await Promise.race([early, uploaded]).catch((error: unknown) => {
        // The machine may have said why before it cut the connection.
        if (error instanceof BrokenResponse) return early;
        throw error;
      });
      if (first === "uploaded") return { head: await early, whole: true };
      upload.destroy();
      return { head: await early, whole: false };
    } finally {
      limit.abort(ENOUGH);
    }
  }

  async #limited(
    answer: Promise<ResponseHead>,
    request: Request,
    what: string,
    signal: AbortSignal,
  ): Promise<ResponseHead> {
    const { headLimit } = request;
    if (headLimit === undefined) return await answer;
    answer.catch(() => {}); // it rejects when the limit comes first
    const late = this.#options.clock.sleep(headLimit, signal).then(() => {
      const name = JSON.stringify(this.#options.name);
      throw new FarmError("machine-gone", `Machine ${name} did not answer ${what} within ${headLimit / 1000} s`);
    });
    late.catch(() => {});
    return await Promise.race([answer, late]);
  }

  #take(): Connection | undefined {
    this.tick();
    const kept = this.#kept.pop();
    kept?.unwatch();
    return kept;
  }

  #keep(connection: Connection, reusable: boolean): void {
    const { socket, reader } = connection;
    const good = reusable && !socket.destroyed && !reader.ended && !this.#options.gone.aborted;
    if (!good || this.#kept.length >= KEPT) {
      socket.destroy();
      return;
    }
    const unwatch = reader.watch(() => this.#drop(kept));
    const kept: Kept = { socket, reader, since: this.#options.clock.monotonic(), unwatch };
    this.#kept.push(kept);
  }

  #drop(kept: Kept): void {
    const at = this.#kept.indexOf(kept);
    if (at !== -1) this.#kept.splice(at, 1);
    kept.socket.destroy();
  }
}

function connect(socket: MachineSocket): Connection {
  return { socket, reader: new SocketReader(socket) };
}

/**
 * Sends `head` and `body` with chunked encoding, no faster than the socket takes it. Bytes that come within one turn of
 * the event loop are sent together, so a small request is sent whole. Otherwise each piece would travel, and wake the
 * machine, by itself.
 */
async function writeUpload(
  socket: MachineSocket,
  head: Uint8Array,
  body: Readable,
  stopped: () => boolean,
): Promise<"uploaded" | "stopped"> {
  let corked = false;
  const cork = (): void => {
    if (!corked) socket.cork();
    corked = true;
  };
  const letGo = (): void => {
    if (corked) socket.uncork();
    corked = false;
  };
  cork();
  socket.write(head);
  setImmediate(letGo);
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      if (stopped()) return "stopped";
      if (chunk.length === 0) continue;
      if (socket.destroyed) throw new BrokenResponse("cut", "the connection broke");
      cork();
      socket.write(`${chunk.length.toString(16)}\r\n`, "latin1");
      socket.write(chunk);
      const more = socket.write("\r\n", "latin1");
      if (more) {
        setImmediate(letGo);
      } else {
        letGo();
        await drained(socket);
      }
    }
    socket.write("0\r\n\r\n", "latin1");
    return "uploaded";
  } finally {
    letGo();
  }
}

function drained(socket: MachineSocket): Promise<void> {
  return new Promise((resolve, reject) => {
    const onDrain = () => {
      socket.off("close", onClose);
      resolve();
    };
    const onClose = () => {
      socket.off("drain", onDrain);
      reject(new BrokenResponse("cut", "the connection broke"));
    };
    if (socket.destroyed) onClose();
    else socket.once("drain", onDrain).once("close", onClose);
  });
}

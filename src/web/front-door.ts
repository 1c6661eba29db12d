/**
 * The front door: one TLS port for browsers (HTTP/1.1 and h2) and for machines, and a plain HTTP port on loopback for
 * browsers.
 *
 * A machine sends `GET /reverse` or `GET /revdial` without Upgrade and then speaks something that is not HTTP. Node's
 * HTTP parser cannot give such a connection back. So this file reads the first head of every HTTP/1.1 connection. A
 * machine's connection goes to machines/, with the bytes that followed the head. Every other connection gets its bytes
 * back and goes to the HTTP server. Connections with ALPN `h2` go to the HTTP server at once: machines offer no ALPN.
 *
 * A connection passes two waits (silent-connections.ts). First it has to send a byte: only then is TLS state, tens of
 * KB, made for it. After the handshake it has to send a whole head. Each wait has a time limit (HEAD_LIMIT) and a cap;
 * when more connections wait, the oldest are dropped. Node limits the handshake in between.
 */
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, seconds } from "../farm/ids.ts";
import type { MachineDoor } from "../machines/door.ts";
import { HeadError, type HeadReader, type RequestHead, requestHeadReader } from "../wire/revdial/http-head.ts";
import { REVDIAL_PATH, REVERSE_PATH } from "../wire/revdial/registration.ts";
import { SilentConnections } from "./silent-connections.ts";

/** The longest time from the end of the handshake to the end of the first request's head. */
export const HEAD_LIMIT: Ms = seconds(10);
const HANDSHAKE_LIMIT = seconds(15);
/** How many connections may have finished the handshake and not have sent a whole head. */
export const MAX_SILENT = 4096;
/**
 * How many connections may not have sent a single byte. They are cheap, and thousands of machines that redial at once
 * must fit.
 */
export const MAX_MUTE = 8192;
/** How many requests one connection may have open, unless an option says otherwise. */
export const MAX_STREAMS = 2048;
const KEEP_ALIVE = seconds(15);
/**
 * After this silence the kernel asks whether the other computer is there. After ten questions without an answer, one a
 * second, it hangs up.
 */
const KEEP_ALIVE_PROBE: Ms = seconds(30);

export type RequestListener = (
  request: http.IncomingMessage | http2.Http2ServerRequest,
  response: http.ServerResponse | http2.Http2ServerResponse,
) => void;

/** Takes connections that become WebSockets. */
export interface Upgrades {
  isFor(request: http.IncomingMessage): boolean;
  /** Takes over the connection. Never throws. */
  knock(request: http.IncomingMessage, socket: Duplex, head: Buffer): Promise<void>;
}

export interface FrontDoorOptions {
  readonly listen: { readonly host: string; readonly port: number };
  readonly http: { readonly host: string; readonly port: number };
  readonly cert: string;
  readonly key: string;
  /**
   * How many requests one connection may have open; others wait at the client. A connection of another coordinator
   * carries requests of many people.
   */
  readonly streams?: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** The parts of the coordinator that take the connections. */
export interface Behind {
  readonly machines: MachineDoor;
  /** Path -> the function that takes connections whose first request is for that path. They carry no HTTP after it. */
  readonly carried?: ReadonlyMap<string, (socket: TLSSocket, head: RequestHead, rest: Uint8Array) => void>;
  readonly pages: RequestListener;
  readonly upgrades?: Upgrades;
}

interface Inside extends Behind {
  readonly toHttp: (socket: TLSSocket) => void;
}

/** The door is shut at first: the parts behind it learn of it before anybody comes in. */
export class FrontDoor implements AsyncDisposable {
  readonly #options: FrontDoorOptions;
  readonly #tls: http2.Http2SecureServer;
  readonly #plain: http.Server;
  readonly #mute: SilentConnections;
  readonly #silent: SilentConnections;
  readonly #sockets = new Set<Socket>();

  constructor(options: FrontDoorOptions) {
    this.#options = options;
    const { clock, cert, key, streams = MAX_STREAMS } = options;
    const waits = { clock, limit: HEAD_LIMIT };
    this.#mute = new SilentConnections({ ...waits, most: MAX_MUTE, late: (socket) => socket.destroy() });
    this.#silent = new SilentConnections({
      ...waits,
      most: MAX_SILENT,
      late: (socket) => respond(socket, 408, "Request Timeout", `no whole request head within ${HEAD_LIMIT / 1000} s`),
    });
    this.#tls = http2.createSecureServer({
      ...{ cert, key, allowHTTP1: true, handshakeTimeout: HANDSHAKE_LIMIT },
      settings: { maxConcurrentStreams: streams },
    });
    this.#plain = http.createServer({
      keepAliveTimeout: KEEP_ALIVE,
      headersTimeout: HEAD_LIMIT,
    });
  }

  /** Opens both ports, once. Throws FarmError that names an address at which the coordinator cannot listen. */
  async open(behind: Behind): Promise<void> {
    this.#serveTls(behind);
    this.#servePlain(behind);
    await listen(this.#tls, this.#options.listen, "-listen");
    await listen(this.#plain, this.#options.http, "-http");
  }

  /** The ports at which it listens, once it is open. */
  get ports(): { readonly tls: number; readonly http: number } {
    return { tls: (this.#tls.address() as AddressInfo).port, http: (this.#plain.address() as AddressInfo).port };
  }

  /** How many connections have not sent a whole head yet. */
  get silent(): number {
    return this.#mute.size + this.#silent.size;
  }

  /** Serves this certificate to connections from now on. */
  renew({ cert, key }: { readonly cert: string; readonly key: string }): void {
    this.#tls.setSecureContext({ cert, key });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = [this.#tls, this.#plain].map(
      (server) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
    await this.#mute[Symbol.asyncDispose]();
    await this.#silent[Symbol.asyncDispose]();
  }

  #serveTls(behind: Behind): void {
    const { log } = this.#options;
    openTo(this.#tls, behind.upgrades);
    this.#tls.on("request", behind.pages);
    const inside = { ...behind, toHttp: takeListener<TLSSocket>(this.#tls, "secureConnection") };
    this.#tls.on("secureConnection", (socket) => this.#secured(socket, inside));
    const toTls = takeListener<Socket>(this.#tls, "connection");
    this.#tls.on("connection", (socket: Socket) => this.#accepted(socket, toTls));
    this.#tls.on("tlsClientError", (error, socket) => {
      log.debug({ error: messageOf(error), address: socket.remoteAddress }, "A TLS handshake failed");
      socket.destroy();
    });
    this.#tls.on("sessionError", (error) => log.debug({ error: messageOf(error) }, "An HTTP/2 session failed"));
  }

  #servePlain(behind: Behind): void {
    openTo(this.#plain, behind.upgrades);
    this.#plain.on("connection", (socket) => this.#track(socket));
    this.#plain.on("request", (request, response) => {
      const path = (request.url ?? "").split("?", 1)[0];
      if (path === REVERSE_PATH || path === REVDIAL_PATH) {
        response.writeHead(500, { "content-type": "text/plain; charset=utf-8", connection: "close" });
        response.end("machines connect over TLS; this port is for browsers\n");
        return;
      }
      behind.pages(request, response);
    });
  }

  #track(socket: Socket): void {
    this.#sockets.add(socket);
    // A machine's connection carries small requests in several writes. Each would cost 40 ms if it waited for an
    // acknowledgement.
    socket.setNoDelay(true);
    // Finds out when the other computer or its network is gone without a word, so that what runs over the connection
    // ends. A program that is only stopped still counts as there.
    socket.setKeepAlive(true, KEEP_ALIVE_PROBE);
    socket.once("close", () => this.#sockets.delete(socket));
  }

  #accepted(socket: Socket, toTls: (socket: Socket) => void): void {
    this.#track(socket);
    // The bytes stay in the socket, and the TLS layer reads them from there.
    const onReadable = () => {
      leave();
      if (socket.readableLength > 0) toTls(socket);
      else socket.destroy(); // it ended before its first byte
    };
    const onGone = () => leave();
    socket.on("readable", onReadable).on("error", onGone).on("close", onGone);
    const leave = this.#mute.add(socket, () =>
      socket.off("readable", onReadable).off("error", onGone).off("close", onGone),
    );
  }

  #secured(socket: TLSSocket, inside: Inside): void {
    // Resets by the peer are common. The next owner of the socket has its own listener.
    socket.on("error", (error) => this.#options.log.debug({ error: messageOf(error) }, "A connection broke"));
    if (socket.alpnProtocol === "h2") {
      inside.toHttp(socket);
      return;
    }
    this.#readHead(socket, inside);
  }

  #readHead(socket: TLSSocket, inside: Inside): void {
    const reader = requestHeadReader();
    // Reads on 'readable': when that listener is removed, the socket waits for the next listener with all its bytes. A
    // paused socket would stay paused.
    const onReadable = () => {
      const chunk: Buffer | null = socket.read();
      if (chunk) heard(socket, inside, leave, reader, chunk);
    };
    const onEnd = () => socket.destroy();
    const onClose = () => leave();
    socket.on("readable", onReadable).on("end", onEnd).on("close", onClose);
    const leave = this.#silent.add(socket, () =>
      socket.off("readable", onReadable).off("end", onEnd).off("close", onClose),
    );
  }
}

/** Passes a connection on once its first head is whole. */
function heard(
  socket: TLSSocket,
  inside: Inside,
  leave: () => void,
  reader: HeadReader<RequestHead>,
  chunk: Buffer,
): void {
  let read: ReturnType<typeof reader.push>;
  try {
    read = reader.push(chunk);
  } catch (error) {
    leave();
    refuse(socket, error);
    return;
  }
  if (!read) return;
  leave();
  const path = read.head.target.split("?", 1)[0] ?? "";
  const carry = inside.carried?.get(path);
  if (path === REVERSE_PATH) inside.machines.reverse(socket, read.head, read.rest);
  else if (path === REVDIAL_PATH) inside.machines.revdial(socket, read.head, read.rest);
  else if (carry) carry(socket, read.head, read.rest);
  else {
    socket.unshift(reader.bytes);
    inside.toHttp(socket);
  }
}

/** Sets up `server`: requests have no time limit of Node's, and `upgrades` takes those to upgrade. */
function openTo(server: http2.Http2SecureServer | http.Server, upgrades: Upgrades | undefined): void {
  // Every other offer to upgrade is declined: the request is answered like any other.
  const shouldUpgradeCallback = (request: http.IncomingMessage) => upgrades?.isFor(request) === true;
  // Files take long (gomote/transfers/), and Node's limit allows no exceptions. body-limit.ts limits the other bodies.
  Object.assign(server, { requestTimeout: 0, shouldUpgradeCallback });
  server.on("upgrade", (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on("error", () => {}); // a close follows
    void upgrades?.knock(request, socket, head);
  });
}

/** Removes the listener that Node's own server has for `event`, and returns it, so that we call it. */
function takeListener<T>(server: Server, event: string): (socket: T) => void {
  const [listener] = server.listeners(event);
  if (typeof listener !== "function")
    throw new TypeError(`Cannot open the front door: Node's server has no ${event} listener`);
  server.removeAllListeners(event);
  return (socket) => listener.call(server, socket);
}

function refuse(socket: TLSSocket, error: unknown): void {
  if (error instanceof HeadError && error.kind === "too-large") {
    respond(socket, 431, "Request Header Fields Too Large", error.message);
  } else {
    respond(socket, 400, "Bad Request", messageOf(error));
  }
}

/** Answers in plain HTTP/1.1 and closes. */
function respond(socket: Socket, status: number, reason: string, text: string): void {
  const body = `${text}\n`;
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    () => socket.destroy(),
  );
}

function listen(
  server: Server,
  { host, port }: { readonly host: string; readonly port: number },
  flag: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why = error.code === "EADDRINUSE" ? "it is in use by another program" : messageOf(error);
      reject(
        new FarmError(
          "conflict",
          `Cannot listen on ${host || "*"}:${port}: ${why}. Give another address with ${flag}; port 0 takes a free one.`,
          { cause: error },
        ),
      );
    });
    server.listen({ port, ...(host && { host }) }, () => {
      server.removeAllListeners("error");
      resolve();
    });
  });
}

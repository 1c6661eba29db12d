/**
 * A small program with the contract of the original coordinator towards a buildlet: TLS without ALPN, answers with
 * `HTTP/0.0 101` and its empty line in two records, control lines, then HTTP requests over connections that the
 * buildlet opened. A buildlet that sends something too early fails, since the original would lose it.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { type IncomingMessage, type RequestOptions, request } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { epochMs } from "../../farm/ids.ts";
import { certificate } from "../../web/certificate.ts";
import { type ControlLine, ControlLineReader, encodeControlLine } from "../../wire/revdial/control-line.ts";
import { type RequestHead, requestHeadReader } from "../../wire/revdial/http-head.ts";

export const DIALER = "79f91571b1c3c1b03429bbb5d727dd68";

export interface Seen {
  /** The head as it came. */
  readonly raw: string;
  readonly head: RequestHead;
  readonly socket: TLSSocket;
  readonly serverName: string | false | null;
  readonly alpn: string | false | null;
}

/** Answers a request head. A text is sent as it is, and reading goes on; undefined: as the original answers. */
export type Answer = (seen: Seen, count: number) => string | undefined;

export interface Reply {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
  readonly trailers: NodeJS.Dict<string>;
}

export class OriginalCoordinator implements AsyncDisposable {
  readonly port: number;
  readonly caFile: string;
  /** Heads of all requests that machines began connections with. */
  readonly seen: Seen[] = [];
  /** Lines that came on control connections. */
  readonly lines: ControlLine[] = [];
  answer: Answer = () => undefined;
  /** Header lines of the 101 to /reverse; our own coordinator sends some. */
  headers = "";
  control: TLSSocket | undefined;
  readonly #server: Server;
  readonly #folder: string;
  readonly #sockets = new Set<TLSSocket>();
  readonly #picked: TLSSocket[] = [];
  #changed = () => {};

  private constructor(server: Server, folder: string, caFile: string) {
    this.#server = server;
    this.#folder = folder;
    this.caFile = caFile;
    this.port = (server.address() as AddressInfo).port;
    server.on("secureConnection", (socket) => this.#connection(socket));
    server.on("tlsClientError", () => {});
  }

  /** Listens on any free port unless one is given. */
  static async start(port = 0): Promise<OriginalCoordinator> {
    const folder = await mkdtemp(join(tmpdir(), "original-coordinator-"));
    const { cert, key, caFile } = await certificate({ folder, names: ["farm.test"], now: epochMs(Date.now()) });
    const server = createServer({ cert, key });
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    return new OriginalCoordinator(server, folder, caFile);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#folder, { recursive: true });
  }

  /** Resolves with what `found` gives. It is asked whenever something happened. */
  async until<T>(found: () => T | undefined | false): Promise<T> {
    const limit = Date.now() + 10_000;
    for (;;) {
      const value = found();
      if (value) return value;
      if (Date.now() > limit) throw new Error("Did not happen within 10 s");
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 50);
        this.#changed = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  registered(): Promise<TLSSocket> {
    return this.until(() => this.control);
  }

  send(line: ControlLine): void {
    this.control?.write(encodeControlLine(line));
  }

  /** Asks for a connection and takes it; the head of the 101 is flushed on its own. */
  async dial(path: string = `/revdial?revdial.dialer=${DIALER}`): Promise<TLSSocket> {
    await this.registered();
    this.send({ command: "conn-ready", connPath: path });
    this.send({ command: "keep-alive" });
    return await this.until(() => this.#picked.shift());
  }

  /** Sends one request over a connection of its own, and resolves at the response's head. */
  async open(options: RequestOptions, body?: Buffer | string | Readable): Promise<IncomingMessage> {
    const socket = await this.dial();
    return await new Promise((resolve, reject) => {
      const asked = request({ ...options, createConnection: () => socket, setHost: false });
      asked.setHeader("Host", "test-machine");
      asked.setHeader("User-Agent", "Go-http-client/1.1");
      asked.once("response", resolve);
      asked.once("error", reject);
      if (body instanceof Readable) body.pipe(asked);
      else asked.end(body);
    });
  }

  async fetch(options: RequestOptions, body?: Buffer | string | Readable): Promise<Reply> {
    return await replyOf(await this.open(options, body));
  }

  #connection(socket: TLSSocket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#sockets.delete(socket);
      this.#changed();
    });
    let reader = requestHeadReader();
    let raw = "";
    let count = 0;
    const data = (chunk: Buffer) => {
      raw += chunk.toString("utf8");
      const read = reader.push(chunk);
      if (!read) return;
      if (read.rest.length > 0) throw new Error("The buildlet sent more than its request before it was answered");
      const seen = { raw, head: read.head, socket, serverName: socket.servername, alpn: socket.alpnProtocol };
      this.seen.push(seen);
      const answer = this.answer(seen, count++);
      if (answer === undefined) {
        socket.off("data", data);
        this.#accept(socket, read.head.target.startsWith("/revdial"));
      } else {
        reader = requestHeadReader();
        raw = "";
        socket.write(answer);
      }
      this.#changed();
    };
    socket.on("data", data);
  }

  #accept(socket: TLSSocket, pickUp: boolean): void {
    socket.write("HTTP/0.0 101 Switching Protocols\r\n");
    socket.write(`${pickUp ? "" : this.headers}\r\n`, () => {
      if (pickUp) this.#picked.push(socket);
      else {
        this.control = socket;
        const reader = new ControlLineReader();
        socket.on("data", (chunk) => {
          this.lines.push(...reader.push(chunk));
          this.#changed();
        });
        socket.once("close", () => {
          if (this.control === socket) this.control = undefined;
        });
      }
      this.#changed();
    });
  }
}

export async function replyOf(response: IncomingMessage): Promise<Reply> {
  const body = await buffer(response);
  return { status: response.statusCode ?? 0, headers: response.headers, body, trailers: response.trailers };
}

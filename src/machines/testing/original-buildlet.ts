/**
 * A small program with the contract of the original buildlet, for tests: what it sends, what it loses, when it ends.
 *
 * It speaks raw TLS without ALPN, leaves the port in the server name, and sends an empty Host. It loses all that
 * arrives in the same read as a 101 head. It serves HTTP on the connections that it opens when asked. It ends with code
 * 0 when the control connection closes, and with 1 when it is refused. `behave` is read all the time, so a test can let
 * it go wrong whenever it likes. With `agent` it poses as our own.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { buffer } from "node:stream/consumers";
import { connect, type TLSSocket } from "node:tls";
import { gzipSync } from "node:zlib";
import { LEASE_HEADER } from "../../wire/buildlet-api/buildlet-api.ts";
import { decodeExecForm, type ExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { type ControlLine, ControlLineReader, encodeControlLine } from "../../wire/revdial/control-line.ts";
import {
  encodeRequestHead,
  fieldValues,
  type HeaderField,
  type ResponseHead,
  responseHeadReader,
} from "../../wire/revdial/http-head.ts";
import {
  type AgentInfo,
  encodeAgentInfo,
  REGISTRATION_HEADERS as H,
  PONG_HEADER,
} from "../../wire/revdial/registration.ts";

/** What /tgz packs; each gzip member holds MEMBER bytes of it. */
const MEMBER = 1024 * 1024;
export const TREE: Buffer = Buffer.alloc(MEMBER + 1000, "what a tar of a tree would be\n");

export interface ExecIo {
  /** Writes output. Resolves when the connection takes more. */
  write(output: string | Buffer): Promise<void>;
  /** Aborts when the coordinator drops the call. */
  readonly signal: AbortSignal;
}

export interface Behaviour {
  /** Whether HTTP requests get no answer. */
  silent?: boolean;
  /** How it treats `conn-ready`: dials, reports a failure with or without its path, or does nothing. */
  pickUp?: "dial" | "fail" | "fail-without-path" | "ignore";
  /** How the next exec fails: it hangs up in the middle of the output, or ends it without the trailer. */
  exec?: "drop" | "no-trailer";
  /** How uploads fail: the connection is cut, or they are refused, after this many bytes. */
  upload?: { readonly after: number; readonly how: "drop" | "refuse" };
  /** Called between the two halves of what /tgz sends. It may wait, or throw to cut the connection. */
  tgz?: () => Promise<void>;
  /** The answer to every listing. */
  ls?: string;
  /** A folder that does not exist. */
  missing?: string;
  /** Whether keep-alives are not answered, though our own agent should. */
  mute?: boolean;
}

export interface OriginalBuildletOptions {
  readonly port: number;
  readonly hostType: string;
  readonly name: string;
  readonly key: string;
  /** The version at registration and in /status. */
  readonly version?: number;
  /** Runs a command and returns its Process-State. By default prints "ran CMD" and returns "ok". */
  readonly exec?: (request: ExecForm, io: ExecIo) => string | Promise<string>;
  /** Its ssh server, on the connection of a POST /connect-ssh. */
  readonly ssh?: (socket: TLSSocket, user: string, key: string) => void;
  /** What it says about itself to pose as our own agent. */
  readonly agent?: AgentInfo;
  /** Changes the header fields of the registration. */
  readonly fields?: (fields: HeaderField[]) => HeaderField[];
  /** How reads of the control connection are cut. */
  readonly reads?: "plain" | "split" | "coalesced";
  readonly behave?: Behaviour;
  /** The port to which a load balancer sends the connections that it opens, if not `port`. */
  readonly pickUpPort?: () => number;
}

export class Refused extends Error {
  readonly head: ResponseHead;
  readonly body: string;

  constructor(head: ResponseHead, body: string) {
    super(`Refused: ${head.status} ${body}`);
    this.head = head;
    this.body = body;
  }
}

/** Registers; rejects with Refused when the answer is not 101. */
export async function startOriginalBuildlet(options: OriginalBuildletOptions): Promise<OriginalBuildlet> {
  const buildlet = new OriginalBuildlet(options);
  await buildlet.register();
  return buildlet;
}

export class OriginalBuildlet implements AsyncDisposable {
  readonly options: OriginalBuildletOptions;
  readonly behave: Behaviour;
  /** The 101 of the registration. */
  head: ResponseHead | undefined;
  /** The bytes that came in the same read as the head of the 101, and are lost. */
  lost = "";
  /** Requests of the coordinator: `POST /removeall path=.`; also "end" when the control connection ended. */
  readonly calls: string[] = [];
  /** The lease header of each request that emptied the work dir, to our agent. */
  readonly leases: (string | undefined)[] = [];
  /** Control lines with the time at which they came. */
  readonly lines: (ControlLine & { readonly at: number })[] = [];
  /** The number of keep-alives whose answer is on its way. */
  answered = 0;
  /** The number of connections that were opened for the coordinator. */
  pickedUp = 0;
  /** The sizes of uploads that were read whole. */
  uploads: number[] = [];
  /** The SHA-256 digests of these uploads. */
  digests: string[] = [];
  /** The exit code: 0 after the control connection ended. */
  readonly ended: Promise<number>;
  readonly #end: (code: number) => void;
  readonly #server: Server;
  readonly #sockets = new Set<TLSSocket>();
  #control: TLSSocket | undefined;

  constructor(options: OriginalBuildletOptions) {
    this.options = options;
    this.behave = options.behave ?? {};
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.#end = resolve;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    this.#server.keepAliveTimeout = 0;
    this.#server.on("upgrade", (request: IncomingMessage, socket: TLSSocket) => this.#connectSsh(request, socket));
  }

  async register(): Promise<void> {
    const { hostType, name, key, version = 29, agent, fields = (same) => same, reads = "plain" } = this.options;
    const socket = await this.#dial();
    this.#control = socket;
    const own: HeaderField[] = agent ? [[H.agent, encodeAgentInfo(agent)]] : [];
    socket.write(
      encodeRequestHead(
        "GET",
        "/reverse",
        fields([
          ["Host", ""],
          ["User-Agent", "Go-http-client/1.1"],
          [H.hostname, name],
          [H.key, key],
          [H.version, String(version)],
          [H.hostType, hostType],
          [H.revdialVersion, "2"],
          ...own,
        ]),
      ),
    );
    this.head = await readHead(socket, (rest) => {
      this.lost += rest.toString();
    });
    const pongs = fieldValues(this.head, PONG_HEADER).includes("1");
    const reader = new ControlLineReader();
    let held: Buffer[] = [];
    const feed = (chunk: Buffer) => {
      for (const line of reader.push(chunk)) this.#take(line, pongs);
    };
    socket.on("data", (chunk: Buffer) => {
      if (reads === "plain") feed(chunk);
      else if (reads === "split") for (const byte of chunk) feed(Buffer.from([byte]));
      else {
        held.push(chunk);
        setImmediate(() => {
          const together = Buffer.concat(held);
          held = [];
          feed(together);
        });
      }
    });
    socket.on("close", () => {
      this.calls.push("end");
      this.#server.close();
      for (const each of this.#sockets) each.destroy();
      this.#end(0);
    });
  }

  /** Sends a control line, or anything else. */
  send(line: ControlLine | string): void {
    this.#control?.write(typeof line === "string" ? line : encodeControlLine(line));
  }

  /** The number of open connections, with the control connection. */
  get connections(): number {
    return this.#sockets.size;
  }

  /** Stops reading the control connection. */
  stall(): void {
    this.#control?.pause();
  }

  /** Resets all connections, as if the power failed. */
  async hangUp(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    if (this.#control && !this.#control.destroyed) await this.hangUp();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #dial(port: number = this.options.port): Promise<TLSSocket> {
    const socket = connect({
      port,
      host: "127.0.0.1",
      servername: `localhost:${port}`,
      rejectUnauthorized: false,
    });
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    socket.on("error", () => {});
    return socket;
  }

  #take(line: ControlLine, pongs: boolean): void {
    this.lines.push({ ...line, at: performance.now() });
    if (line.command === "keep-alive" && pongs && !this.behave.mute) {
      this.#control?.write(encodeControlLine({ command: "pong" }), () => this.answered++);
    }
    if (line.command !== "conn-ready" || line.connPath === undefined) return;
    const { connPath } = line;
    const { pickUp = "dial" } = this.behave;
    if (pickUp === "fail") this.send({ command: "pickup-failed", connPath, err: "no route" });
    if (pickUp === "fail-without-path") this.send({ command: "pickup-failed", err: "400 no" });
    if (pickUp === "dial") void this.pickUp(connPath);
  }

  /** Fetches `path` and serves HTTP on the connection. Sends `pickup-failed` when refused. Resolves with the status. */
  async pickUp(path: string): Promise<number> {
    let socket: TLSSocket;
    try {
      socket = await this.#dial(this.options.pickUpPort?.());
    } catch (error) {
      this.send({ command: "pickup-failed", connPath: path, err: String(error) });
      return 0;
    }
    socket.write(
      encodeRequestHead("GET", path, [
        ["Host", ""],
        ["User-Agent", "Go-http-client/1.1"],
      ]),
    );
    try {
      await readHead(socket, (rest) => {
        this.lost += rest.toString();
      });
    } catch (error) {
      socket.destroy();
      this.send({ command: "pickup-failed", err: error instanceof Error ? error.message : String(error) });
      return error instanceof Refused ? error.head.status : 0;
    }
    this.pickedUp++;
    this.#server.emit("connection", socket);
    return 101;
  }

  /** The original needs neither header about upgrading, and sends its server's first line right behind the 101. */
  #connectSsh({ method, url, headers }: IncomingMessage, socket: TLSSocket): void {
    const refuse = (status: string, text: string): void => {
      const fields = `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${text.length + 1}`;
      socket.write(`HTTP/1.1 ${status}\r\n${fields}\r\n\r\n${text}\n`); // and nobody hangs up
    };
    if (url !== "/connect-ssh") return void refuse("404 Not Found", "404 page not found");
    if (method !== "POST") return void refuse("400 Bad Request", "requires POST method");
    if (headers["content-length"] !== "0") return void refuse("400 Bad Request", "requires Content-Length 0");
    const [user, key] = [headers["x-go-ssh-user"], headers["x-go-authorized-key"]].map(String) as [string, string];
    this.calls.push(`POST /connect-ssh ${user}`);
    if (!this.options.ssh)
      return void refuse("502 Bad Gateway", "dial tcp 127.0.0.1:2222: connect: connection refused");
    socket.cork();
    socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: ssh\r\nConnection: Upgrade\r\n\r\n");
    this.options.ssh(socket, user, key);
    setImmediate(() => socket.uncork());
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "/", "http://buildlet");
    const note = `${request.method} ${pathname}`;
    if (this.behave.silent) {
      this.calls.push(note);
      return;
    }
    try {
      switch (pathname) {
        case "/status":
          this.calls.push(note);
          response.setHeader("Content-Type", "application/json; charset=utf-8");
          response.end(JSON.stringify({ Version: this.options.version ?? 29 }));
          return;
        case "/workdir":
          this.calls.push(note);
          response.end("/tmp/workdir");
          return;
        case "/writetgz":
        case "/write":
          await this.#upload(request, response, `${note} ${searchParams}`);
          return;
        case "/tgz":
          this.calls.push(`${note} ${searchParams}`);
          if (searchParams.get("dir") === this.behave.missing)
            throw new Error("It cuts the connection, and says nothing");
          response.write(gzipSync(TREE.subarray(0, MEMBER)));
          await this.behave.tgz?.();
          response.end(gzipSync(TREE.subarray(MEMBER)));
          return;
        case "/ls":
          this.calls.push(`${note} ${searchParams}`);
          if (searchParams.get("dir") === this.behave.missing) {
            response.writeHead(500).end(`lstat /tmp/workdir/${this.behave.missing}: no such file or directory\n`);
            return;
          }
          response.end(this.behave.ls ?? "drwxr-xr-x\td/\n-rw-r--r--\td/x\t3\t2026-11-23T17:00:05Z\n");
          return;
        case "/exec-end":
        case "/removeall":
          this.calls.push(`${note} ${decodeURIComponent((await buffer(request)).toString())}`);
          if (this.calls.at(-1) === "POST /removeall path=.")
            this.leases.push(request.headers[LEASE_HEADER.toLowerCase()]?.toString());
          response.end();
          return;
        case "/exec":
          await this.#exec(request, response, note);
          return;
        case "/halt":
          this.calls.push(note);
          response.end();
          return;
        default:
          response.writeHead(404).end();
      }
    } catch (error) {
      response.destroy(error instanceof Error ? error : undefined);
    }
  }

  async #upload(request: IncomingMessage, response: ServerResponse, note: string): Promise<void> {
    if (request.method === "POST") {
      this.calls.push(`${note} ${decodeURIComponent((await buffer(request)).toString())}`);
      response.end("OK");
      return;
    }
    this.calls.push(note);
    let length = 0;
    const hash = createHash("sha256");
    for await (const chunk of request as AsyncIterable<Buffer>) {
      length += chunk.length;
      hash.update(chunk);
      const { upload } = this.behave;
      if (!upload || length < upload.after) continue;
      if (upload.how === "refuse") response.writeHead(400).end("bad archive\n");
      else request.socket.destroy();
      return;
    }
    this.uploads.push(length);
    this.digests.push(hash.digest("hex"));
    response.end("OK");
  }

  async #exec(request: IncomingMessage, response: ServerResponse, note: string): Promise<void> {
    const form = decodeExecForm(new URLSearchParams((await buffer(request)).toString()));
    this.calls.push(`${note} ${[form.cmd, ...form.args].join(" ")}`);
    const misbehave = this.behave.exec;
    const gone = new AbortController();
    response.on("close", () => gone.abort());
    response.on("error", () => {});
    response.writeHead(200, misbehave === "no-trailer" ? {} : { Trailer: "Process-State" });
    response.flushHeaders();
    const write = (output: string | Buffer) =>
      new Promise<void>((resolve) => {
        if (response.write(output) || response.destroyed) {
          resolve();
          return;
        }
        const go = () => {
          response.off("drain", go).off("close", go);
          resolve();
        };
        response.on("drain", go).on("close", go);
      });
    if (misbehave === "drop") {
      await write("the beginning");
      setImmediate(() => request.socket.destroy());
      return;
    }
    const run = this.options.exec ?? ((form, io) => io.write(`ran ${form.cmd}\n`).then(() => "ok"));
    const state = await run(form, { write, signal: gone.signal });
    if (misbehave !== "no-trailer") response.addTrailers({ "Process-State": state });
    response.end();
  }
}

/** Reads a response head; throws it unless it is a 101. Bytes of the same read as the 101 go to `lose`. */
function readHead(socket: TLSSocket, lose: (rest: Buffer) => void): Promise<ResponseHead> {
  const reader = responseHeadReader();
  return new Promise((resolve, reject) => {
    const onClose = () => reject(new Error("closed before it answered"));
    const onData = (chunk: Buffer) => {
      const read = reader.push(chunk);
      if (!read) return;
      socket.off("data", onData).off("close", onClose);
      if (read.head.status === 101) {
        socket.pause();
        if (read.rest.length > 0) lose(Buffer.from(read.rest));
        resolve(read.head);
        // The next owner of the socket listens within this turn.
        setImmediate(() => socket.resume());
        return;
      }
      const body: Uint8Array[] = [read.rest];
      socket.on("data", (more: Uint8Array) => body.push(more));
      socket.once("close", () => reject(new Refused(read.head, Buffer.concat(body).toString())));
    };
    socket.on("data", onData).on("close", onClose);
  });
}

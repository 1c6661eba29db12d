/**
 * The one connection to the coordinator that a command has, made at its first call and used by all of them.
 *
 * Everything has a limit: dialling (../dial/dial.ts), each call (farm-client.ts), and the connection itself. It is
 * asked every PING_EVERY_MS whether it lives; so a call that is silent for hours is known to be still served. After a
 * connection broke, the next call dials again. Every failure is reported at once (trouble.ts); nothing hangs.
 */
import type { ClientHttp2Stream, OutgoingHttpHeaders } from "node:http2";
import { isIP } from "node:net";
import type { TLSSocket } from "node:tls";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { dialTcp, startTls } from "../dial/dial.ts";
import type { Environment } from "../dial/proxy.ts";
import type { Server } from "./server.ts";
import { dialTrouble } from "./trouble.ts";

const PING_EVERY_MS = 15_000;
const PING_LIMIT_MS = 15_000;

export class Connection implements AsyncDisposable {
  readonly server: Server;
  readonly transport: Transport;
  /** Ends every call, and dialling. */
  readonly signal: AbortSignal;
  readonly #env: Environment;
  readonly #closing = new AbortController();
  #session: Promise<Http2SessionManager> | undefined;
  #open: Http2SessionManager | undefined;

  /** `token` gives the token of the user. It is called at the first call that needs one. */
  constructor(server: Server, env: Environment, token: () => Promise<string | undefined>, signal: AbortSignal) {
    this.server = server;
    this.#env = env;
    this.signal = signal;
    const authorize: Interceptor = (next) => async (request) => {
      const known = await token();
      if (known !== undefined) request.header.set("Authorization", `Bearer ${known}`);
      return await next(request);
    };
    this.transport = createGrpcTransport({
      baseUrl: `https://${server.name}`,
      interceptors: [authorize],
      // Most lines carry the bytes sooner than both sides could pack and unpack them.
      acceptCompression: [],
      sessionManager: {
        authority: `https://${server.name}`,
        request: (method, path, headers, options) => this.#request(method, path, headers, options),
        notifyResponseByteRead: (stream) => this.#open?.notifyResponseByteRead(stream),
      },
    });
  }

  async #request(
    method: string,
    path: string,
    headers: OutgoingHttpHeaders,
    options: Parameters<Http2SessionManager["request"]>[3],
  ): Promise<ClientHttp2Stream> {
    const state = this.#open?.state();
    // The server said that it goes away, or the connection broke.
    if (state === "closed" || state === "error") this.#forget();
    this.#session ??= this.#dial();
    const session = await this.#session.catch((error) => {
      this.#forget();
      throw error;
    });
    return await session.request(method, path, headers, options);
  }

  #forget(): void {
    this.#session = undefined;
    this.#open = undefined;
  }

  async #dial(): Promise<Http2SessionManager> {
    const socket = await this.#dialTls();
    let unused: TLSSocket | undefined = socket;
    const session = new Http2SessionManager(
      `https://${this.server.name}`,
      { pingIntervalMs: PING_EVERY_MS, pingTimeoutMs: PING_LIMIT_MS },
      {
        createConnection: () => {
          const given = unused;
          unused = undefined;
          if (given === undefined) throw new Error("the connection was closed");
          return given;
        },
      },
    );
    if ((await session.connect()) === "error") throw dialTrouble(session.error(), this.server.name, false);
    this.#open = session;
    return session;
  }

  async #dialTls(): Promise<TLSSocket> {
    const { address, name, ca } = this.server;
    const { host } = address;
    const stop = AbortSignal.any([this.signal, this.#closing.signal]);
    let socket: TLSSocket;
    try {
      const tcp = await dialTcp(address, this.#env, stop);
      const named = isIP(host) === 0 ? { servername: host } : {};
      const trust = ca === undefined ? {} : { ca };
      socket = await startTls(tcp, { host, ...named, ...trust, ALPNProtocols: ["h2"] }, stop);
    } catch (error) {
      throw dialTrouble(error, name, ca !== undefined);
    }
    if (socket.alpnProtocol === "h2") return socket;
    socket.destroy();
    throw dialTrouble(
      new Error("it does not agree on HTTP/2 (ALPN h2); -server wants the coordinator's TLS port"),
      name,
      false,
    );
  }

  /** Closes the connection. Calls that run end: for the farm their caller has left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new Error("the command has ended"));
    const session = await this.#session?.catch(() => undefined);
    session?.abort();
  }
}

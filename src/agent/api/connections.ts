/**
 * The connections that a buildlet serves. A listener accepts them, or they are picked up from the coordinator.
 * The head of a connection's first request says who serves it:
 *
 *   fresh -GET /status or /healthz-> answered here -> fresh      the HTTP server is not even loaded
 *   fresh -POST /connect-ssh-> tunnel                            needs the socket itself, which a server keeps
 *   fresh -POST /shell-> a shell (shell/shells.ts)               needs the socket, too
 *   fresh -anything else-> the HTTP server, until it ends
 *
 * The head may come in any number of pieces. The HTTP server refuses anything that is not a head.
 */
import type { Socket } from "node:net";
import { SHELL_PATH } from "../../wire/buildlet-api/shell.ts";
import { HeadError, type ReadHead, type RequestHead, requestHeadReader } from "../../wire/revdial/http-head.ts";
import { IdleMemory } from "../idle-memory.ts";
import type { Shells } from "../shell/shells.ts";
import type { ApiDeps } from "./api-deps.ts";
import type { BuildletServer } from "./buildlet-server.ts";
import { quickAnswer } from "./quick-answer.ts";

export class Connections implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #idle: IdleMemory;
  readonly #sockets = new Set<Socket>();
  #server: Promise<BuildletServer> | undefined;
  #shells: Promise<Shells> | undefined;
  /** Whether a shell was asked for since the last lease ended. */
  #shellsRan = false;

  constructor(deps: ApiDeps) {
    this.#deps = deps;
    this.#idle = new IdleMemory(deps.clock);
    this.#idle.begin()();
  }

  /** Serves `socket` from its next byte on. */
  accept(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {}); // the close that follows says enough
    socket.once("close", () => this.#sockets.delete(socket));
    this.#look(socket);
  }

  /** Closes all connections. Only commands that a client may take up again go on. */
  async endSession(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    if (this.#shells) await (await this.#shells).clear().catch(() => {}); // the next lease begins with it
    if (this.#server) await (await this.#server).endSession();
  }

  /** Kills all commands and closes all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#idle[Symbol.dispose]();
    if (this.#shells) await (await this.#shells)[Symbol.asyncDispose]();
    if (this.#shellsRan) await (await this.#serverLoaded()).expectLeftovers();
    if (this.#server) await (await this.#server)[Symbol.asyncDispose]();
    for (const socket of this.#sockets) socket.destroy();
  }

  #look(socket: Socket, reader = requestHeadReader()): void {
    socket.once("readable", () => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return void socket.destroy();
      let read: ReadHead<RequestHead> | undefined;
      try {
        read = reader.push(chunk);
        if (!read) return this.#look(socket, reader);
      } catch (error) {
        if (!(error instanceof HeadError)) throw error;
      }
      const { bytes } = reader;
      const answer = this.#deps.password === "" ? quickAnswer(bytes) : undefined;
      if (answer !== undefined) {
        if (answer.last) return void socket.end(answer.text);
        socket.write(answer.text);
        this.#look(socket);
        return;
      }
      void this.#handOver(socket, bytes, read);
    });
  }

  async #handOver(socket: Socket, bytes: Uint8Array, read: ReadHead<RequestHead> | undefined): Promise<void> {
    const path = read?.head.target.split("?", 1)[0];
    if (read?.head.method === "POST" && path === "/connect-ssh") {
      const { connectSsh } = await import("./connect-ssh.ts");
      return await connectSsh(socket, read, this.#deps);
    }
    if (read?.head.method === "POST" && path === SHELL_PATH) {
      socket.once("close", this.#idle.begin());
      this.#shellsRan = true;
      this.#shells ??= import("../shell/shells.ts").then(({ Shells }) => new Shells(this.#deps));
      return (await this.#shells).accept(socket, read);
    }
    const server = await this.#serverLoaded();
    socket.unshift(bytes);
    server.serve(socket);
  }

  #serverLoaded(): Promise<BuildletServer> {
    this.#server ??= import("./buildlet-server.ts").then(
      ({ BuildletServer }) => new BuildletServer(this.#deps, this.#idle, () => this.#endShells()),
    );
    return this.#server;
  }

  /** Ends the shells of a lease that is over, and says whether there were any. */
  async #endShells(): Promise<boolean> {
    if (!this.#shellsRan || !this.#shells) return false;
    this.#shellsRan = false;
    try {
      await (await this.#shells).clear();
      return true;
    } catch (error) {
      this.#shellsRan = true;
      throw error;
    }
  }
}

/**
 * The connections that a buildlet serves, accepted by a listener or picked up from the coordinator, and who serves each:
 *
 *   fresh -GET /status or /healthz-> answered here -> fresh      the HTTP server need not even be loaded
 *   fresh -POST /connect-ssh-> tunnel                            it needs the socket itself, which a server does not give back
 *   fresh -POST /shell-> a shell (shell/shells.ts)               likewise
 *   fresh -anything else-> the HTTP server, until it ends
 *
 * Which of them it is can be told once the head of a request is there; it may come in any number of pieces. What is no head
 * that we can read is the HTTP server's to refuse.
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
  /** Since the last lease's end a shell was asked for. */
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

  /** Closes all connections; of commands, only those that may be taken up again go on. */
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

  /** The lease is over: says whether there were any. */
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

/**
 * The connections that a buildlet serves, accepted by a listener or picked up from the coordinator, and who serves each:
 *
 *   fresh -GET /status or /healthz-> answered here -> fresh      the HTTP server need not even be loaded
 *   fresh -POST /connect-ssh-> tunnel                            it needs the socket itself, which a server does not give back
 *   fresh -anything else-> the HTTP server, until it ends
 */
import type { Socket } from "node:net";
import { IdleMemory } from "../idle-memory.ts";
import type { ApiDeps } from "./api-deps.ts";
import type { BuildletServer } from "./buildlet-server.ts";
import { quickAnswer } from "./quick-answer.ts";

export class Connections implements AsyncDisposable {
  readonly #deps: ApiDeps;
  readonly #idle: IdleMemory;
  readonly #sockets = new Set<Socket>();
  #server: Promise<BuildletServer> | undefined;

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

  /** Kills all commands and closes all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#idle[Symbol.dispose]();
    if (this.#server) await (await this.#server)[Symbol.asyncDispose]();
    for (const socket of this.#sockets) socket.destroy();
  }

  #look(socket: Socket): void {
    socket.once("readable", () => {
      const first: Buffer | null = socket.read();
      if (first === null) return void socket.destroy();
      const answer = this.#deps.password === "" ? quickAnswer(first) : undefined;
      if (answer !== undefined) {
        if (answer.last) return void socket.end(answer.text);
        socket.write(answer.text);
        this.#look(socket);
        return;
      }
      void this.#handOver(socket, first);
    });
  }

  async #handOver(socket: Socket, first: Buffer): Promise<void> {
    if (first.toString("latin1", 0, 18).startsWith("POST /connect-ssh")) {
      const { connectSsh } = await import("./connect-ssh.ts");
      return await connectSsh(socket, first, this.#deps);
    }
    this.#server ??= import("./buildlet-server.ts").then(
      ({ BuildletServer }) => new BuildletServer(this.#deps, this.#idle),
    );
    const server = await this.#server;
    socket.unshift(first);
    server.serve(socket);
  }
}

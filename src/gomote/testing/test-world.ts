/**
 * The rest of the world, for tests: names with public addresses, and one server on loopback that stands for everything
 * there.
 */
import { createServer, type RequestListener, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { World } from "../transfers/guarded-fetch.ts";

/** The address of every name for which a test sets no other. */
export const PUBLIC_ADDRESS = "93.184.216.34";

export class TestWorld implements World, AsyncDisposable {
  /** `HOST/PATH` -> what answers there. */
  readonly pages = new Map<string, RequestListener>();
  /** Name -> its addresses, asked again each time. */
  readonly names = new Map<string, () => readonly string[]>();
  readonly mine: string[] = [];
  /** `ADDRESS PORT` of each connection. */
  readonly connections: string[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      const page = this.pages.get(`${request.headers.host}${request.url}`);
      if (page) page(request, response);
      else response.writeHead(404).end("nothing here\n");
    });
  }

  static async start(): Promise<TestWorld> {
    const world = new TestWorld();
    await new Promise<void>((resolve) => world.#server.listen(0, "127.0.0.1", resolve));
    return world;
  }

  /** Puts bytes at `HOST/PATH`. */
  put(at: string, bytes: string | Buffer): void {
    this.pages.set(at, (_, response) => response.end(bytes));
  }

  redirect(at: string, location: string): void {
    this.pages.set(at, (_, response) => response.writeHead(302, { location }).end());
  }

  async resolve(name: string): Promise<readonly string[]> {
    return this.names.get(name)?.() ?? [PUBLIC_ADDRESS];
  }

  connect(port: number, address: string): Socket {
    this.connections.push(`${address} ${port}`);
    return connect((this.#server.address() as AddressInfo).port, "127.0.0.1");
  }

  async own(): Promise<readonly string[]> {
    return this.mine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

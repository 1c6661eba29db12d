/** A TCP balancer as it stands before a farm: each connection goes to a random one of those that take it; it knows nothing of TLS. */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class Balancer implements AsyncDisposable {
  /** Ports of this computer that connections may go to. */
  targets: readonly number[] = [];
  readonly #server: Server;
  readonly #random: () => number;
  readonly #accepted = new Set<Socket>();
  readonly #pairs = new Set<readonly [Socket, Socket]>();

  private constructor(random: () => number) {
    this.#random = random;
    this.#server = createServer({ pauseOnConnect: true }, (socket) => {
      this.#accepted.add(socket);
      socket.on("error", () => {}).once("close", () => this.#accepted.delete(socket));
      this.#onward(socket, this.#order());
    });
  }

  static async open(random: () => number = Math.random): Promise<Balancer> {
    const balancer = new Balancer(random);
    await new Promise<void>((resolve) => balancer.#server.listen(0, "127.0.0.1", resolve));
    return balancer;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get size(): number {
    return this.#pairs.size;
  }

  /** Cuts about this part of all connections, as a network does: both ends find theirs reset. */
  cut(part: number): number {
    const chosen = [...this.#pairs].filter(() => this.#random() < part);
    for (const pair of chosen) for (const socket of pair) socket.resetAndDestroy();
    return chosen.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#accepted) socket.destroy();
    await closed;
  }

  #order(): number[] {
    const first = Math.floor(this.#random() * this.targets.length);
    return [...this.targets.slice(first), ...this.targets.slice(0, first)];
  }

  #onward(socket: Socket, [port, ...others]: readonly number[]): void {
    if (port === undefined) {
      socket.resetAndDestroy();
      return;
    }
    const onward = connect(port, "127.0.0.1");
    const pair = [socket, onward] as const;
    onward.once("error", () => {
      this.#onward(socket, others);
    });
    onward.once("connect", () => {
      onward.removeAllListeners("error");
      onward.on("error", () => {});
      this.#pairs.add(pair);
      for (const [from, to] of [pair, [onward, socket] as const]) {
        from.setNoDelay(true);
        from.pipe(to);
        from.once("close", () => {
          this.#pairs.delete(pair);
          if (!from.readableEnded) to.resetAndDestroy();
        });
      }
    });
  }
}

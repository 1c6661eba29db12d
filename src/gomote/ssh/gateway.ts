/**
 * The ssh gateway: `-listen-ssh`, where the stock `ssh`, `scp`, `sftp` and `rsync` reach people's instances.
 *
 *   knocking -a certificate that gate.ts takes-> in -its instance ends, or it hangs up-> gone
 *   knocking -LOGIN_LIMIT, or MOST_TRIES keys-> gone
 *
 * A client that knocks costs memory before the gateway knows it. So at most MOST_KNOCKING knock at a time,
 * MOST_KNOCKING_FROM of them from one address; the gateway hangs up on any more. A person has at most MOST_CONNECTIONS
 * that are in. Every client is asked for a sign of life every 15 s, three times.
 *
 * What goes on over a connection is in client.ts.
 */
import { createServer, type Server as Listener, type Socket } from "node:net";
import ssh2, { type AuthContext, type Connection } from "ssh2";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { type Ms, seconds } from "../../farm/ids.ts";
import { SshClient, type SshClientDeps } from "./client.ts";
import type { Admission, Gate } from "./gate.ts";
import type { SshPair } from "./keys.ts";
import { sendBanner } from "./library.ts";

export const LOGIN_LIMIT: Ms = seconds(30);
/** Keys that a client may show. A client with many keys in its agent shows them one after another. */
const MOST_TRIES = 20;
/** How often a client is told why it is not let in. */
const MOST_WORDS = 3;
const MOST_KNOCKING = 256;
export const MOST_KNOCKING_FROM = 32;
/** Connections of one person, to all their instances. */
const MOST_CONNECTIONS = 64;

export interface GatewayDeps extends SshClientDeps {
  readonly gate: Pick<Gate, "admit">;
  readonly host: SshPair;
  readonly listen: { readonly host: string; readonly port: number };
}

export class SshGateway implements AsyncDisposable {
  readonly #deps: GatewayDeps;
  readonly #server: ssh2.Server;
  readonly #listener: Listener;
  /** Address of a client, by which the library names its connection -> its socket. */
  readonly #sockets = new Map<string, { readonly socket: Socket; readonly known: AbortController }>();
  /** Address -> how many clients knock from there. */
  readonly #knocking = new Map<string, number>();
  /** Person -> how many connections they have. */
  readonly #in = new Map<string, number>();

  private constructor(deps: GatewayDeps) {
    this.#deps = deps;
    this.#server = new ssh2.Server({ hostKeys: [deps.host.privateKey], ident: "barnraiser" });
    this.#server.on("connection", (connection, { ip, port }) => this.#connected(connection, `${ip} ${port}`));
    this.#listener = createServer({ noDelay: true, keepAlive: true }, (socket) => this.#accepted(socket));
  }

  /** Listens. Throws FarmError that names an address on which it cannot. */
  static async open(deps: GatewayDeps): Promise<SshGateway> {
    const gateway = new SshGateway(deps);
    const { host, port } = deps.listen;
    await new Promise<void>((resolve, reject) => {
      gateway.#listener.once("error", (error) => {
        const why = `Cannot listen on ${host || "*"}:${port} for ssh: ${messageOf(error)}. Give another -listen-ssh.`;
        reject(new FarmError("conflict", why, { cause: error }));
      });
      gateway.#listener.listen({ port, ...(host && { host }) }, resolve);
    });
    return gateway;
  }

  get port(): number {
    const address = this.#listener.address();
    return typeof address === "object" && address ? address.port : this.#deps.listen.port;
  }

  /** The gateway's public keys, each as `TYPE BASE64`. */
  get hostKeys(): readonly string[] {
    return [this.#deps.host.publicLine];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    for (const { socket } of this.#sockets.values()) socket.destroy();
    await closed;
  }

  #accepted(socket: Socket): void {
    const from = socket.remoteAddress ?? "";
    const [all, there] = [[...this.#knocking.values()].reduce((a, b) => a + b, 0), this.#knocking.get(from) ?? 0];
    if (all >= MOST_KNOCKING || there >= MOST_KNOCKING_FROM) {
      socket.destroy();
      return;
    }
    const address = `${from} ${socket.remotePort}`;
    const known = new AbortController();
    socket.setMaxListeners(0); // each of its channels may wait for it
    this.#sockets.set(address, { socket, known });
    count(this.#knocking, from, 1);
    known.signal.addEventListener("abort", () => count(this.#knocking, from, -1), { once: true });
    this.#deps.clock.sleep(LOGIN_LIMIT, known.signal).then(
      () => socket.destroy(),
      () => {},
    );
    socket.on("error", () => {}); // a close follows
    socket.once("close", () => {
      this.#sockets.delete(address);
      known.abort();
    });
    this.#server.injectSocket(socket);
  }

  /** The client at `address` has said that it speaks ssh. */
  #connected(connection: Connection, address: string): void {
    const { gate, log } = this.#deps;
    const found = this.#sockets.get(address);
    if (!found) {
      connection.end(); // it has just hung up
      return;
    }
    const { socket, known } = found;
    let admitted: (Admission & { readonly ok: true }) | undefined;
    let tries = 0;
    let words = 0;
    connection.on("error", (error: Error) => log.debug({ error: messageOf(error) }, "An ssh connection broke"));
    connection.on("authentication", (context) => {
      if (++tries > MOST_TRIES) socket.destroy();
      else
        void this.#asked(context, gate).then(
          (admission) => {
            if (admission.ok) {
              admitted = admission;
              context.accept();
              return;
            }
            if (admission.told !== undefined && words++ < MOST_WORDS)
              sendBanner(connection, `# This certificate does not let you in: ${admission.told}.`);
            context.reject(["publickey"]);
          },
          (error: unknown) => {
            log.warn({ error: messageOf(error) }, "Could not look who an ssh client is");
            context.reject(["publickey"]);
          },
        );
    });
    connection.on("ready", () => {
      known.abort();
      if (admitted) this.#enter(connection, socket, admitted);
      else socket.destroy();
    });
  }

  async #asked(context: AuthContext, gate: GatewayDeps["gate"]): Promise<Admission> {
    if (context.method !== "publickey") return { ok: false, told: undefined };
    const { username: user, key, signature, blob } = context;
    const proof = signature && blob ? { signature, over: blob } : undefined;
    return await gate.admit({ user, key: key.data, proof });
  }

  #enter(connection: Connection, socket: Socket, { instance, token }: Admission & { readonly ok: true }): void {
    const { owner } = instance;
    const there = this.#in.get(owner) ?? 0;
    const full = there >= MOST_CONNECTIONS;
    count(this.#in, owner, 1);
    socket.once("close", () => count(this.#in, owner, -1));
    const refusal = full ? `You have ${there} connections already, which is the most. Close some.` : undefined;
    new SshClient(this.#deps, { connection, socket, instance, token, refusal });
  }
}

function count(counts: Map<string, number>, key: string, change: number): void {
  const now = (counts.get(key) ?? 0) + change;
  if (now <= 0) counts.delete(key);
  else counts.set(key, now);
}

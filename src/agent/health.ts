/**
 * In reverse mode: answers GET /healthz in the clear on an address of its own, and nothing else. A second buildlet on
 * the machine finds the address taken, which is only logged. An empty address serves nothing.
 */
import type { Socket } from "node:net";
import { messageOf } from "../farm/errors.ts";
import { HEALTH_BODY } from "./api/quick-answer.ts";
import { listenSmall } from "./small-listener.ts";

/** A client must send its request within this time: nobody may hold connections open. */
const IDLE_MS = 10_000;
const MAX_CONNECTIONS = 16;

export interface Health extends AsyncDisposable {
  /** The port on which it listens; undefined when it does not. */
  readonly port: number | undefined;
}

export async function serveHealth(address: string, log: (line: string) => void): Promise<Health> {
  const none = { port: undefined, [Symbol.asyncDispose]: async () => {} };
  if (address === "") return none;
  const [, bracketed, plain = "", port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(address) ?? [];
  if (port === undefined || Number(port) > 65535) {
    log(`Cannot serve /healthz on ${JSON.stringify(address)}: want HOST:PORT`);
    return none;
  }
  const sockets = new Set<Socket>();
  const accept = (socket: Socket) => {
    if (sockets.size >= MAX_CONNECTIONS) return void socket.destroy();
    sockets.add(socket);
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    socket.once("data", (request) => socket.end(answer(request)));
  };
  try {
    const listener = await listenSmall((bracketed ?? plain) || undefined, Number(port), accept);
    return {
      port: listener.port,
      [Symbol.asyncDispose]: async () => {
        for (const socket of sockets) socket.destroy();
        await listener[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    log(`Cannot serve /healthz on ${address}: ${messageOf(error)}`);
    return none;
  }
}

/** The one answer to a connection. Only the path counts, whatever header lines came with it. */
function answer(request: Uint8Array): string {
  const [line = ""] = Buffer.from(request).toString("latin1").split("\r\n");
  const [status, body] = /^GET \/healthz HTTP\/1\.[01]$/.test(line)
    ? ["200 OK", HEALTH_BODY]
    : ["404 Not Found", "404 page not found\n"];
  const type = "Content-Type: text/plain; charset=utf-8";
  return `HTTP/1.1 ${status}\r\nConnection: close\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

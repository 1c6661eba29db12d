/**
 * In reverse mode: answers GET /healthz in the clear on an address of its own, and nothing else. A second buildlet on the
 * machine finds the address taken, which is only logged. An empty address serves nothing.
 */
import { createServer, type Socket } from "node:net";
import { HEALTH_BODY } from "./api/quick-answer.ts";

/** Whoever asks says so soon; nobody may hold connections open. */
const IDLE_MS = 10_000;

export async function serveHealth(address: string, log: (line: string) => void): Promise<AsyncDisposable> {
  const none = { [Symbol.asyncDispose]: async () => {} };
  if (address === "") return none;
  const [, bracketed, plain = "", port] = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(address) ?? [];
  if (port === undefined || Number(port) > 65535) {
    log(`Cannot serve /healthz on ${JSON.stringify(address)}: want HOST:PORT`);
    return none;
  }
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    socket.on("error", () => {});
    socket.once("close", () => sockets.delete(socket));
    socket.once("data", (request) => socket.end(answer(request)));
  });
  server.maxConnections = 16;
  const failure = await new Promise<Error | undefined>((resolve) => {
    server.once("error", resolve);
    server.listen({ port: Number(port), host: (bracketed ?? plain) || undefined }, () => resolve(undefined));
  });
  if (failure) {
    log(`Cannot serve /healthz on ${address}: ${failure.message}`);
    return none;
  }
  return {
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** One answer to a connection: /healthz, whatever header lines came with it. */
function answer(request: Uint8Array): string {
  const [line = ""] = Buffer.from(request).toString("latin1").split("\r\n");
  const [status, body] = /^GET \/healthz HTTP\/1\.[01]$/.test(line)
    ? ["200 OK", HEALTH_BODY]
    : ["404 Not Found", "404 page not found\n"];
  const type = "Content-Type: text/plain; charset=utf-8";
  return `HTTP/1.1 ${status}\r\nConnection: close\r\n${type}\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
}

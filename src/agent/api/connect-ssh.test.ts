import { mkdtemp, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { setImmediate } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../system-clock.ts";
import { Connections } from "./connections.ts";

let stack: AsyncDisposableStack;
let port = 0;
/** What stands in for sshd: greets, then gives everything back in capitals. */
let sshd: Server;
let tunnels = 0;

async function listen(stack: AsyncDisposableStack, take: (socket: Socket) => void): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    take(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "localhost", resolve));
  stack.defer(async () => {
    for (const socket of sockets) socket.destroy();
    if (server.listening) await new Promise((resolve) => server.close(resolve));
  });
  return server;
}

const portOf = (server: Server) => (server.address() as AddressInfo).port;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  tunnels = 0;
  const workDir = await mkdtemp(join(tmpdir(), "connect-ssh-"));
  stack.defer(() => rm(workDir, { recursive: true }));
  sshd = await listen(stack, (socket) => {
    tunnels++;
    socket.write("SSH-2.0-test\r\n");
    socket.on("data", (chunk) => socket.write(chunk.toString().toUpperCase()));
    socket.once("end", () => socket.end("bye"));
  });
  const connections = stack.use(
    new Connections({
      workDir,
      clock: { ...systemClock, sleep: () => Promise.resolve() },
      platform: process.platform,
      system: "test-test",
      sshPort: portOf(sshd),
      password: "",
      agentFile: undefined,
      cacheFolder: workDir,
      log: () => {},
      halt: () => {},
      disableOutboundNetwork: () => Promise.resolve(),
    }),
  );
  port = portOf(await listen(stack, (socket) => connections.accept(socket)));
});
afterEach(() => stack.disposeAsync());

const HEAD = "POST /connect-ssh HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n";

/** Sends `pieces`, each in a read of its own at the other end, and gives all that comes back. */
async function say(pieces: readonly string[], end = false): Promise<string> {
  const socket = connect({ port, host: "localhost", noDelay: true });
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    for (let turn = 0; turn < 20; turn++) await setImmediate();
  }
  if (end) socket.end();
  return (await buffer(socket)).toString();
}

const TUNNELLED = /^HTTP\/1\.1 101 Switching Protocols\r\nUpgrade: ssh\r\nConnection: Upgrade\r\n\r\nSSH-2\.0-test\r\n/;

test("/connect-ssh carries bytes both ways until either side ends, however its head is cut", async () => {
  for (const pieces of [[HEAD], [HEAD.slice(0, 10), HEAD.slice(10)], [...HEAD]]) {
    const socket = connect({ port, host: "localhost", noDelay: true });
    let heard = "";
    const changed = new Set<() => void>();
    socket.on("data", (chunk) => {
      heard += chunk.toString();
      for (const call of changed) call();
    });
    const hears = (what: RegExp) =>
      new Promise<void>((resolve) => {
        const look = () => what.test(heard) && resolve();
        changed.add(look);
        look();
      });
    for (const piece of pieces) {
      await new Promise((resolve) => socket.write(piece, resolve));
      await setImmediate();
    }
    await hears(TUNNELLED);
    socket.write("one ");
    await hears(/ONE $/);
    socket.write("two");
    await hears(/ONE TWO$/);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.end();
    await closed;
  }
  expect(tunnels).toBe(3);
});

test("what comes right behind the head goes to sshd too", async () => {
  expect(await say([`${HEAD}early`], true)).toMatch(/SSH-2\.0-test\r\nEARLYbye$/);
});

test("only that very path is a tunnel, and refusals have their standard reasons", async () => {
  const ask = async (target: string, method = "POST", more = "Content-Length: 0\r\n") =>
    (await say([`${method} ${target} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n${more}\r\n`])).split("\r\n")[0];
  expect([
    await ask("/connect-sshx"),
    await ask("/connect-ssh/"),
    await ask("/connect-ssh", "GET", ""),
    await ask("/connect-ssh", "POST", "Content-Length: 1\r\n"),
    await ask("/connect-ssh?x=1", "POST", "X-Go-Ssh-User: nobody-here\r\nX-Go-Authorized-Key: ssh-rsa A\r\n"),
  ]).toEqual([
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 400 Bad Request",
    "HTTP/1.1 400 Bad Request",
    "HTTP/1.1 400 Bad Request",
  ]);
  expect(tunnels).toBe(0);
  await new Promise((resolve) => sshd.close(resolve));
  expect(await ask("/connect-ssh")).toBe("HTTP/1.1 502 Bad Gateway");
});

test("other requests may come in pieces as well", async () => {
  const request = "GET /status HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
  for (const pieces of [[...request], [request.slice(0, 30), request.slice(30)]]) {
    expect(await say(pieces)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*\{"Version":29\}$/);
  }
  expect(await say(["rubbish\r\n\r\n"])).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
});

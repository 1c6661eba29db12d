import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import ssh2, { type ClientChannel, type ServerChannel } from "ssh2";
import { afterEach, expect, test } from "vitest";
import { until } from "../../farm/testing/until.ts";
import { held } from "./library.ts";

const MIB = 1024 * 1024;

/** The parts of a channel, as the library has them on both sides, that a client could also send by itself. */
interface Wire {
  readonly outgoing: { readonly id: number };
  readonly incoming: { readonly id: number };
}
interface Client {
  readonly _sock: Socket;
  readonly _protocol: {
    channelWindowAdjust(id: number, bytes: number): void;
    channelData(id: number, data: Buffer): void;
  };
}

let stack = new AsyncDisposableStack();
afterEach(async () => {
  await stack.disposeAsync();
  stack = new AsyncDisposableStack();
});

/** A command's channel between the library's client and its server, over TCP. */
async function world() {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const host = privateKey.export({ type: "sec1", format: "pem" }).toString();
  const server = new ssh2.Server({ hostKeys: [host] });
  const accepted = Promise.withResolvers<{ channel: ServerChannel; socket: Socket }>();
  const listener = createServer((socket) => {
    stack.defer(() => void socket.destroy());
    server.once("connection", (connection) => {
      connection.on("error", () => {});
      connection.on("authentication", (context) => context.accept());
      connection.on("session", (accept) => {
        accept().on("exec", (take) => {
          const channel = held(take(), socket);
          channel.on("error", () => {});
          accepted.resolve({ channel, socket });
        });
      });
    });
    server.injectSocket(socket);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  stack.defer(() => void listener.close());
  const client = new ssh2.Client();
  stack.defer(() => void client.destroy());
  client.on("error", () => {});
  client.connect({ host: "127.0.0.1", port: (listener.address() as AddressInfo).port, username: "x" });
  await once(client, "ready");
  const far = await new Promise<ClientChannel>((resolve, reject) => {
    client.exec("x", (error, channel) => (error ? reject(error) : resolve(channel)));
  });
  return { ...(await accepted.promise), far, client: client as unknown as Client };
}

test("held() sends both outputs of a command once and whole, also when both had to wait for the client", async () => {
  const { channel, far } = await world();
  const [out, errors] = ["printed", "complained"].map((text) => Buffer.alloc(9 * MIB + 1, text)) as [Buffer, Buffer];
  channel.write(out);
  channel.stderr.write(errors, () => {
    channel.exit(0);
    channel.end();
  });
  const got = [far, far.stderr].map(async (stream) => {
    const pieces: Buffer[] = [];
    for await (const piece of stream as AsyncIterable<Buffer>) {
      pieces.push(piece);
      await new Promise((done) => setImmediate(done)); // slower than what is sent
    }
    return Buffer.concat(pieces);
  });
  const [first, second] = await Promise.all(got);
  expect([first?.equals(out), second?.equals(errors)]).toEqual([true, true]);
});

test("held() holds back what a client with an endless window does not read", async () => {
  const { channel, socket, client, far } = await world();
  client._protocol.channelWindowAdjust((far as unknown as Wire).outgoing.id, 1024 * MIB);
  await until(() => (channel as unknown as { outgoing: { window: number } }).outgoing.window > 512 * MIB, "its window");
  client._sock.pause();
  let taken = 0;
  const piece = Buffer.alloc(64 * 1024);
  for (let n = 0; n < 1024; n++) channel.write(piece, () => taken++);
  await until(() => socket.writableNeedDrain, "the socket to be full");
  for (let n = 0; n < 50; n++) await new Promise((done) => setImmediate(done));
  expect(socket.writableLength).toBeLessThan(MIB);
  expect(taken * piece.length).toBeLessThan(16 * MIB); // the rest is in the kernel's buffers
  let arrived = 0;
  far.on("data", (bytes: Buffer) => {
    arrived += bytes.length;
  });
  client._sock.resume();
  await until(() => arrived === 1024 * piece.length, "all of it");
});

test("held() hangs up on a client that sends more than its window", async () => {
  const { client, far, socket } = await world();
  const { id } = (far as unknown as Wire).outgoing;
  const piece = Buffer.alloc(30 * 1024);
  for (let n = 0; n < 400 && !socket.destroyed; n++) {
    client._protocol.channelData(id, piece);
    await new Promise((done) => setImmediate(done));
  }
  await until(() => socket.destroyed, "the connection to be closed");
});

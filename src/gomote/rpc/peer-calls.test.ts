/** Calls between two coordinators, with a server that stands for the other one. */
import { createServer } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { create } from "@bufbuild/protobuf";
import type { StreamRequest, UnaryRequest } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { expect, test } from "vitest";
import { coordinatorId } from "../../farm/ids.ts";
import { until } from "../../farm/testing/until.ts";
import { systemClock } from "../../store/system-clock.ts";
import { GomoteService, InstanceAliveRequestSchema } from "../../wire/gomote/gen/gomote_pb.ts";
import { MOST_ON_LINE, PeerCalls } from "./peer-calls.ts";

const OTHER = coordinatorId("P0000000bb");
const REQUEST = {
  method: GomoteService.method.instanceAlive,
  message: create(InstanceAliveRequestSchema, { gomoteId: "a" }),
} as unknown as UnaryRequest;

test("when all that one connection takes goes on, the next call to that coordinator has another; those that ended count no more", async () => {
  await using stack = new AsyncDisposableStack();
  const state = { connections: 0, begun: 0, going: 0 };
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.service(GomoteService, {
        instanceAlive: async (_, { signal }) => {
          state.begun++;
          state.going++;
          await new Promise((left) => signal.addEventListener("abort", left, { once: true }));
          state.going--;
          return {};
        },
      }),
  });
  const server = createServer({ settings: { maxConcurrentStreams: MOST_ON_LINE } }, handler);
  server.on("session", () => state.connections++);
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  stack.defer(() => void server.close());
  const dial = async () => connect((server.address() as AddressInfo).port, "127.0.0.1") as TLSSocket;
  const calls = stack.use(new PeerCalls({ peers: { connect: dial }, clock: systemClock }));
  const over = Array.from({ length: MOST_ON_LINE + 1 }, () => new AbortController());
  const all = over.map(({ signal }) => calls.unary(OTHER, { ...REQUEST, signal }, new Headers()).catch(() => {}));
  await until(() => state.going === MOST_ON_LINE + 1, "all to arrive");
  expect(state.connections).toBe(2);

  for (const each of over.slice(0, 10)) each.abort();
  await until(() => state.going === MOST_ON_LINE - 9, "some to end");
  const more = over.slice(0, 10).map(() => new AbortController());
  for (const { signal } of more) all.push(calls.unary(OTHER, { ...REQUEST, signal }, new Headers()).catch(() => {}));
  await until(() => state.begun === MOST_ON_LINE + 11, "as many again to arrive");
  expect(state.connections).toBe(2);
  for (const each of [...over, ...more]) each.abort();
  await Promise.all(all);
});

test("a connection that is lost is told as a farm that is away, not as a call that somebody canceled", async () => {
  await using stack = new AsyncDisposableStack();
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.service(GomoteService, {
        instanceAlive: () => new Promise(() => {}),
        executeCommand: async function* () {
          yield { output: Buffer.from("on") };
          await new Promise(() => {});
        },
      }),
  });
  const sockets: Socket[] = [];
  const server = createServer(handler).on("connection", (socket: Socket) => void sockets.push(socket));
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  stack.defer(() => void server.close());
  const dial = async () => connect((server.address() as AddressInfo).port, "127.0.0.1") as TLSSocket;
  const calls = stack.use(new PeerCalls({ peers: { connect: dial }, clock: systemClock }));
  const over = new AbortController();
  const lost = { code: "unavailable", message: `The connection to coordinator ${OTHER} was lost; try again.` };
  const asked = calls.unary(OTHER, { ...REQUEST, signal: over.signal }, new Headers());
  const method = GomoteService.method.executeCommand;
  const message = (async function* () {
    yield create(method.input, { command: "long" });
  })();
  const request = { method, message, signal: over.signal } as unknown as StreamRequest;
  const output = (await calls.stream(OTHER, request, new Headers())).message[Symbol.asyncIterator]();
  expect((await output.next()).value).toMatchObject({ output: new Uint8Array(Buffer.from("on")) });
  const more = output.next();
  for (const socket of sockets) socket.destroy();
  await Promise.all([expect(asked).rejects.toMatchObject(lost), expect(more).rejects.toMatchObject(lost)]);
  over.abort();
});

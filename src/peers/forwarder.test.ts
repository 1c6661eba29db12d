import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { Readable } from "node:stream";
import tls from "node:tls";
import { expect, test } from "vitest";
import { coordinatorId, epochMs, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { until } from "../farm/testing/until.ts";
import { COORDINATOR, type FarmOfMachines, farmOfMachines } from "../machines/testing/farm-of-machines.ts";
import type { OriginalBuildletOptions } from "../machines/testing/original-buildlet.ts";
import { coordinatorEnded, coordinatorReachable } from "../store/coordinators.ts";
import { systemClock } from "../store/system-clock.ts";
import { freshDatabase, quiet } from "../store/testing/database.ts";
import { encodeRequestHead, type HeaderField, responseHeadReader } from "../wire/revdial/http-head.ts";
import { connPath, FORWARDED_HEADER } from "../wire/revdial/registration.ts";
import { ASK_LIMIT, Forwarder, OWNERS_LOOK_EVERY } from "./forwarder.ts";
import { Peers } from "./peers.ts";

const OTHER = coordinatorId("P0000000bb");

/** A farm of two coordinators: machines register with the first, and their pick-ups arrive at the second. */
class Two implements AsyncDisposable {
  readonly first: FarmOfMachines;
  readonly second: FarmOfMachines;
  readonly forwarder: Forwarder;
  readonly #stack: AsyncDisposableStack;

  constructor(parts: Pick<Two, "first" | "second" | "forwarder">, stack: AsyncDisposableStack) {
    this.first = parts.first;
    this.second = parts.second;
    this.forwarder = parts.forwarder;
    this.#stack = stack;
  }

  static async start(clock = systemClock): Promise<Two> {
    await using stack = new AsyncDisposableStack();
    const database = stack.use(await freshDatabase());
    const { sql } = database;
    const firstPeers = new Peers({ sql, clock: systemClock, log: quiet, self: COORDINATOR });
    const first = stack.use(await farmOfMachines({ database, pool: { peers: firstPeers } }));
    const peers = new Peers({ sql, clock: systemClock, log: quiet, self: OTHER });
    const forwarder = stack.use(new Forwarder({ peers, clock, log: quiet }));
    const pool = { forward: (pickUp: Parameters<Forwarder["forward"]>[0]) => forwarder.forward(pickUp) };
    const second = stack.use(await farmOfMachines({ database, coordinator: OTHER, pool }));
    return new Two({ first, second, forwarder }, stack.move());
  }

  machine(options: Pick<OriginalBuildletOptions, "exec" | "pickUpPort"> = {}) {
    return this.first.machine({ name: "m1", pickUpPort: () => this.second.port, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/** What the coordinator at `port` answers to a pick-up of `path`, as text. */
async function ask(port: number, path: string, fields: readonly HeaderField[] = []): Promise<string> {
  const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
  socket.write(encodeRequestHead("GET", path, [["Host", ""], ...fields]));
  const chunks: Buffer[] = [];
  socket.on("data", (chunk: Buffer) => chunks.push(chunk)).on("error", () => {});
  await once(socket, "close");
  const read = responseHeadReader().push(Buffer.concat(chunks));
  return read ? `${read.head.status} ${Buffer.from(read.rest).toString().trim()}` : "hung up";
}

test("a pick-up that arrives at the wrong coordinator is passed on, the 101 alone in its record, and calls, uploads and streams work", async () => {
  await using two = await Two.start();
  await using machine = await two.machine();
  const session = await two.first.session();
  expect(await session.client.workDir()).toBe("/tmp/workdir");
  const upload = Buffer.alloc(3_000_000, "some tree ");
  await session.client.writeTgz("src", Readable.from([upload]));
  const output: string[] = [];
  const status = await session.client.exec(
    { cmd: "./make", args: [], env: [], path: [] },
    async (chunk: Uint8Array) => void output.push(Buffer.from(chunk).toString()),
  );
  expect([status, output.join(""), machine.lost, machine.uploads]).toEqual([
    expect.anything(),
    "ran ./make\n",
    "",
    [upload.length],
  ]);
  expect(machine.pickedUp).toBeGreaterThan(0);
  await machine.hangUp();
  await until(() => two.forwarder.size === 0, "what was passed on ended with the machine");
});

test("a pick-up for a coordinator that has ended, that nobody knows, or that was passed on before, is refused in a few words", async () => {
  await using two = await Two.start();
  const path = (coordinator: string) => connPath(randomBytes(16).toString("hex"), 1, coordinator);
  const answers = [
    await ask(two.second.port, path("P123456789")),
    await ask(two.second.port, path(COORDINATOR)), // it lives, and does not know the dialer: its own answer comes back
    await ask(two.second.port, path(COORDINATOR), [[FORWARDED_HEADER, "P0000000cc"]]),
    await ask(two.first.port, path(OTHER)), // the first one passes nothing on
  ];
  await using late = await Two.start();
  expect(answers).toEqual([
    "404 Cannot reach coordinator P123456789: it has ended.",
    "400 Unknown dialer: the session that this connection is for has ended.",
    "421 This pick-up was passed on by P0000000cc, and is not ours either.",
    "503 There are no others.",
  ]);
  await coordinatorEnded(late.first.database.sql, COORDINATOR, epochMs(Date.now()));
  expect(await ask(late.second.port, path(COORDINATOR))).toBe(
    `404 Cannot reach coordinator ${COORDINATOR}: it has ended.`,
  );
});

test("when the coordinator that passed a connection on ends, whoever uses it hears that, and not that the machine failed", async () => {
  await using two = await Two.start();
  let running = 0;
  const exec: OriginalBuildletOptions["exec"] = async (_, { signal }) => {
    running++;
    await once(signal, "abort");
    return "signal: killed";
  };
  await using machine = await two.machine({ exec });
  const session = await two.first.session();
  const run = () => session.client.exec({ cmd: "./hang", args: [], env: [], path: [] }, () => {}).catch((e) => e);
  machine.behave.exec = "drop";
  expect(await run()).toMatchObject({ code: "machine-gone" }); // the other coordinator lives: it was the machine
  delete machine.behave.exec;
  const left = run();
  await until(() => running === 1, "a command that runs");
  await two.second.door[Symbol.asyncDispose]();
  await two.forwarder[Symbol.asyncDispose]();
  expect(await left).toMatchObject({
    code: "carrier-gone",
    message: `Coordinator ${OTHER}, which passed its connection on, ended in the middle of POST /exec`,
  });
});

test("a pick-up that reached a coordinator which was just stopped is asked for again, and the call goes on", async () => {
  await using two = await Two.start();
  const stopped = createServer();
  await once(stopped.listen(0, "127.0.0.1"), "listening");
  const { port } = stopped.address() as AddressInfo;
  await once(stopped.close(), "close");
  let pickUps = 0;
  await using _ = await two.machine({ pickUpPort: () => (++pickUps === 2 ? port : two.second.port) });
  const { client } = await two.first.session(); // it was asked for its status over the first
  const answers = await Promise.all([client.workDir(), client.status()]);
  expect([answers, pickUps]).toEqual([["/tmp/workdir", { version: 29 }], 3]);
});

test("a pick-up that is replayed gets nothing: each is good once, wherever it arrives", async () => {
  await using two = await Two.start();
  await using machine = await two.machine();
  await (await two.first.session()).client.workDir();
  const used = machine.lines.find((line) => line.command === "conn-ready")?.connPath ?? "";
  expect([await machine.pickUp(used), await ask(two.second.port, used), await ask(two.first.port, used)]).toEqual([
    400,
    "400 Nobody waits for this connection any more.",
    "400 Nobody waits for this connection any more.",
  ]);
});

test("two coordinators whose rows lead to each other do not pass a pick-up round and round", async () => {
  await using two = await Two.start();
  const { sql } = two.first.database;
  const { certificate } = (
    await sql.query<{ certificate: string }>("select certificate from coordinator where id = $1", [OTHER])
  )[0] ?? { certificate: "" };
  // The row of a third one leads back to the second.
  const third = coordinatorId("P0000000cc");
  await sql.query(
    "insert into coordinator (id, host, pid, version, started_at, seen_at) values ($1, 'x', 1, 'x', now(), now())",
    [third],
  );
  await coordinatorReachable(sql, { id: third, address: `127.0.0.1:${two.second.port}`, certificate });
  expect(await ask(two.second.port, connPath(randomBytes(16).toString("hex"), 1, third))).toBe(
    `421 This pick-up was passed on by ${OTHER}, and is not ours either.`,
  );
});

test("whoever answers at a peer's address with another certificate gets nothing, not even the path", async () => {
  await using two = await Two.start();
  await coordinatorReachable(two.first.database.sql, {
    id: COORDINATOR,
    address: `127.0.0.1:${two.first.port}`,
    certificate: "00".repeat(32),
  });
  expect(await ask(two.second.port, connPath(randomBytes(16).toString("hex"), 1, COORDINATOR))).toBe(
    `502 Cannot trust coordinator ${COORDINATOR}: another certificate is shown at its address.`,
  );
});

test("a peer that accepts and says nothing is given up, one that refuses at once is said; the machine reports it and its dial fails", async () => {
  const clock = new FakeClock();
  await using two = await Two.start(clock);
  const { sql } = two.first.database;
  const [row] = await sql.query<{ certificate: string }>("select certificate from coordinator where id = $1", [
    COORDINATOR,
  ]);
  const silent = createServer(() => {}).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const address = silent.address();
  const port = typeof address === "object" ? address?.port : 0;
  await coordinatorReachable(sql, {
    id: COORDINATOR,
    address: `127.0.0.1:${port}`,
    certificate: row?.certificate ?? "",
  });
  const answer = ask(two.second.port, connPath(randomBytes(16).toString("hex"), 1, COORDINATOR));
  await until(() => two.forwarder.size === 1, "the second asks the silent one");
  await clock.advance(ASK_LIMIT);
  expect(await answer).toBe(`504 Coordinator ${COORDINATOR} did not answer within 8 s.`);
  silent.close();
  await using machine = await two.first.machine({
    agent: { digest: "", platform: "", instance: "", resume: 0 },
    pickUpPort: () => two.second.port,
  });
  const session = await two.first.session();
  await expect(session.client.workDir()).rejects.toThrow(
    /503 Cannot reach coordinator P0000000aa at 127.0.0.1:\d+: connect ECONNREFUSED/,
  );
  expect(machine.pickedUp).toBe(0);
});

test("what is carried for a coordinator that died ends with it", async () => {
  const clock = new FakeClock();
  await using two = await Two.start(clock);
  await using machine = await two.machine();
  await (await two.first.session()).client.status(new AbortController().signal);
  await until(() => two.forwarder.size > 0 || machine.pickedUp > 0, "something is carried");
  await coordinatorEnded(two.first.database.sql, COORDINATOR, epochMs(Date.now()));
  await until(async () => {
    await clock.advance(seconds(OWNERS_LOOK_EVERY / 1000));
    return two.forwarder.size === 0;
  }, "nothing is carried for the dead");
});

import { execFileSync } from "node:child_process";
import { chmod, readFile, stat, writeFile } from "node:fs/promises";
import { createSecureServer } from "node:http2";
import { createServer, type Server as TcpServer } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../agent/system-clock.ts";
import { type EpochMs, epochMs, minutes, seconds } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { certificate } from "../web/certificate.ts";
import { Connection } from "./connection.ts";
import { FarmClient, MOVING_SILENCE } from "./farm-client.ts";
import { findServer } from "./server.ts";
import { Stopped } from "./stopped.ts";
import { FakeFarm, TOKEN } from "./testing/fake-farm.ts";
import { type Said, TestComputer } from "./testing/typed.ts";

async function start() {
  await using stack = new AsyncDisposableStack();
  const farm = stack.use(await FakeFarm.start());
  const computer = stack.use(await TestComputer.start(farm));
  const moved = stack.move();
  return { farm, computer, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

async function listen(server: TcpServer): Promise<string> {
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  onTestFinished(() => void server.close());
  return `localhost:${(server.address() as { port: number }).port}`;
}

/** Lets the time of each pause between two questions pass, once the command has gone to sleep. */
async function pollUntilAnswered(farm: FakeFarm, clock: FakeClock): Promise<void> {
  while (farm.tokenAnswers.length > 0) {
    if (clock.sleeping > 0) await clock.advance(seconds(10));
    await new Promise((next) => setImmediate(next));
  }
}

test("a server that cannot be talked to is said at once, and why", async () => {
  await using t = await start();
  const list = async (env: { readonly [name: string]: string }) => {
    const { status, stderr } = await t.computer.gomote(["list"], { env });
    expect(status).toBe(1);
    return stderr.replace(/localhost:\d+/g, "SERVER");
  };
  const nobody = createServer();
  const gone = await listen(nobody);
  await new Promise((closed) => nobody.close(closed));
  expect(await list({ GOMOTE_SERVER: gone })).toMatch(/^# gomote list: Cannot talk to SERVER: .*ECONNREFUSED/);
  expect(await list({ GOMOTE_CA_FILE: "" })).toMatch(
    /its certificate cannot be trusted .*give the certificate of the farm's authority/,
  );
  await using other = await FakeFarm.start();
  expect(await list({ GOMOTE_CA_FILE: other.caFile })).toContain(
    "the certificates given with -ca-file do not vouch for it",
  );
  const named = await certificate({ folder: join(t.computer.home, "tls"), names: [], now: epochMs(Date.now()) });
  const noAlpn = await listen(createTlsServer({ cert: named.cert, key: named.key }));
  expect(await list({ GOMOTE_SERVER: noAlpn, GOMOTE_CA_FILE: named.caFile })).toContain(
    "does not agree on HTTP/2 (ALPN h2)",
  );
  const plain = await listen(createServer((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")));
  expect(await list({ GOMOTE_SERVER: plain })).toContain("it does not speak TLS");
  expect(await list({ GOMOTE_SERVER: "nope.invalid:1" })).toMatch(
    /Cannot talk to nope.invalid:1: .*(ENOTFOUND|EAI_AGAIN)/,
  );
  expect(await list({ GOMOTE_SERVER: "a b" })).toContain('Cannot use server "a b": want HOST:PORT');
  expect(await list({ GOMOTE_SERVER: "" })).toContain("Cannot tell which farm is meant: give -server=HOST:PORT");
  expect(await list({ GOMOTE_TOKEN: "" })).toMatch(/SERVER does not know you .*run `gomote login`/);
  expect(await list({ GOMOTE_CA_FILE: "/nope" })).toContain('Cannot read -ca-file "/nope"');
});

/** A server that would answer anybody, with what was asked of it. */
async function listener(folder: string, kind: "h2" | "no ALPN", now: EpochMs = epochMs(Date.now())) {
  const { cert, key, caFile } = await certificate({ folder, names: [], now });
  const asked: string[] = [];
  const { promise: left, resolve } = Promise.withResolvers<void>();
  const server = kind === "h2" ? createSecureServer({ cert, key }) : createTlsServer({ cert, key });
  const secured = (socket: TLSSocket) => {
    socket.on("error", () => {}).once("close", resolve);
    if (kind === "no ALPN") socket.on("data", (said) => void asked.push(said.toString()));
  };
  server.on("stream", (_, headers) => void asked.push(String(headers[":path"])));
  server.on("secureConnection", secured).on("tlsClientError", () => resolve());
  return { port: (await listen(server)).split(":")[1], caFile, asked, left };
}

test("[gomote 2] a server whose certificate does not verify gets no call, under any name, and it is said why", async () => {
  await using t = await start();
  const year = 366 * 86_400_000;
  for (const [host, age, trusted, why] of [
    ["localhost", 2 * year, "its own", "its certificate has expired"],
    ["localhost", 0, "none", "its certificate cannot be trusted"],
    ["127.0.0.1", 0, "none", "its certificate cannot be trusted"],
    ["127.0.0.1", 0, "another", "the certificates given with -ca-file do not vouch for it"],
  ] as const) {
    const server = await listener(join(t.computer.home, `${host}-${trusted}`), "h2", epochMs(Date.now() - age));
    const caFile = { "its own": server.caFile, none: "", another: t.farm.caFile }[trusted];
    const env = { GOMOTE_SERVER: `${host}:${server.port}`, GOMOTE_CA_FILE: caFile };
    const { status, stderr } = await t.computer.gomote(["create", "linux-amd64"], { env });
    expect([status, stderr]).toEqual([1, expect.stringContaining(why)]);
    await server.left;
    expect(server.asked).toEqual([]);
  }
});

test("[gomote 3] a server that agrees on no ALPN is hung up on before anything is said to it", async () => {
  await using t = await start();
  const { port, caFile, asked, left } = await listener(join(t.computer.home, "tls"), "no ALPN");
  const env = { GOMOTE_SERVER: `localhost:${port}`, GOMOTE_CA_FILE: caFile };
  const { status, stderr } = await t.computer.gomote(["create", "linux-amd64"], { env });
  expect([status, stderr]).toEqual([1, expect.stringContaining("does not agree on HTTP/2 (ALPN h2)")]);
  await left;
  expect(asked).toEqual([]);
});

test("a connection that was cut is made again by a later call", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const server = await findServer(t.computer.config, { server: "", "ca-file": "" }, t.computer.env);
  await using connection = new Connection(server, t.computer.env, async () => TOKEN, new AbortController().signal);
  const client = new FarmClient(connection, systemClock);
  expect(await client.alive(id)).toBe(true);
  t.farm.cut();
  let answer: boolean | undefined;
  // Until this side has heard of it a call fails.
  while (answer === undefined) answer = await client.alive(id).catch(() => undefined);
  expect([answer, t.farm.connections]).toEqual([true, 2]);
});

test("a push may take hours while it goes on; it and a listing that do not are given up, and it is said for how long nothing moved", async () => {
  await using farm = await FakeFarm.start({ own: true });
  await using computer = await TestComputer.start(farm);
  const id = await farm.instance();
  const clock = new FakeClock();
  const server = await findServer(computer.config, { server: "", "ca-file": "" }, computer.env);
  await using connection = new Connection(server, computer.env, async () => TOKEN, new AbortController().signal);
  const client = new FarmClient(connection, clock);
  await writeFile(join(computer.cwd, "a"), "b".repeat(1000));
  const tgz = execFileSync("tar", ["-C", computer.cwd, "-cz", "a"]);
  const slowly = async function* () {
    for (const byte of tgz) {
      await clock.advance(minutes(4));
      yield Buffer.of(byte);
    }
  };
  expect(await client.push(id, "slow", slowly())).toBe(true);
  expect(clock.monotonic()).toBeGreaterThan(minutes(6 * 60));
  expect(await readFile(join(farm.work(id), "slow", "a"), "utf8")).toBe("b".repeat(1000));

  for (const [call, what] of [
    [() => client.push(id, "held", Readable.from([tgz])), `push to ${id}`],
    [() => client.listFolder(id, "slow", []), `list slow of ${id}`],
    [() => client.list(id, { directory: "slow", recursive: true, digest: true, skipFiles: [] }), `list slow of ${id}`],
  ] as const) {
    const asked = farm.holdsUp();
    const answer = expect(call()).rejects.toThrow(`Cannot ${what}: ${farm.name} has said and taken nothing for 5m 00s`);
    await asked;
    await clock.advance(MOVING_SILENCE);
    await answer;
  }
  expect(clock.sleeping).toBe(0);
});

test.each(["closed", "reset"] as const)(
  "a farm whose connection is %s in the middle of a command is told of, with another status than a command has",
  async (how) => {
    await using t = await start();
    const id = await t.farm.instance();
    const said = await t.computer.gomote(["run", id, "sh", "-c", "echo on; exec sleep 1000"], {
      onData: () => t.farm.cut(how),
    });
    expect([said.status, said.stdout]).toEqual([255, "on\n"]);
    const lost = `# gomote run: Cannot run sh on ${id}: the connection to ${t.farm.name} was lost (`;
    expect(said.stderr).toContain(lost);
    expect(said.stderr).toContain(`see \`gomote ps ${id}\`, and run it again\n`);
  },
);

test("repro -hold asks again when the farm stops or is cut off, and says so once; not for ever", async () => {
  await using farm = await FakeFarm.start({ own: true, holds: ["cut", "stopping", "stopping", "up"] });
  await using computer = await TestComputer.start(farm);
  const { status, stdout, stderr } = await held(computer);
  expect([status, stdout.split("\n")[0]]).toEqual([0, "alice-linux-amd64-0"]);
  expect(farm.calls).toEqual(Array(4).fill("hold 7"));
  expect(stderr.match(/asking again/g)).toHaveLength(1);
  expect(stderr).toMatch(/ was lost .*; asking again/);
  const gone = held(computer, () => farm[Symbol.asyncDispose]());
  expect(await gone).toMatchObject({ status: 1, stderr: expect.stringMatching(/asking again\n# .*ECONNREFUSED/) });
});

test("repro -hold ends after five minutes with a farm that answers and is away at once, each time", async () => {
  await using farm = await FakeFarm.start({ own: true, holds: [] });
  await using computer = await TestComputer.start(farm);
  const { status, stderr } = await held(computer);
  expect([status, farm.calls.length]).toEqual([1, 61]);
  expect(stderr).toMatch(/asking again\n(?:# build 7: .*\n)*# gomote repro: .*the coordinator is stopping/);
});

test("repro -hold goes on for as long as it takes where something cuts every call that lasts", async () => {
  const clock = new FakeClock();
  const holds = [...Array(20).fill("stopping"), "up"];
  await using farm = await FakeFarm.start({ own: true, holds, holding: () => clock.advance(seconds(60)) });
  await using computer = await TestComputer.start(farm);
  const { status, stderr } = await held(computer, undefined, clock);
  expect([status, farm.calls.length, stderr.match(/asking again/g)?.length]).toEqual([0, 21, 20]);
});

/** `repro -hold`; what it waits for passes at once, after `meanwhile` where it waits first. */
async function held(computer: TestComputer, meanwhile = async () => {}, clock = new FakeClock()): Promise<Said> {
  let ended = false;
  const said = computer.gomote(["repro", "-hold", "7"], { clock }).finally(() => {
    ended = true;
  });
  for (let waits = 0; !ended; ) {
    if (clock.sleeping > 0 && waits++ === 0) await meanwhile();
    if (clock.sleeping > 0) await clock.advance(seconds(5));
    await new Promise((next) => setImmediate(next));
  }
  return await said;
}

test("Ctrl-C ends whatever waits: dialling, a call, an upload", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  const stopped = async (argv: readonly string[], begun: Promise<unknown>, stdin = "") => {
    const stop = new AbortController();
    const said = t.computer.gomote(argv, { stdin, signal: stop.signal });
    await begun;
    stop.abort(new Stopped("SIGINT"));
    return (await said).status;
  };
  const silent = createServer();
  const dialled = new Promise((connected) => silent.once("connection", connected));
  expect(await stopped([`-server=${await listen(silent)}`, "list"], dialled)).toBe(130);
  expect(await stopped(["ls", id], t.farm.holdsUp())).toBe(130);
  expect(await stopped(["put", "-mode=644", id, "-", "x"], t.farm.holdsUp(), "y")).toBe(130);
});

test("login shows a code, waits for the answer, and keeps the token for this farm alone, readable by its user alone", async () => {
  await using t = await start();
  const clock = new FakeClock();
  const env = { GOMOTE_TOKEN: "" };
  t.farm.tokenAnswers.push(
    [400, { error: "authorization_pending" }],
    [400, { error: "slow_down" }],
    [200, { access_token: TOKEN }],
  );
  const login = t.computer.gomote(["login"], { env, clock });
  await pollUntilAnswered(t.farm, clock);
  const { status, stdout } = await login;
  expect([status, stdout]).toEqual([
    0,
    `Please open https://${t.farm.name}/device in a browser and enter the code: BCDF-GHJK\n`,
  ]);
  const file = join(t.computer.config, "servers", t.farm.name.replace(":", "_"), "token");
  expect([await readFile(file, "utf8"), (await stat(file)).mode & 0o777]).toEqual([`${TOKEN}\n`, 0o600]);
  // Neither server nor certificate have to be said from now on.
  const bare = { GOMOTE_TOKEN: "", GOMOTE_SERVER: "", GOMOTE_CA_FILE: "" };
  expect((await t.computer.gomote(["list"], { env: bare })).status).toBe(0);
  await using other = await FakeFarm.start();
  const elsewhere = await t.computer.gomote([`-server=${other.name}`, `-ca-file=${other.caFile}`, "list"], {
    env: bare,
  });
  expect(elsewhere.stderr).toContain("does not know you");
  await chmod(file, 0o644);
  expect((await t.computer.gomote(["list"], { env: bare })).stderr).toContain("others can read it. Run: chmod 600");
});

test("login fails when the answer is no, and takes a token that was given", async () => {
  await using t = await start();
  const env = { GOMOTE_TOKEN: "" };
  t.farm.tokenAnswers.push([400, { error: "access_denied" }]);
  const clock = new FakeClock();
  const login = t.computer.gomote(["login"], { env, clock });
  await pollUntilAnswered(t.farm, clock);
  const said = await login;
  expect([said.status, said.stderr]).toEqual([1, "# gomote login: Cannot log in: the answer in the browser was no\n"]);
  expect((await t.computer.gomote(["login", "-token"], { env, stdin: "wrong\n" })).status).toBe(1);
  expect((await t.computer.gomote(["list"], { env })).status).toBe(1);
  expect((await t.computer.gomote(["login", "-token"], { env, stdin: `${TOKEN}\n` })).status).toBe(0);
  expect((await t.computer.gomote(["list"], { env })).status).toBe(0);
  // One that is good stays until there is another.
  expect((await t.computer.gomote(["login", "-token"], { env, stdin: "mistyped\n" })).status).toBe(1);
  expect((await t.computer.gomote(["list"], { env })).status).toBe(0);
});

test("a download that breaks leaves no file", async () => {
  await using t = await start();
  const id = await t.farm.instance();
  await writeFile(join(t.computer.cwd, `${id}.tar.gz`), "older");
  await writeFile(join(t.farm.work(id), "big"), Buffer.alloc(1 << 20));
  const said = await t.computer.gomote(["gettar", "-dir=nope", id]);
  expect(said.status).toBe(1);
  expect(await readFile(join(t.computer.cwd, `${id}.tar.gz`), "utf8")).toBe("older");
});

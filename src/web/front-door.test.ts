import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import http2 from "node:http2";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import tls from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { epochMs } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import { quiet } from "../store/testing/database.ts";
import { certificate } from "./certificate.ts";
import { FrontDoor, HEAD_LIMIT, MAX_MUTE, MAX_SILENT, MAX_STREAMS } from "./front-door.ts";

async function open() {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-tls-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const { cert, key, caFile } = await certificate({ folder, names: [], now: epochMs(Date.now()) });
  const clock = new FakeClock();
  const handed: { door: string; target: string; rest: string }[] = [];
  const take =
    (door: string) => (socket: { end(text: string): unknown }, head: { target: string }, rest: Uint8Array) => {
      handed.push({ door, target: head.target, rest: Buffer.from(rest).toString() });
      socket.end("taken");
    };
  const local = { host: "127.0.0.1", port: 0 };
  const door = new FrontDoor({ listen: local, http: local, cert, key, clock, log: quiet });
  onTestFinished(() => door[Symbol.asyncDispose]());
  await door.open({
    machines: { reverse: take("reverse"), revdial: take("revdial") },
    pages: (request, response) => {
      const out = response as { end(body: string): unknown };
      out.end(`${request.httpVersion} ${request.url}`);
    },
  });
  const ca = await readFile(caFile, "utf8");
  return { door, clock, handed, ca, folder };
}

/** A raw TLS connection as the original buildlet makes it: no ALPN, the port in the server name. */
async function dial(port: number, ca: string): Promise<tls.TLSSocket> {
  const socket = tls.connect({
    port,
    host: "127.0.0.1",
    ca,
    servername: `localhost:${port}`,
    checkServerIdentity: () => undefined,
  });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("secureConnect", resolve));
  return socket;
}

test("[coordinator 1] a machine's connection is handed over with what follows its head: SNI with a port, no ALPN, empty Host", async () => {
  const { door, handed, ca } = await open();
  const whole = await dial(door.ports.tls, ca);
  whole.write("GET /reverse HTTP/1.1\r\nHost: \r\nX: y\r\n\r\nrest");
  expect(await text(whole)).toBe("taken");
  const bytewise = await dial(door.ports.tls, ca);
  for (const byte of "GET /revdial?revdial.dialer=1 HTTP/1.1\r\nHost: \r\n\r\n") bytewise.write(byte);
  expect(await text(bytewise)).toBe("taken");
  expect(handed).toEqual([
    { door: "reverse", target: "/reverse", rest: "rest" },
    { door: "revdial", target: "/revdial?revdial.dialer=1", rest: "" },
  ]);
});

test("browsers get pages on the same port over h2 and HTTP/1.1, several requests per connection", async () => {
  const { door, ca } = await open();
  const origin = `https://localhost:${door.ports.tls}`;
  const session = http2.connect(origin, { ca, host: "127.0.0.1" });
  const [settings] = (await once(session, "remoteSettings")) as [http2.Settings];
  expect(settings.maxConcurrentStreams).toBe(MAX_STREAMS);
  const stream = session.request({ ":path": "/h2" });
  expect(await text(stream)).toBe("2.0 /h2");
  session.close();
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca });
  for (const path of ["/one", "/two"]) {
    const body = await new Promise<string>((resolve, reject) => {
      https
        .get(`${origin}${path}`, { agent, host: "127.0.0.1" }, (response) => resolve(text(response)))
        .on("error", reject);
    });
    expect(body).toBe(`1.1 ${path}`);
  }
  agent.destroy();
});

test("[coordinator 2] on the plain port pages are served and /reverse and /revdial answer 500", async () => {
  const { door } = await open();
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${door.ports.http}${path}`);
    return [response.status, (await response.text()).length > 0];
  };
  expect([await get("/"), await get("/reverse"), await get("/revdial?x")]).toEqual([
    [200, true],
    [500, true],
    [500, true],
  ]);
});

test("heads that are too large or not HTTP get an answer that says so", async () => {
  const { door, ca } = await open();
  const large = await dial(door.ports.tls, ca);
  large.write(`GET / HTTP/1.1\r\nX: ${"x".repeat(20_000)}`);
  expect(await text(large)).toMatch(/^HTTP\/1.1 431 .*16384 bytes/s);
  const odd = await dial(door.ports.tls, ca);
  odd.write("SSH-2.0-x\r\n\r\n");
  expect(await text(odd)).toMatch(/^HTTP\/1.1 400 /);
});

test("[gomote 2] [gomote 3] the TLS port gives HTTP/2 to whoever trusts its certificate and offers ALPN h2, and to nobody else", async () => {
  const { door, ca } = await open();
  const port = door.ports.tls;
  await expect(once(http2.connect(`https://127.0.0.1:${port}`), "connect")).rejects.toThrow(/certificate/);
  const other = tls.connect({ port, host: "127.0.0.1", ca, servername: "another.test" });
  await expect(once(other, "secureConnect")).rejects.toThrow("does not match certificate's altnames");
  const session = http2.connect(`https://127.0.0.1:${port}`, { ca });
  expect(await text(session.request({ ":path": "/" }))).toBe("2.0 /");
  session.close();
  // Two that speak HTTP/2 all the same: with no ALPN, and with an older one.
  const mute = await dial(port, ca);
  mute.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  expect(await text(mute)).toMatch(/^HTTP\/1\.1 (400|505) /);
  const older = tls.connect({ port, host: "127.0.0.1", ca, ALPNProtocols: ["http/1.1"] });
  await once(older, "secureConnect");
  older.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  expect([older.alpnProtocol, await text(older)]).toEqual([
    "http/1.1",
    expect.stringMatching(/^HTTP\/1\.1 (400|505) /),
  ]);
});

test("a connection that says nothing is closed when its time is up, and the oldest go first when there are too many", async () => {
  const { door, ca, clock } = await open();
  const slow = await dial(door.ports.tls, ca);
  slow.write("GET / HT");
  await expect.poll(() => door.silent).toBe(1);
  await clock.advance(HEAD_LIMIT);
  expect(await text(slow)).toMatch(/^HTTP\/1.1 408 /);
  expect(door.silent).toBe(0);
});

test("10,000 connections that say nothing do not keep anybody out", { timeout: 60_000 }, async () => {
  const { door, ca } = await open();
  const silent: net.Socket[] = [];
  onTestFinished(() => {
    for (const socket of silent) socket.destroy();
  });
  // Most of them do not even begin TLS; some finish the handshake and then say nothing.
  for (let batch = 0; batch < 20; batch++) {
    await Promise.all(
      Array.from({ length: 500 }, () => {
        const socket = net.connect(door.ports.tls, "127.0.0.1");
        socket.on("error", () => {});
        silent.push(socket);
        return new Promise((resolve) => socket.once("connect", resolve));
      }),
    );
  }
  silent.push(...(await Promise.all(Array.from({ length: 200 }, () => dial(door.ports.tls, ca)))));
  const body = await new Promise<string>((resolve, reject) => {
    https
      .get(`https://localhost:${door.ports.tls}/here`, { ca, host: "127.0.0.1", agent: false }, (r) => resolve(text(r)))
      .on("error", reject);
  });
  expect(body).toBe("1.1 /here");
  expect(door.silent).toBeLessThanOrEqual(MAX_MUTE + MAX_SILENT);
});

test("a port that is taken is named, with the flag that changes it", async () => {
  const { door } = await open();
  const { port } = { port: door.ports.http };
  await using second = new FrontDoor({
    listen: { host: "127.0.0.1", port: 0 },
    http: { host: "127.0.0.1", port },
    cert: "",
    key: "",
    clock: new FakeClock(),
    log: quiet,
  });
  await expect(second.open({ machines: { reverse() {}, revdial() {} }, pages: () => {} })).rejects.toThrow(
    `Cannot listen on 127.0.0.1:${port}: it is in use by another program. Give another address with -http`,
  );
});

test("certificate() keeps what it made, renews in time and when a name is missing, and guards its keys", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-tls-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const now = Date.now();
  const make = (names: readonly string[], days = 0) =>
    certificate({ folder, names, now: epochMs(now + days * 86_400_000) });
  const first = await make(["farm.example.org"]);
  expect((await make(["farm.example.org"], 300)).cert).toBe(first.cert);
  const renewed = await make(["farm.example.org"], 350);
  expect(renewed.cert).not.toBe(first.cert);
  expect((await make(["other.example.org"], 350)).cert).not.toBe(renewed.cert);
  const mode = async (file: string) => (await stat(join(folder, file))).mode & 0o777;
  expect([await mode("ca-key.pem"), await mode("server-key.pem")]).toEqual([0o600, 0o600]);
  await expect(
    certificate({ folder, names: [], now: epochMs(now), certFile: "/nowhere.pem", keyFile: "/nowhere.pem" }),
  ).rejects.toThrow("Cannot read /nowhere.pem");
});

test.runIf(process.platform === "linux")(
  "a computer that is gone without a word is asked whether it is there, on both ports",
  async () => {
    const { door, ca } = await open();
    const secure = await dial(door.ports.tls, ca);
    const plain = net.connect({ port: door.ports.http, host: "127.0.0.1" });
    await once(plain, "connect");
    // Of each connection the kernel tells which timer runs: 2 is the one that asks, which ends when the other side is silent.
    const timerOf = async (port: number, other: number | undefined) => {
      const hex = (number = 0) => number.toString(16).toUpperCase().padStart(4, "0");
      const rows = (await readFile("/proc/net/tcp", "utf8")).split("\n").map((row) => row.trim().split(/\s+/));
      const row = rows.find(([, own, peer]) => own?.endsWith(`:${hex(port)}`) && peer?.endsWith(`:${hex(other)}`));
      return row?.[5]?.split(":", 1)[0];
    };
    await expect.poll(() => timerOf(door.ports.tls, secure.localPort)).toBe("02");
    await expect.poll(() => timerOf(door.ports.http, plain.localPort)).toBe("02");
    secure.destroy();
    plain.destroy();
  },
);

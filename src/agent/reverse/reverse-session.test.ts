import { writeFile } from "node:fs/promises";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { ms, seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { DIALER, OriginalCoordinator } from "../testing/original-coordinator.ts";
import { TestMachine } from "../testing/test-machine.ts";
import { SILENCE } from "./reverse-session.ts";

const GOLDEN = [
  "GET /reverse HTTP/1.1",
  "Host: ",
  "User-Agent: Go-http-client/1.1",
  "X-Go-Builder-Hostname: test-machine",
  "X-Go-Builder-Key: 4d8129e2963df29b29cab65e108397d1",
  "X-Go-Builder-Version: 29",
  "X-Go-Host-Type: host-linux-amd64-localdev",
  "X-Revdial-Version: 2",
  "",
  "",
].join("\r\n");

test("[coordinator 10] [coordinator 14] a compatible buildlet registers byte for byte as the original, and takes HTTP/0.0 in two records", async () => {
  await using machine = await TestMachine.start({
    flags: ["-compatible", "-reverse-type=host-linux-amd64-localdev"],
    env: { GO_BUILD_KEY_PATH: "/nowhere/at/all" },
  });
  await machine.coordinator.registered();
  const [seen] = machine.coordinator.seen;
  expect([seen?.raw, seen?.alpn, seen?.serverName]).toEqual([GOLDEN, false, `127.0.0.1:${machine.coordinator.port}`]);
});

test("our buildlet tells its platform and agent beyond that", async () => {
  await using machine = await TestMachine.start();
  await machine.coordinator.registered();
  const names = machine.coordinator.seen[0]?.head.fields.map(([name]) => name);
  expect(names).toEqual([
    "Host", "User-Agent", "X-Go-Builder-Hostname", "X-Go-Builder-Key", "X-Go-Builder-Version", "X-Go-Host-Type",
    "X-Revdial-Version", "Barnraiser-Agent",
  ]); // biome-ignore format: two rows
});

test("[coordinator 9] one 307 is followed on the same connection with all headers, a second one is refused", async () => {
  const redirect =
    "HTTP/1.1 307 Temporary Redirect\r\nLocation: /farmer.golang.org/reverse\r\nContent-Length: 5\r\n\r\nmoved";
  await using coordinator = await OriginalCoordinator.start();
  coordinator.answer = (_, count) => (count === 0 ? redirect : undefined);
  {
    await using machine = await TestMachine.start({ coordinator });
    await coordinator.registered();
    const [first, second] = coordinator.seen;
    expect(second?.socket).toBe(first?.socket);
    expect(second?.raw).toBe(first?.raw.replace("GET /reverse", "GET /farmer.golang.org/reverse"));
    void machine;
  }
  coordinator.answer = () => redirect;
  await using machine = await TestMachine.start({ coordinator });
  await expect(machine.ended).rejects.toThrow("redirected a second time");
});

test("[coordinator 11] a Location with scheme or host, or none, is refused", async () => {
  await using coordinator = await OriginalCoordinator.start();
  for (const location of [
    "Location: https://evil.test/reverse\r\n",
    "Location: //evil.test/reverse\r\n",
    "Location: x\r\n",
    "",
  ]) {
    coordinator.answer = () => `HTTP/1.1 307 Temporary Redirect\r\n${location}Content-Length: 0\r\n\r\n`;
    await using machine = await TestMachine.start({ coordinator });
    await expect(machine.ended).rejects.toThrow("the coordinator redirected");
  }
});

test("[coordinator 5] a refusal is told with its status and reason", async () => {
  await using machine = await TestMachine.start();
  machine.coordinator.answer = () => "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 8\r\n\r\nbad key\n";
  await expect(machine.ended).rejects.toThrow("the coordinator answered 412 Precondition Failed: bad key");
});

test("[coordinator 13] when dialling fails and HTTPS_PROXY is set the buildlet goes through the proxy", async () => {
  await using coordinator = await OriginalCoordinator.start();
  const asked: string[] = [];
  const proxy = createServer((client) => {
    client.on("error", () => {});
    client.once("data", (head) => {
      asked.push(head.toString());
      const there = connectTcp(coordinator.port, "127.0.0.1", () => {
        client.write("HTTP/1.1 200 Connection established\r\n\r\n");
        client.pipe(there).pipe(client);
      });
      there.on("error", () => client.destroy());
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address() as AddressInfo;
  {
    await using machine = await TestMachine.start({
      coordinator,
      address: "farm.invalid:8119",
      flags: ["-compatible"],
      env: { HTTPS_PROXY: `http://127.0.0.1:${port}` },
    });
    await coordinator.registered();
    expect((await coordinator.fetch({ path: "/status" })).body.toString()).toBe('{"Version":29}');
    const connect = "CONNECT farm.invalid:8119 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    expect(asked).toEqual([connect, connect]);
    void machine;
  }
  await new Promise((resolve) => proxy.close(resolve));
});

test("[coordinator 18] [coordinator 25] conn-ready makes the buildlet dial again, get exactly that path, and serve", async () => {
  await using machine = await TestMachine.start();
  const { coordinator } = machine;
  await coordinator.registered();
  const reply = await coordinator.fetch({ path: "/status" });
  expect([reply.status, reply.headers["content-type"], reply.body.toString()]).toEqual([
    200, "application/json; charset=utf-8", '{"Version":29}',
  ]); // biome-ignore format: a row
  expect(coordinator.seen[1]?.raw).toBe(
    `GET /revdial?revdial.dialer=${DIALER} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n\r\n`,
  );
  expect(coordinator.lines).toEqual([]);
});

test("[coordinator 20] a pick-up that is refused is told in short, and the session goes on", async () => {
  await using machine = await TestMachine.start();
  const { coordinator } = machine;
  await coordinator.registered();
  coordinator.answer = ({ head }) =>
    head.target.startsWith("/revdial")
      ? `HTTP/1.1 400 Bad Request\r\nContent-Length: 9000\r\n\r\n${"\u0001".repeat(9000)}`
      : undefined;
  coordinator.send({ command: "conn-ready", connPath: "/revdial?revdial.dialer=unknown" });
  const line = await coordinator.until(() => coordinator.lines[0]);
  expect([line.command, line.err?.startsWith("the coordinator answered 400 Bad Request")]).toEqual([
    "pickup-failed",
    true,
  ]);
  coordinator.answer = () => undefined;
  expect((await coordinator.fetch({ path: "/status" })).status).toBe(200);
});

test("a path that could not stand in a request line is not fetched", async () => {
  await using machine = await TestMachine.start();
  const { coordinator } = machine;
  await coordinator.registered();
  coordinator.send({ command: "conn-ready", connPath: "/x HTTP/1.1\r\nEvil: 1" });
  expect((await coordinator.until(() => coordinator.lines[0])).err).toContain("bad connPath");
});

test("[coordinator 16] unknown commands are ignored and a line that is no JSON ends the session", async () => {
  await using machine = await TestMachine.start();
  const control = await machine.coordinator.registered();
  control.write('{"command":"dance"}\n');
  expect((await machine.coordinator.fetch({ path: "/healthz" })).body.toString()).toBe("ok\n");
  control.write("nonsense\n");
  await machine.ended;
  expect(machine.log.at(-1)).toContain("The session is over: Cannot read control line");
});

test("[coordinator 23] when the control connection closes the buildlet ends without an error", async () => {
  await using machine = await TestMachine.start();
  (await machine.coordinator.registered()).end();
  await machine.ended;
  expect(machine.log.at(-1)).toBe("The session is over: the coordinator closed the connection");
});

test("with -halt the end of the session waits for a halt that may be under way", async () => {
  const clock = new FakeClock();
  await using machine = await TestMachine.start({ clock, flags: ["-halt=true"] });
  (await machine.coordinator.registered()).end();
  await machine.coordinator.until(
    () => machine.log.some((line) => line.startsWith("The session is over")) && clock.sleeping === 1,
  );
  await clock.advance(seconds(5));
  await machine.ended;
});

test("keep-alives are answered when our coordinator asks for it, never otherwise", async () => {
  await using coordinator = await OriginalCoordinator.start();
  {
    await using machine = await TestMachine.start({ coordinator });
    await coordinator.registered();
    coordinator.send({ command: "keep-alive" });
    await coordinator.fetch({ path: "/status" });
    expect(coordinator.lines).toEqual([]);
    void machine;
  }
  coordinator.headers = "Barnraiser-Pong: 1\r\n";
  await using machine = await TestMachine.start({ coordinator });
  await coordinator.registered();
  coordinator.send({ command: "keep-alive" });
  expect(await coordinator.until(() => coordinator.lines[0])).toEqual({ command: "pong" });
  void machine;
});

test("a coordinator of ours that falls silent is taken for dead; the original may be silent for ever", async () => {
  for (const [headers, ends] of [
    ["Barnraiser-Pong: 1\r\n", true],
    ["", false],
  ] as const) {
    const clock = new FakeClock();
    await using coordinator = await OriginalCoordinator.start();
    coordinator.headers = headers;
    await using machine = await TestMachine.start({ clock, coordinator, flags: ["-reconnect=0s"] });
    await coordinator.registered();
    await coordinator.until(
      () => clock.sleeping === (ends ? 1 : 0) && machine.log.some((l) => l.startsWith("Registered")),
    );
    await clock.advance(ms(SILENCE - 1));
    expect(machine.log.some((line) => line.startsWith("The session is over"))).toBe(false);
    if (ends) {
      coordinator.send({ command: "keep-alive" });
      await coordinator.until(() => coordinator.lines[0]);
      await clock.advance(ms(SILENCE - 1));
      expect(machine.log.some((line) => line.startsWith("The session is over"))).toBe(false);
      await clock.advance(ms(1));
      await machine.ended;
      expect(machine.log.at(-1)).toBe("The session is over: the coordinator has been silent for too long");
    } else {
      expect((await coordinator.fetch({ path: "/healthz" })).status).toBe(200);
    }
  }
});

test("a certificate of nobody's is taken on loopback only, and only when no key is shown; -ca-file is always held to", async () => {
  await using coordinator = await OriginalCoordinator.start();
  await using other = await OriginalCoordinator.start();
  const key = join(dirname(coordinator.caFile), "key");
  await writeFile(key, "0123456789abcdef0123456789abcdef\n");
  await using unsure = await TestMachine.start({ coordinator, env: { GO_BUILD_KEY_PATH: key } });
  await expect(unsure.ended).rejects.toThrow(
    /^Cannot trust the coordinator's certificate: .*; give the farm's CA certificate with -ca-file$/,
  );
  await using trying = await TestMachine.start({ coordinator });
  await coordinator.registered();
  expect(coordinator.seen.length).toBe(1); // and never the key
  void trying;
  const withFile = (caFile: string) =>
    TestMachine.start({ coordinator, flags: [`-ca-file=${caFile}`], env: { GO_BUILD_KEY_PATH: key } });
  await using wrong = await withFile(other.caFile);
  await expect(wrong.ended).rejects.toThrow(`; no certificate in -ca-file "${other.caFile}" vouches for it`);
  await using right = await withFile(coordinator.caFile);
  await coordinator.registered();
  await using missing = await withFile("/nowhere.pem");
  await expect(missing.ended).rejects.toThrow('Cannot read -ca-file "/nowhere.pem"');
  void right;
});

test("[coordinator 50] a health address that is taken is only logged", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as AddressInfo;
  {
    await using machine = await TestMachine.start({ flags: [`-health-addr=127.0.0.1:${port}`] });
    expect((await machine.coordinator.fetch({ path: "/status" })).status).toBe(200);
    expect(machine.log[0]).toContain(`Cannot serve /healthz on 127.0.0.1:${port}`);
  }
  await new Promise((resolve) => taken.close(resolve));
});

test("an address without port is refused", async () => {
  await using machine = await TestMachine.start({ address: "farm.example.org" });
  await expect(machine.ended).rejects.toThrow('Cannot use coordinator address "farm.example.org": want HOST:PORT');
});

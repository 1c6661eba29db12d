import { connect } from "node:net";
import { expect, test } from "vitest";
import { serveHealth } from "./health.ts";

test("serveHealth() answers /healthz and nothing else, on an address, by name and everywhere", async () => {
  for (const host of ["127.0.0.1", "localhost", ""]) {
    const log: string[] = [];
    await using health = await serveHealth(`${host}:0`, (line) => log.push(line));
    const ask = async (path: string, method = "GET") => {
      const answer = await fetch(`http://${host || "127.0.0.1"}:${health.port}${path}`, { method });
      return [answer.status, await answer.text()];
    };
    expect([await ask("/healthz"), (await ask("/status"))[0], (await ask("/healthz", "POST"))[0], log]).toEqual([
      [200, "ok\n"],
      404,
      404,
      [],
    ]);
    const silent = connect(health.port ?? 0, host || "127.0.0.1"); // ended with the listener
    await new Promise((resolve) => silent.once("connect", resolve));
    silent.on("error", () => {});
  }
});

test("serveHealth() logs an address that it cannot have, and an empty one serves nothing", async () => {
  const log: string[] = [];
  await using first = await serveHealth("127.0.0.1:0", (line) => log.push(line));
  for (const address of [`127.0.0.1:${first.port}`, "192.0.2.1:0", "nonsense", "1.2.3.4:99999", ""]) {
    await using none = await serveHealth(address, (line) => log.push(line));
    expect(none.port).toBeUndefined();
  }
  expect(log).toEqual([
    `Cannot serve /healthz on 127.0.0.1:${first.port}: listen EADDRINUSE 127.0.0.1:${first.port}`,
    expect.stringMatching(/^Cannot serve \/healthz on 192.0.2.1:0: listen EADDRNOTAVAIL/),
    'Cannot serve /healthz on "nonsense": want HOST:PORT',
    'Cannot serve /healthz on "1.2.3.4:99999": want HOST:PORT',
  ]);
});

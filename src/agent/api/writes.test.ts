import { EventEmitter, once } from "node:events";
import { existsSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { tarEnd, tarHeader } from "../../wire/tar/tar-writer.ts";
import { replyOf } from "../testing/original-coordinator.ts";
import { TestMachine } from "../testing/test-machine.ts";
import { Writes } from "./writes.ts";

const over = { method: "POST", path: "/removeall?path=." };
const file = (name: string, size: number) =>
  gzipSync(Buffer.concat([tarHeader({ type: "file", name, mode: 0o644, mtime: 1, size }), Buffer.alloc(512, 1)]));
const rest = gzipSync(
  Buffer.concat([tarHeader({ type: "file", name: "planted", mode: 0o644, mtime: 1, size: 0 }), tarEnd()]),
);

test("what is being written when a lease ends is given up before the folder is emptied, and nothing of the next lease is refused", async () => {
  await using machine = await TestMachine.start();
  const { coordinator, workDir } = machine;
  const chunk = (bytes: Buffer) =>
    Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from("\r\n")]);
  const head = (path: string) => `PUT ${path} HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const [archive, plain] = [await coordinator.dial(), await coordinator.dial()];
  let answer = "";
  archive.on("data", (text) => {
    answer += text;
  });
  archive.write(head("/writetgz?dir=a"));
  archive.write(chunk(file("first", 512)));
  plain.write(head("/write?path=p/f&mode=420"));
  plain.write(chunk(Buffer.from("some of it")));
  plain.on("error", () => {});
  await coordinator.until(() => existsSync(join(workDir, "a/first")) && existsSync(join(workDir, "p")));
  const cut = once(plain, "close");
  expect((await coordinator.fetch(over)).status).toBe(200);
  await cut;
  await coordinator.until(() => answer !== "");
  expect(answer).toMatch(/^HTTP\/1.1 409 Conflict\r\n[\s\S]*The lease is over\n/);
  archive.write(Buffer.concat([chunk(rest), Buffer.from("0\r\n\r\n")]));
  const next = await coordinator.open({ method: "PUT", path: "/writetgz?dir=b" }, rest);
  expect((await replyOf(next)).status).toBe(200);
  expect(["a", "p", "b/planted"].map((name) => existsSync(join(workDir, name)))).toEqual([false, false, true]);
});

test("Writes waits for what it gave up, and refuses what comes until the folder is empty", async () => {
  const writes = new Writes(new FakeClock());
  const response = () => Object.assign(new EventEmitter(), { writableFinished: false }) as unknown as ServerResponse;
  const seen: string[] = [];
  const { promise: emptied, resolve: empty } = Promise.withResolvers<void>();
  const slow = writes.run(response(), async (signal) => {
    await once(signal, "abort");
    await new Promise((resolve) => setImmediate(resolve));
    seen.push("given up");
    signal.throwIfAborted();
  });
  const { lease } = writes;
  const ended = writes.end(async () => {
    seen.push("emptying");
    await emptied;
  });
  await expect(slow).rejects.toThrow("The lease is over");
  await expect(writes.run(response(), async () => void seen.push("late"))).rejects.toThrow("The lease is over");
  empty();
  await ended;
  await writes.run(response(), async () => void seen.push("next"));
  expect([seen, lease.aborted, writes.lease.aborted]).toEqual([["given up", "emptying", "next"], true, false]);
});

test("Writes gives up what whoever sends it hangs up on, not what was answered", async () => {
  const writes = new Writes(new FakeClock());
  const signals: AbortSignal[] = [];
  for (const writableFinished of [false, true]) {
    const response = Object.assign(new EventEmitter(), { writableFinished });
    await writes.run(response as unknown as ServerResponse, async (signal) => void signals.push(signal));
    response.emit("close");
  }
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
});

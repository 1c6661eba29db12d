import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { type IncomingMessage, request } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test, vi } from "vitest";
import { minutes } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { Connections } from "./connections.ts";

const disk = vi.hoisted(() => ({ hangs: new Set<string>(), asked: false }));
vi.mock("../work-dir.ts", async (actual) => {
  const real = await actual<typeof import("../work-dir.ts")>();
  const removeTree = (path: string) => {
    if (!disk.hangs.has(path)) return real.removeTree(path);
    disk.asked = true;
    return new Promise<void>(() => {});
  };
  return { ...real, removeTree };
});

test("a removal that never ends is not waited for without end, nor forgotten", async () => {
  const clock = new FakeClock();
  await using stack = new AsyncDisposableStack();
  const workDir = await mkdtemp(join(tmpdir(), "removal-"));
  stack.defer(() => rm(workDir, { recursive: true }));
  const connections = new Connections({
    ...{ workDir, clock, platform: process.platform, system: "test-test", sshPort: 1, password: "" },
    ...{ agentFile: undefined, cacheFolder: workDir, log: () => {}, halt: () => {} },
    disableOutboundNetwork: () => Promise.resolve(),
  });
  const server = createServer((socket) => connections.accept(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stack.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
  stack.use(connections);
  const { port } = server.address() as AddressInfo;
  const removed = async (path: string) => {
    const answer = await new Promise<IncomingMessage>((resolve, reject) => {
      request({ port, path: `/removeall?path=${path}`, method: "POST" }, resolve)
        .once("error", reject)
        .end();
    });
    return `${answer.statusCode} ${await text(answer)}`;
  };
  disk.hangs.add(join(workDir, "hung"));
  await mkdir(join(workDir, "d"));
  const hung = removed("hung").catch(() => "cut");
  await vi.waitFor(() => expect(disk.asked).toBe(true), { interval: 5 });
  for (const _ of [1, 2]) {
    const asleep = clock.sleeping;
    const second = removed("d");
    while (clock.sleeping === asleep) await new Promise((resolve) => setTimeout(resolve, 5));
    await clock.advance(minutes(9));
    expect(await second).toBe("500 Cannot delete: what was to be deleted before took longer than 9m 00s\n");
  }
  expect(existsSync(join(workDir, "d"))).toBe(true);
  await connections.endSession();
  expect(await hung).toBe("cut");
});

/**
 * A machine that is paused (a laptop's lid, a hypervisor, SIGSTOP) in the middle of coming back, while the coordinator that it asked finds it
 * too slow and goes away: when it runs again the same process rejoins, and the command that it ran is there to be taken up.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { OriginalCoordinator, replyOf } from "../src/agent/testing/original-coordinator.ts";
import { encodeExecForm } from "../src/wire/buildlet-api/exec-form.ts";
import { Process } from "./testing/process.ts";

const TOO_SLOW = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/** A coordinator of our own kind, which machines come back to. */
async function start(port?: number): Promise<OriginalCoordinator> {
  const coordinator = await OriginalCoordinator.start(port);
  coordinator.headers = "Barnraiser-Pong: 1\r\n";
  return coordinator;
}

function ask(coordinator: OriginalCoordinator, script: string, id: string, from: number) {
  const headers = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Barnraiser-Execution": id,
    "Barnraiser-From": String(from),
  };
  const form = { cmd: "/bin/sh", args: ["-c", script], dir: ".", env: [], path: [], system: false, debug: false };
  return coordinator.open({ method: "POST", path: "/exec", headers }, encodeExecForm(form));
}

test("a machine that was paused while its coordinators went away rejoins, the same process with the same command", async () => {
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-paused-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  await mkdir(join(folder, "work"));
  const first = await start();
  const flags = [
    `-coordinator=127.0.0.1:${first.port}`,
    "-reverse-type=host-linux-amd64-e2e",
    `-workdir=${join(folder, "work")}`,
    "-halt=false",
    "-health-addr=127.0.0.1:0",
  ];
  await using machine = Process.program("agents/buildlet.mjs", flags, { env: { HOME: folder, TMPDIR: folder } });
  await machine.says(/Registered/);
  const running = await ask(first, "echo one; until [ -e go ]; do sleep 0.01; done; echo two", "a1.1", 0);
  running.on("error", () => {});

  first.answer = () => ""; // it takes the request, and nothing comes back
  const registered = first.seen.length;
  (await first.registered()).destroy();
  const asking = await first.until(() =>
    first.seen.slice(registered).find(({ raw }) => raw.startsWith("GET /reverse")),
  );
  machine.kill("SIGSTOP");
  await new Promise((resolve) => asking.socket.end(TOO_SLOW, () => resolve(undefined)));
  await first[Symbol.asyncDispose]();
  await using second = await start(first.port);
  machine.kill("SIGCONT");

  await second.registered();
  const rest = ask(second, "echo another", "a1.1", 4);
  await ask(second, "touch go", "a1.2", 0);
  const { status, body, trailers } = await replyOf(await rest);
  expect([status, body.toString(), trailers["process-state"]]).toEqual([200, "two\n", "ok"]);
  expect(machine.child.exitCode).toBe(null);
});

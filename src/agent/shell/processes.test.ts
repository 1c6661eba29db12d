import { mkdtemp, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as library from "@lydell/node-pty";
import { expect, onTestFinished, test } from "vitest";
import { minutes } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import type { Exit } from "../../wire/buildlet-api/shell.ts";
import { OutputPipes } from "../exec/output-pipe.ts";
import { systemClock } from "../system-clock.ts";
import { HELD_OUTPUT, inPipes, inPty, type ShellProcess } from "./processes.ts";
import type { PtyModule } from "./pty.ts";

const TERMINAL = { name: "xterm", columns: 80, rows: 24 };
/** The library closes a terminal so long after the end of its program. */
const CLOSED_AFTER_MS = 200;

/** Takes what a command says, which is held back from the first of it on. */
function listener() {
  const ended = Promise.withResolvers<Exit>();
  const first = Promise.withResolvers<void>();
  const exited = Promise.withResolvers<void>();
  const said = {
    ...{ out: "", takes: false, exits: 0 },
    ...{ ended: ended.promise, first: first.promise, exited: exited.promise },
  };
  const sink = {
    output(_: "data" | "errors", bytes: Buffer): boolean {
      said.out += bytes.toString();
      first.resolve();
      return said.takes;
    },
    exited() {
      said.exits++;
      exited.resolve();
    },
    ended: ended.resolve,
  };
  return { said, sink };
}

const sh = (command: string) => ({
  ...{ program: "/bin/sh", args: ["-c", command], dir: "/" },
  env: { PATH: process.env.PATH ?? "" },
});

function started(command: string) {
  const { said, sink } = listener();
  const pty = library as unknown as PtyModule;
  const running: ShellProcess = inPty(pty, sh(command), TERMINAL, systemClock, sink);
  return { running, said };
}

test.runIf(process.platform === "linux")(
  "a terminal gives all that was printed, also when it is read only long after the end",
  async () => {
    const { running, said } = started("yes | head -c 20000; echo the end");
    await said.first;
    // A terminal takes so much without being read, so the command ends; the library's time runs from there.
    await new Promise((resolve) => setTimeout(resolve, 3 * CLOSED_AFTER_MS));
    expect(said.out).not.toContain("the end");
    said.takes = true;
    running.resume();
    expect(await said.ended).toEqual({ code: 0, signal: null, problem: "" });
    expect(said.out.endsWith("the end\r\n")).toBe(true);
    expect(said.out.length).toBe(30_000 + "the end\r\n".length);
  },
);

test.runIf(process.platform === "linux")(
  "the end of a terminal's program is told at once, though what it printed is not read",
  async () => {
    const { running, said } = started("stty -echo; echo first; read line; echo the end");
    await said.first;
    running.write(Buffer.from("\n"));
    await said.exited;
    expect(said.out).not.toContain("the end");
    said.takes = true;
    running.resume();
    expect(await said.ended).toEqual({ code: 0, signal: null, problem: "" });
    expect([said.out, said.exits]).toEqual(["first\r\nthe end\r\n", 1]);
  },
);

test.runIf(process.platform === "linux")(
  "a program that closed its terminal has not ended, and its window may still change",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "closed-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const wait = (name: string) => `until [ -e ${folder}/${name} ]; do sleep 0.01; done`;
    const { running, said } = started(`trap '' HUP; echo up; exec <&- >&- 2>&-; ${wait("go")}; exit 3`);
    said.takes = true;
    await said.first;
    running.resume();
    // The library closes its end some time after it has read that there is nobody at the other.
    const terminals = async () => {
      const links = (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ""));
      return (await Promise.all(links)).filter((link) => link === "/dev/ptmx" || link === "/dev/pts/ptmx").length;
    };
    while ((await terminals()) > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(said.exits).toBe(0);
    running.resize(100, 30);
    await writeFile(join(folder, "go"), "");
    expect(await said.ended).toEqual({ code: 3, signal: null, problem: "" });
    expect(said.exits).toBe(1);
  },
);

test.runIf(process.platform === "linux")(
  "what a program does not read is held back, and holds up nobody else; it gets all of it",
  async () => {
    const { running, said } = started("stty raw -echo; echo ready; sleep 1; head -c 300000 | wc -c");
    said.takes = true;
    await said.first;
    running.resume();
    const began = performance.now();
    const typed = Buffer.alloc(300_000, "x");
    expect(running.write(typed)).toBe(false);
    expect(performance.now() - began).toBeLessThan(5000);
    await running.drained();
    expect((await said.ended).code).toBe(0);
    expect(said.out).toContain("300000");
  },
);

test("pipes give all that was printed, also when it is read only long after the end; what keeps them open is not waited for", async () => {
  const clock = new FakeClock();
  using pipes = new OutputPipes(process.platform);
  const { said, sink } = listener();
  const folder = await mkdtemp(join(tmpdir(), "pipes-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  // The rest is printed once the first of it was read, and held back: a busy computer would else read all of it at once.
  const rest = "echo bad >&2; sleep 600 & yes | head -c 40000; echo the end";
  const command = `echo $$; until [ -e ${folder}/go ]; do sleep 0.01; done; ${rest}`;
  const running = await inPipes(sh(command), pipes, clock, sink);
  await said.first;
  await writeFile(join(folder, "go"), "");
  const lives = () => {
    try {
      return process.kill(running.pid ?? 0, 0);
    } catch {
      return false;
    }
  };
  while (lives()) await new Promise((resolve) => setTimeout(resolve, 5));
  await clock.advance(minutes(5));
  expect(said.out).not.toContain("the end");
  said.takes = true;
  running.resume();
  while (!said.out.includes("the end\n") || !said.out.includes("bad\n"))
    await new Promise((resolve) => setTimeout(resolve, 5));
  while (clock.sleeping === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  await clock.advance(HELD_OUTPUT);
  expect(await said.ended).toEqual({ code: 0, signal: null, problem: "" });
  expect(said.out.length).toBe(40_000 + `${running.pid}\nbad\nthe end\n`.length);
  if (running.pid !== undefined) process.kill(-running.pid, "SIGKILL"); // what it left
});

test("input that a command never reads is held back while it runs, and nothing of it is left when it has ended", async () => {
  const pipes = new OutputPipes(process.platform);
  const before = (await readdir("/proc/self/fd").catch(() => [])).length;
  const { said, sink } = listener();
  said.takes = true;
  const running = await inPipes(sh("sleep 600 & exec sleep 600"), pipes, systemClock, sink);
  expect(running.write(Buffer.alloc(5_000_000))).toBe(false);
  running.end();
  const drained = running.drained();
  const pid = running.pid ?? 0;
  process.kill(pid, "SIGTERM");
  await drained;
  process.kill(-pid, "SIGKILL"); // what it left
  expect(await said.ended).toEqual({ code: null, signal: "TERM", problem: "" });
  pipes[Symbol.dispose]();
  expect((await readdir("/proc/self/fd").catch(() => [])).length).toBe(before);
});

test("a program that there is not is told of by its errno, and no pipe is left open", async () => {
  const pipes = new OutputPipes(process.platform);
  const { sink } = listener();
  const before = (await readdir("/proc/self/fd").catch(() => [])).length;
  const nowhere = { ...sh(""), program: "/no/such/program" };
  await expect(inPipes(nowhere, pipes, systemClock, sink)).rejects.toThrow("ENOENT");
  pipes[Symbol.dispose]();
  expect((await readdir("/proc/self/fd").catch(() => [])).length).toBe(before);
});

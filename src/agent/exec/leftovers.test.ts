import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { until } from "../../farm/testing/until.ts";
import { systemClock } from "../system-clock.ts";
import { running } from "../testing/processes.ts";
import { Commands } from "./commands.ts";
import { choose, leaderEnded, type Row } from "./linux-processes.ts";

const never = new AbortController().signal;
const env = { PATH: process.env.PATH ?? "" };
const SILENT = ">/dev/null 2>&1 </dev/null";

let folder: string;
let stack: AsyncDisposableStack;
beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await mkdtemp(join(tmpdir(), "leftovers-"));
  stack.defer(() => rm(folder, { recursive: true }));
});
afterEach(() => stack.disposeAsync());

/** Runs a shell script in `dir`; resolves with its state. */
function run(commands: Commands, dir: string, script: string, { signal = never } = {}): Promise<string> {
  const sink = { write: () => true, drained: () => new Promise<void>(() => {}) };
  return commands.run({ program: "/bin/sh", args: ["-c", script], dir, env }, sink, signal);
}

/** How long a `sleep` lasts that only one test starts; it ends with the test. */
let naps = 0;
function nap(): string {
  const word = `${3000 + naps++}.${process.pid}`;
  stack.defer(() => {
    for (const pid of running(word)) process.kill(Number(pid), "SIGKILL");
  });
  return word;
}

/** Somebody else's shell, which runs `script` in `dir`. */
function stranger(dir: string, script: string): void {
  const child = spawn("/bin/sh", ["-c", script], { cwd: dir, env, detached: true, stdio: "ignore" });
  stack.defer(() => void child.kill("SIGKILL"));
}

describe.runIf(process.platform === "linux")("on Linux", () => {
  for (const [what, how, dir] of [
    ["cleared its environment", (word: string) => `(env -i sleep ${word} ${SILENT} &)`, "/"],
    [
      "cleared its environment and began a session",
      (word: string) => `env -i setsid -f sleep ${word} ${SILENT}`,
      "work",
    ],
    ["runs from a folder below", (word: string) => `mkdir d; cd d; env -i setsid -f sleep ${word} ${SILENT}`, "work"],
    [
      "is a copied program that went elsewhere",
      (word: string) => `cp "$(command -v sleep)" nap; exec env -i -C / setsid -f "$PWD/nap" ${word} ${SILENT}`,
      "work",
    ],
  ] as const) {
    test(`what a command left that ${what} dies when the lease ends`, async () => {
      await using commands = new Commands(systemClock, process.platform, folder);
      const word = nap();
      expect(await run(commands, dir === "work" ? folder : dir, how(word))).toBe("ok");
      await until(() => running(word).length === 1);
      await commands.killLeftovers();
      await until(() => running(word).length === 0);
    });
  }

  test("it dies also when it was looked for before, and when the agent ends", async () => {
    const commands = new Commands(systemClock, process.platform, folder);
    const words = [nap(), nap()];
    await run(commands, "/", `(env -i sleep ${words[0]} ${SILENT} &)`);
    await run(commands, folder, `env -i setsid -f sleep ${words[1]} ${SILENT}`);
    await until(() => words.every((word) => running(word).length === 1));
    await new Promise((resolve) => setTimeout(resolve, 100)); // in which the look that follows a command is over
    await commands[Symbol.asyncDispose]();
    await until(() => words.every((word) => running(word).length === 0));
  });

  test("a session that something of the lease led is remembered once its leader is gone", async () => {
    await using commands = new Commands(systemClock, process.platform, folder);
    const [daemon, left] = [nap(), nap()];
    await run(commands, "/", `setsid -f sh -c 'env -i sleep ${left} & exec sleep ${daemon}' ${SILENT}`);
    await until(() => running(daemon).length === 1 && running(left).length === 1);
    await new Promise((resolve) => setTimeout(resolve, 100)); // in which the look that follows a command is over
    for (const pid of running(daemon)) process.kill(Number(pid), "SIGKILL");
    await until(() => running(daemon).length === 0);
    expect(running(left)).toHaveLength(1);
    await commands.killLeftovers();
    await until(() => running(left).length === 0);
  });

  test("what is not the lease's lives on, of the same user, with the same environment, or looking at the work dir", async () => {
    await using commands = new Commands(systemClock, process.platform, folder);
    const [elsewhere, child, terminal, editor, left] = [nap(), nap(), nap(), nap(), nap()];
    stranger("/", `setsid -f sleep ${elsewhere}`);
    stranger(folder, `exec sleep ${child}`);
    stranger(folder, `DISPLAY=:0 setsid -f sleep ${editor}`);
    stranger(folder, `exec script -qfec 'sleep ${terminal} & (sleep ${terminal} &) ; wait' /dev/null`);
    await run(commands, folder, `env -i setsid -f sleep ${left} ${SILENT}`);
    await until(
      () =>
        running(terminal).length === 4 && [elsewhere, child, editor, left].every((word) => running(word).length === 1),
    );
    const before = [elsewhere, child, editor, terminal].map(running);
    await commands.killLeftovers();
    await until(() => running(left).length === 0);
    expect([elsewhere, child, editor, terminal].map(running)).toEqual(before);
  });

  test("a command that is just being killed is waited for, and is no reason to spare anybody", async () => {
    await using commands = new Commands(systemClock, process.platform, folder);
    const [left, busy] = [nap(), nap()];
    await run(commands, folder, `env -i setsid -f sleep ${left} ${SILENT}`);
    const kill = new AbortController();
    const ended = run(commands, "/", `exec sleep ${busy}`, { signal: kill.signal });
    await until(() => [left, busy].every((word) => running(word).length === 1));
    kill.abort(new Error("The client went away"));
    await commands.killLeftovers();
    expect(running(busy)).toEqual([]);
    await until(() => running(left).length === 0);
    expect(await ended).toBe("signal: killed");
  });

  test("while a command runs, nobody is taken for an ended one's for being in the work dir", async () => {
    await using commands = new Commands(systemClock, process.platform, folder);
    const [server, left, busy] = [nap(), nap(), nap()];
    await run(commands, folder, `(env -i sleep ${left} ${SILENT} &)`);
    const ended = run(commands, folder, `env -i setsid -f sleep ${server} ${SILENT}; exec sleep ${busy}`);
    await until(() => [server, left, busy].every((word) => running(word).length === 1));
    await commands.killLeftovers();
    await until(() => running(left).length === 0);
    await until(() => [server, busy].every((word) => running(word).length === 1)); // setsid itself may still be there for a moment
    await commands[Symbol.asyncDispose]();
    await ended;
    await until(() => running(server).length === 0);
  });
});

describe("the number of a session", () => {
  const row = (pid: number, session: number, started: number, parent = 1): Row => ({
    pid,
    parent,
    session,
    terminal: false,
    started,
  });
  const nobody = () => false;
  const session = leaderEnded({ id: 100, since: 50, until: Number.POSITIVE_INFINITY }, 200); // until 71

  test("is believed as long as somebody is in it who began while it was ours", () => {
    const rows = [row(101, 100, 60), row(102, 100, 900), row(103, 103, 950, 102), row(104, 5, 60)];
    expect(choose(rows, [session], new Set(), nobody, nobody)).toEqual({
      pids: [101, 102, 103],
      sessions: [
        { id: 100, since: 50, until: 900 },
        { id: 103, since: 950, until: 950 },
      ],
    });
  });

  test("is a stranger's when all in it are younger, or older", () => {
    const found = { pids: [], sessions: [] };
    expect(choose([row(100, 100, 80), row(101, 100, 90, 100)], [session], new Set(), nobody, nobody)).toEqual(found);
    expect(choose([row(101, 100, 40)], [session], new Set(), nobody, nobody)).toEqual(found);
  });

  test("means nothing when its leader was gone before it was looked at", () => {
    const unknown = { id: 100, since: Number.NaN, until: Number.POSITIVE_INFINITY };
    expect(choose([row(101, 100, 60)], [unknown], new Set(), nobody, nobody).pids).toEqual([]);
  });

  test("is not remembered for who is known by place alone", () => {
    expect(choose([row(101, 101, 60)], [], new Set(), nobody, () => true)).toEqual({ pids: [101], sessions: [] });
  });
});

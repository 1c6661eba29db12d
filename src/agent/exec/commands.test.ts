import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ms } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { Commands, HELD_PIPE } from "./commands.ts";

const never = new AbortController().signal;

/** Runs a shell script; `output` grows while it runs. */
function start(commands: Commands, script: string, write?: (chunk: Buffer) => boolean) {
  const output: string[] = [];
  const sink = {
    write: (chunk: Buffer) => {
      output.push(chunk.toString());
      return write?.(chunk) ?? true;
    },
    drained: () => new Promise<void>(() => {}),
  };
  const env = { PATH: process.env.PATH ?? "" };
  const ended = commands.run({ program: "/bin/sh", args: ["-c", script], dir: "/", env }, sink, never);
  return { output, ended };
}

function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

test("a descendant that keeps the output open is waited for while it writes, and killed once it has been silent", async () => {
  const clock = new FakeClock();
  await using commands = new Commands(clock, process.platform, "/nowhere");
  const { output, ended } = start(commands, "sleep 300 & echo $!");
  await until(() => clock.sleeping === 1);
  const pid = Number(output.join(""));
  await clock.advance(ms(HELD_PIPE - 1));
  expect(isAlive(pid)).toBe(true);
  await clock.advance(ms(1));
  expect([await ended, isAlive(pid)]).toEqual(["ok", false]);
});

test("a command whose reader is behind is not taken for silent", async () => {
  const clock = new FakeClock();
  await using commands = new Commands(clock, process.platform, "/nowhere");
  const { ended } = start(commands, "echo x; sleep 300 & ", () => false);
  await until(() => clock.sleeping === 1);
  await clock.advance(ms(HELD_PIPE * 3));
  let over = false;
  void ended.then(() => {
    over = true;
  });
  await until(() => clock.sleeping === 1);
  expect(over).toBe(false);
});

test("without mkfifo, output comes through two pipes", async () => {
  const path = process.env.PATH;
  process.env.PATH = "/nowhere";
  try {
    await using commands = new Commands(new FakeClock(), process.platform, "/nowhere");
    const { output, ended } = start(commands, "echo out; echo err >&2; exit 4");
    expect([await ended, output.join("").split("\n").sort()]).toEqual(["exit status 4", ["", "err", "out"]]);
  } finally {
    process.env.PATH = path;
  }
});

test("disposing ends what runs", async () => {
  const commands = new Commands(new FakeClock(), process.platform, "/nowhere");
  const { output, ended } = start(commands, "echo $$; sleep 300");
  await until(() => output.length > 0);
  await commands[Symbol.asyncDispose]();
  expect([await ended, isAlive(Number(output.join("")))]).toEqual(["signal: killed", false]);
});

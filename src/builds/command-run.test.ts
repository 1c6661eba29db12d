import { expect, test } from "vitest";
import { FarmError } from "../farm/errors.ts";
import { machineId, minutes, ms, seconds, sessionId } from "../farm/ids.ts";
import { FakeClock } from "../farm/testing/fake-clock.ts";
import type { Execution } from "../machines/machine-session.ts";
import { type CommandRun, runCommand } from "./command-run.ts";
import type { BuildClient, BuildMachine, Command } from "./machine.ts";

const never = new AbortController().signal;
const COMMAND = { cmd: "make", args: [], dir: "src", env: [], path: [] };

type Exec = BuildClient["exec"];

/** A machine whose calls to exec are answered by `answers`, one after the other. `asked` has the requests. */
function machineOf(answers: readonly Exec[], resumes = true) {
  const asked: (Pick<Execution, "id" | "from"> | undefined)[] = [];
  const ended: string[] = [];
  const gone = new AbortController();
  const unused = () => Promise.reject(new Error("not asked for"));
  const client: BuildClient = {
    writeFile: unused,
    ls: unused,
    readTgz: unused,
    readFiles: unused,
    removeAll: unused,
    cleanUp: unused,
    writeTgz: unused,
    writeTgzFromUrl: unused,
    workDir: unused,
    exec: (command: Command, onOutput, signal) => {
      const { execution } = command;
      asked.push(execution && { id: execution.id, from: execution.from });
      return (answers[asked.length - 1] ?? unused)(command, onOutput, signal);
    },
    readSnapshot: () => Promise.reject(new Error("not asked for")),
    endExecution: async (id) => void ended.push(id),
  };
  const machine: BuildMachine = {
    id: sessionId("s"),
    machineId: machineId(1),
    name: "m1",
    agent: "barnraiser",
    resumes,
    client,
    gone: gone.signal,
  };
  return { machine, asked, ended, gone };
}

function runOf(machine: BuildMachine, over: Partial<CommandRun> = {}) {
  let log = "";
  const writer = {
    write: async (chunk: Buffer) => {
      log += chunk.toString();
    },
  };
  const limits = { time: minutes(60), silence: minutes(10) };
  const run: CommandRun = {
    machine,
    command: COMMAND,
    id: "a7.1",
    from: 0,
    writer,
    limits,
    what: 'step "make"',
    ...over,
  };
  return { run, log: () => log };
}

const says =
  (text: string, end: "ok" | "cut" | "hang"): Exec =>
  async (_command, onOutput, signal) => {
    await onOutput(Buffer.from(text));
    if (end === "cut") throw new FarmError("machine-gone", "broke off");
    if (end === "hang")
      await new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    return { state: "ok", ok: true };
  };

test("runCommand() goes on from the byte that the log has when only the connection broke", async () => {
  const clock = new FakeClock();
  const { machine, asked, ended } = machineOf([says("one ", "cut"), says("two ", "cut"), says("three", "ok")]);
  const { run, log } = runOf(machine, { from: 100 });
  const ran = runCommand(clock, run, never);
  for (let cuts = 1; cuts <= 2; cuts++) await clock.advance(seconds(1));
  expect(await ran).toMatchObject({ state: "ok", ok: true, stopped: false, unbroken: false });
  expect(log()).toBe("one two three");
  expect(asked).toEqual([
    { id: "a7.1", from: 100 },
    { id: "a7.1", from: 104 },
    { id: "a7.1", from: 108 },
  ]);
  expect(ended).toEqual([]);
});

test("runCommand() says for how long a command ran that ended while nobody listened, and what it had printed by then", async () => {
  const clock = new FakeClock();
  const attached =
    (age: number, length: number, answer: Exec): Exec =>
    (command, ...rest) => {
      command.execution?.began?.(ms(age), length);
      return answer(command, ...rest);
    };
  const { machine } = machineOf([attached(0, 0, says("one ", "cut")), attached(150, 9, says("two three", "ok"))]);
  const taken: number[] = [];
  const ran = runCommand(clock, runOf(machine, { takenUp: (length) => taken.push(length) }).run, never);
  await clock.advance(ms(1)); // it was cut
  await clock.advance(seconds(30));
  expect(await ran).toMatchObject({ ok: true, durationMs: 150, unbroken: false });
  expect(taken).toEqual([0, 9]);
});

test("runCommand() gives up a machine that is there and never lets a command be followed", async () => {
  const clock = new FakeClock();
  const { machine, asked } = machineOf(Array.from({ length: 20 }, () => says("", "cut")));
  const ran = runCommand(clock, runOf(machine).run, never);
  ran.catch(() => {});
  for (let cuts = 0; cuts < 10; cuts++) await clock.advance(minutes(1));
  await expect(ran).rejects.toMatchObject({ code: "machine-gone" });
  expect(asked.length).toBe(7);
});

test("runCommand() names no execution to a machine that does not resume, and does not ask it twice", async () => {
  const { machine, asked } = machineOf([says("one", "cut")], false);
  await expect(runCommand(new FakeClock(), runOf(machine).run, never)).rejects.toMatchObject({ code: "machine-gone" });
  expect(asked).toEqual([undefined]);
});

test("runCommand() stops a command that is silent for too long, and says for how long", async () => {
  const clock = new FakeClock();
  const { machine, ended } = machineOf([says("working\n", "hang")]);
  const { run, log } = runOf(machine);
  const ran = runCommand(clock, run, never);
  await clock.advance(ms(1)); // it has printed
  await clock.advance(minutes(10));
  const state = "timed out: it printed nothing for 10m 00s";
  const durationMs = minutes(10) + 1;
  expect(await ran).toEqual({ state, ok: false, stopped: true, durationMs, unbroken: true });
  expect(log()).toBe(`working\n\nbarnraiser: step "make" was stopped: ${state}\n`);
  expect(ended).toEqual(["a7.1"]);
});

test("runCommand() does not take a command for silent while its output cannot be stored", async () => {
  const clock = new FakeClock();
  const stored = Promise.withResolvers<void>();
  const { machine } = machineOf([says("working\n", "hang")]);
  const { run } = runOf(machine, { writer: { write: () => stored.promise } });
  let over = false;
  const ran = runCommand(clock, run, never).finally(() => {
    over = true;
  });
  await clock.advance(minutes(25));
  expect(over).toBe(false);
  stored.resolve();
  await clock.advance(minutes(20));
  expect(await ran).toMatchObject({ stopped: true });
});

test("runCommand() counts the time that a command ran before it was taken up, and what its build has left", async () => {
  const clock = new FakeClock();
  const older: Exec = (command, onOutput, signal) => {
    command.execution?.began?.(minutes(59), 0);
    return says("working\n", "hang")(command, onOutput, signal);
  };
  const { machine } = machineOf([older, says("", "hang")]);
  const first = runCommand(clock, runOf(machine).run, never);
  await clock.advance(minutes(1));
  expect(await first).toMatchObject({ state: "timed out after 1h 00m", stopped: true });
  const build = { endsAt: clock.monotonic() + 5000, limit: minutes(90) };
  const limits = { time: minutes(60), silence: minutes(10), build };
  const second = runCommand(clock, runOf(machine, { limits }).run, never);
  await clock.advance(ms(5000));
  expect(await second).toMatchObject({ state: "timed out: its build has 1h 30m", stopped: true });
});

test("runCommand() kills what is canceled, and leaves alone what another may take up", async () => {
  for (const [reason, ends] of [
    [new FarmError("canceled", "canceled"), ["a7.1"]],
    [new FarmError("unavailable", "the coordinator was stopped"), []],
    [new FarmError("lease-lost", "the build was taken back"), []],
  ] as const) {
    const stop = new AbortController();
    const { machine, ended } = machineOf([says("", "hang")]);
    const ran = runCommand(new FakeClock(), runOf(machine).run, stop.signal);
    stop.abort(reason);
    await expect(ran).rejects.toBe(reason);
    expect(ended).toEqual(ends);
  }
});

test("runCommand() ends when the log takes no more", async () => {
  const full = new FarmError("lease-lost", "the log was ended");
  const { machine, ended } = machineOf([says("more", "hang")]);
  const { run } = runOf(machine, { writer: { write: () => Promise.reject(full) } });
  await expect(runCommand(new FakeClock(), run, never)).rejects.toBe(full);
  expect(ended).toEqual([]);
});

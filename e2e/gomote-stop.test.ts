/** `gomote` that is told to stop, and other programs that find instances through it, with the system's own ssh (Debian: openssh-client, rsync). */
import { type ChildProcessByStdio, execFile, spawn } from "node:child_process";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Computer, LentFarm, TYPE } from "./testing/lent-farm.ts";
import { processesWith, until } from "./testing/process.ts";

const MUCH = 50_000_000;
const LIMIT_MS = 60_000;

let farm: LentFarm;
let computer: Computer;
let id = "";

beforeAll(async () => {
  farm = await LentFarm.start({ flags: ["-listen-ssh", "localhost:0"] });
  computer = await Computer.loggedIn(farm);
  id = (await computer.gomote(["create", TYPE])).stdout.trim();
}, 180_000);

afterAll(async () => {
  await farm?.[Symbol.asyncDispose]();
});

/** `gomote` as somebody types it whose terminal takes what it prints as slowly as they like. */
class Typed implements Disposable {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<number | NodeJS.Signals>;
  errors = "";

  constructor(argv: readonly string[], path = "") {
    const env = { ...process.env, ...computer.env, PATH: `${path}${process.env.PATH}` };
    const words = [computer.program, ...argv];
    this.child = spawn(process.execPath, words, { env, cwd: computer.cwd, stdio: ["ignore", "pipe", "pipe"] });
    this.child.stderr.setEncoding("utf8").on("data", (text) => {
      this.errors += text;
    });
    this.ended = new Promise((resolve) => this.child.once("exit", (code, signal) => resolve(signal ?? code ?? 0)));
  }

  /** Reads only so much. */
  async reads(bytes: number): Promise<void> {
    let read = 0;
    for await (const chunk of this.child.stdout.iterator({ destroyOnReturn: false })) {
      read += (chunk as Buffer).length;
      if (read >= bytes) return;
    }
    throw new Error(`It ended after ${read} bytes: ${this.errors}`);
  }

  [Symbol.dispose](): void {
    this.child.kill("SIGKILL");
  }
}

async function gone(word: string): Promise<void> {
  let left: readonly string[] = [];
  const none = async () => {
    left = await processesWith(word);
    return left.length === 0;
  };
  await until(none, LIMIT_MS, () => `the end of ${left.join("\n")}`);
}

/** A program that finds `gomote` in its PATH. */
function ran(program: string, args: readonly string[]): Promise<{ error: Error | null; out: string }> {
  const env = { ...process.env, ...computer.env, PATH: `${dirname(computer.program)}:${process.env.PATH}` };
  return new Promise((resolve) => {
    const options = { env, cwd: computer.cwd, timeout: LIMIT_MS };
    execFile(program, [...args], options, (error, stdout, stderr) => resolve({ error, out: stdout + stderr }));
  });
}

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)(
  "%s ends a run in the middle of much output that nobody reads with %i",
  { timeout: 120_000 },
  async (signal, status) => {
    using typed = new Typed(["run", "-system", id, "head", "-c", String(MUCH), "/dev/zero"]);
    await typed.reads(1_000_000);
    typed.child.kill(signal);
    expect(await typed.ended).toBe(status);
    expect(typed.errors).toBe("# stopping; once more to leave at once\n");
  },
);

test("a reader that takes its time gets all of much output", { timeout: 120_000 }, async () => {
  using typed = new Typed(["run", "-system", id, "head", "-c", String(MUCH), "/dev/zero"]);
  let [bytes, rest] = [0, 0];
  for await (const chunk of typed.child.stdout) {
    bytes += (chunk as Buffer).length;
    if (bytes < rest) continue;
    rest = bytes + 5_000_000;
    await setTimeout(100);
  }
  expect([await typed.ended, bytes, typed.errors]).toEqual([0, MUCH, ""]);
});

test("SIGTERM ends gomote ssh, the ssh that it runs, and the command there", { timeout: 120_000 }, async () => {
  using typed = new Typed(["ssh", id, "echo on; exec sleep 4441"]);
  await typed.reads(1);
  typed.child.kill("SIGTERM");
  expect(await typed.ended).toBe(143);
  await gone(`${id}@`);
  await gone("sleep\x004441");
});

test("an ssh that does not end is killed by the second signal", { timeout: 120_000 }, async () => {
  const bin = join(computer.home, "bin");
  await mkdir(bin);
  await writeFile(join(bin, "ssh"), "#!/bin/sh\ntrap '' TERM\necho on\nwhile :; do sleep 0.1; done\n");
  await chmod(join(bin, "ssh"), 0o755);
  using typed = new Typed(["ssh", id], `${bin}:`);
  await typed.reads(1);
  typed.child.kill("SIGTERM");
  await until(
    () => typed.errors.includes("# stopping"),
    LIMIT_MS,
    () => typed.errors,
  );
  typed.child.kill("SIGTERM");
  expect(await typed.ended).toBe(143);
  await gone(`${id}@`);
});

test("scp, sftp and rsync find an instance by what gomote ssh -config printed, also when its certificate is old", {
  timeout: 120_000,
}, async () => {
  const { stdout, stderr } = await computer.gomote(["ssh", "-config", id]);
  expect(stderr).toBe("");
  await writeFile(join(computer.cwd, "ssh_config"), stdout);
  await writeFile(join(computer.cwd, "here"), "hello\n");
  // As long after: nothing is left that lets anybody in.
  const [, certificate = ""] = /CertificateFile "(.*)"/.exec(stdout) ?? [];
  await writeFile(certificate, "");
  expect(await ran("scp", ["-F", "ssh_config", "here", `${id}:there`])).toMatchObject({ error: null });
  expect((await ran("ssh", ["-F", "ssh_config", id, "cat there"])).out).toBe("hello\n");
  expect(await ran("rsync", ["-e", "ssh -F ssh_config", "here", `${id}:rsynced`])).toMatchObject({ error: null });
  await writeFile(join(computer.cwd, "batch"), "get rsynced back\n");
  expect(await ran("sftp", ["-F", "ssh_config", "-b", "batch", id])).toMatchObject({ error: null });
  expect(await readFile(join(computer.cwd, "back"), "utf8")).toBe("hello\n");
  expect(await ran("rsync", ["-e", "gomote ssh", "here", `${id}:again`])).toMatchObject({ error: null });
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { expect, onTestFinished, test, vi } from "vitest";
import { connectionOf, EmbeddedServer, sharedBuffers } from "./embedded-server.ts";
import { systemClock } from "./system-clock.ts";
import { quiet } from "./testing/database.ts";
import { reachableFolder } from "./testing/reachable-folder.ts";

async function temporary(): Promise<string> {
  const folder = await reachableFolder(join(tmpdir(), "barnraiser-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

/**
 * Runs a program that starts the server of `data`, and kills the program once the server runs. Returns the server's
 * process id.
 */
async function killedCoordinator(data: string, settings: Record<string, string> = {}): Promise<number> {
  const room = new URL(".", import.meta.url).href;
  const script = join(data, "coordinator.ts");
  await writeFile(
    script,
    `import { EmbeddedServer } from "${room}embedded-server.ts";
import { systemClock } from "${room}system-clock.ts";
const log = { debug() {}, info() {}, warn() {}, error() {} };
const server = await EmbeddedServer.start({ data: ${JSON.stringify(data)}, clock: systemClock, log, settings: ${JSON.stringify(settings)} });
process.stdout.write(String(server.pid));
setInterval(() => {}, 1000);
`,
  );
  const child = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "exit");
  return Number(said);
}

function start(data: string, settings: Record<string, string> = {}): Promise<EmbeddedServer> {
  return EmbeddedServer.start({ data, clock: systemClock, log: quiet, settings });
}

async function ask(server: EmbeddedServer, text: string): Promise<unknown[]> {
  const client = new pg.Client(server.connection);
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

const lives = (pid: number) =>
  readFile(`/proc/${pid}/cmdline`, "utf8").then(
    (line) => line !== "",
    () => false,
  );

test.runIf(process.platform === "linux")(
  "the server of a coordinator that was killed is taken over: it goes on, is started again when it dies, and stops with its new owner",
  async () => {
    const data = await temporary();
    const left = await killedCoordinator(data);
    expect(await lives(left)).toBe(true);
    {
      await using server = await start(data);
      expect(server.pid).toBe(left);
      await ask(server, "create table kept (n integer)");
      process.kill(left, "SIGKILL");
      await vi.waitFor(async () => expect(await ask(server, "select n from kept")).toEqual([]), 30_000);
      expect(server.pid).not.toBe(left);
    }
    const again = await killedCoordinator(data);
    {
      await using server = await start(data);
      expect(server.pid).toBe(again);
    }
    expect(await lives(again)).toBe(false);
  },
  60_000,
);

test("a server with other settings is stopped and started anew", async () => {
  const data = await temporary();
  const other = await killedCoordinator(data, { work_mem: "5MB" });
  {
    await using server = await start(data);
    expect(server.pid).not.toBe(other);
    expect([await lives(other), await ask(server, "show work_mem")]).toEqual([false, [{ work_mem: "4MB" }]]);
  }
}, 60_000);

test("the memory for database pages is an eighth of the computer's or container's, from 128 MB to 1 GB", async () => {
  const gigabyte = 2 ** 30;
  const sizes = [
    [gigabyte / 2, 0],
    [3.9 * gigabyte, 0],
    [8 * gigabyte, 0],
    [512 * gigabyte, 2 ** 64], // as Linux says that there is no limit
    [512 * gigabyte, 2 * gigabyte],
  ] as const;
  expect(sizes.map(([total, limit]) => sharedBuffers(total, limit))).toEqual([
    "128MB",
    "384MB",
    "1024MB",
    "1024MB",
    "256MB",
  ]);
  await using server = await start(await temporary());
  const expected = Number.parseInt(sharedBuffers(totalmem(), process.constrainedMemory()), 10) * 2 ** 20;
  const [shown] = await ask(server, "select pg_size_bytes(current_setting('shared_buffers'))::int as bytes");
  expect(shown).toEqual({ bytes: expected });
}, 60_000);

/**
 * Makes a backend of the server of `data` that notices nothing, as in the middle of a long sort. Returns its process
 * id.
 */
async function busyBackend(data: string): Promise<number> {
  const client = new pg.Client(await connectionOf(data));
  client.on("error", () => {});
  await client.connect();
  const { rows } = await client.query("select pg_backend_pid() as pid");
  client.query("select count(*) from generate_series(1, 1000000000000)").catch(() => {});
  onTestFinished(() => client.end().catch(() => {}));
  return Number(rows[0]?.pid);
}

test.runIf(process.platform === "linux")(
  "what an old server left at work is waited for when both were killed, and the start says so",
  async () => {
    const data = await temporary();
    const server = await killedCoordinator(data);
    const backend = await busyBackend(data);
    process.kill(server, "SIGKILL");
    await vi.waitFor(async () => expect(await lives(server)).toBe(false));
    expect(await lives(backend)).toBe(true);
    const said: unknown[] = [];
    const log = { ...quiet, info: (...line: unknown[]) => said.push(line) };
    await using again = await EmbeddedServer.start({ data, clock: systemClock, log });
    expect([await lives(backend), await ask(again, "select 1 as one")]).toEqual([false, [{ one: 1 }]]);
    expect(said).toContainEqual([
      { pids: expect.arrayContaining([backend]) },
      expect.stringMatching(/^Waiting for processes/),
    ]);
  },
  60_000,
);

test.runIf(process.platform === "linux")(
  "a process of an old server that does not end is named when it was waited for in vain",
  async () => {
    const data = await temporary();
    const server = await killedCoordinator(data);
    const backend = await busyBackend(data);
    process.kill(backend, "SIGSTOP");
    process.kill(server, "SIGKILL");
    try {
      let passed = 0;
      const sleep = async (span: number) => {
        passed += span;
      };
      const clock = { ...systemClock, monotonic: () => passed, sleep };
      const log = quiet;
      await expect(EmbeddedServer.start({ data, clock, log })).rejects.toThrow(
        new RegExp(`Cannot start PostgreSQL in .*still run after 60 s \\(.*${backend}.*\\)`),
      );
    } finally {
      process.kill(backend, "SIGKILL");
    }
  },
  60_000,
);

test("the server of a coordinator that was killed together with it is started anew, with every commit", async () => {
  const data = await temporary();
  {
    await using server = await start(data);
    await ask(server, "create table kept (n integer)");
  }
  const both = await killedCoordinator(data);
  process.kill(both, "SIGKILL");
  await using server = await start(data);
  expect(server.pid).not.toBe(both);
  expect(await ask(server, "select n from kept")).toEqual([]);
}, 60_000);

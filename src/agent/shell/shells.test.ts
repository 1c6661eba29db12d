import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer as createHttpServer, IncomingMessage, type OutgoingHttpHeaders, request } from "node:http";
import { type AddressInfo, connect, createServer, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as readText } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { packPty } from "../../../scripts/pty-packages.ts";
import { seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { LEASE_GOES_ON, LEASE_HEADER } from "../../wire/buildlet-api/buildlet-api.ts";
import {
  type Exit,
  encodeShellFrame,
  type Opening,
  SHELL_PATH,
  SHELL_UPGRADE,
  type ShellFrame,
  type Started,
} from "../../wire/buildlet-api/shell.ts";
import { ShellLine } from "../../wire/buildlet-api/shell-line.ts";
import { encodeRequestHead, responseHeadReader } from "../../wire/revdial/http-head.ts";
import { attributes, packet, SftpReader, STATUS, TYPE, text, u32 } from "../../wire/sftp/sftp.ts";
import type { ApiDeps } from "../api/api-deps.ts";
import { Connections } from "../api/connections.ts";
import { systemClock } from "../system-clock.ts";

const LINUX = process.platform === "linux" && process.arch === "x64";
const TERMINAL = { name: "xterm-256color", columns: 80, rows: 24 };
const plain = { what: "shell", terminal: null, env: [] } as const;

/** One agent whose connections are made, instead of dialled. */
class World implements AsyncDisposable {
  readonly stack = new AsyncDisposableStack();
  workDir = "";
  port = 0;
  /** Requests for files of the farm. */
  readonly asked: string[] = [];
  connections: Connections | undefined;
  /** What the farm has; undefined: nothing. */
  serves: string | undefined;

  static async start(deps: Partial<ApiDeps> = {}): Promise<World> {
    const world = new World();
    const folder = await mkdtemp(join(tmpdir(), "shells-"));
    world.stack.defer(() => rm(folder, { recursive: true }));
    await packPty(folder);
    world.serves = folder;
    world.workDir = join(folder, "work");
    const files = createHttpServer(async (asked, response) => {
      world.asked.push(`${asked.method} ${asked.url}`);
      const path = join(world.serves ?? "/nowhere", asked.url ?? "");
      const found = await stat(path).catch(() => undefined);
      if (!found) return response.writeHead(404).end();
      const modified = new Date(Math.floor(found.mtimeMs / 1000) * 1000).toUTCString();
      response.writeHead(200, { "content-length": found.size, "last-modified": modified });
      if (asked.method === "HEAD") response.end();
      else createReadStream(path).pipe(response);
    });
    await new Promise<void>((resolve) => files.listen(0, "127.0.0.1", resolve));
    world.stack.defer(async () => {
      files.closeAllConnections();
      await new Promise((resolve) => files.close(resolve));
    });
    const agentFile = (name: string, method: "GET" | "HEAD"): Promise<IncomingMessage> =>
      new Promise((resolve, reject) => {
        const { port } = files.address() as AddressInfo;
        request({ port, host: "127.0.0.1", path: `/${name}`, method }, resolve)
          .once("error", reject)
          .end();
      });
    const connections = new Connections({
      workDir: world.workDir,
      clock: systemClock,
      platform: process.platform,
      system: "test-test",
      sshPort: 1,
      password: "",
      agentFile,
      cacheFolder: join(folder, "cache"),
      log: () => {},
      halt: () => {},
      disableOutboundNetwork: () => Promise.resolve(),
      ...deps,
    });
    world.connections = connections;
    const server = createServer({ noDelay: true }, (socket) => connections.accept(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    world.port = (server.address() as AddressInfo).port;
    world.stack.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
    world.stack.use(connections);
    return world;
  }

  /** A connection on which the machine switched; or what it answered instead. */
  async switched(upgrade = SHELL_UPGRADE): Promise<Socket | number> {
    const socket = connect(this.port, "127.0.0.1");
    socket.on("error", () => {});
    this.stack.defer(() => void socket.destroy());
    socket.write(
      encodeRequestHead("POST", SHELL_PATH, [
        ["Host", "m"],
        ["Connection", "Upgrade"],
        ["Upgrade", upgrade],
      ]),
    );
    const reader = responseHeadReader();
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      const read = reader.push(chunk);
      if (!read) continue;
      if (read.rest.length > 0) socket.unshift(read.rest);
      return read.head.status === 101 ? socket : read.head.status;
    }
    throw new Error("It hung up");
  }

  async open(opening: Opening): Promise<Shell> {
    const socket = await this.switched();
    if (typeof socket === "number") throw new Error(`It answered ${socket}`);
    return new Shell(socket, opening);
  }

  async emptied(headers: OutgoingHttpHeaders = {}): Promise<string> {
    const asked = { port: this.port, path: "/removeall?path=.", method: "POST", headers };
    const answer = await new Promise<IncomingMessage>((resolve) => request(asked, resolve).end());
    return `${answer.statusCode} ${await readText(answer)}`;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

/** The coordinator's end of a shell. */
class Shell {
  readonly line: ShellLine;
  readonly socket: Socket;
  out = "";
  errors = "";
  started: Started | undefined;
  exit: Exit | undefined;
  bytes: Buffer[] = [];
  readonly closed: Promise<void>;
  #changed: () => void = () => {};

  constructor(socket: Socket, opening: Opening) {
    this.socket = socket;
    this.line = new ShellLine(socket);
    this.closed = new Promise((resolve) => {
      this.line.listen({
        frame: (frame) => this.#take(frame),
        closed: () => {
          resolve();
          this.#changed();
        },
      });
    });
    this.line.send({ kind: "open", opening });
  }

  type(keys: string): void {
    this.line.send({ kind: "data", bytes: Buffer.from(keys) });
  }

  /** Resolves once `holds`; the test's own limit is the limit. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        this.#changed = resolve;
      });
    }
  }

  #take(frame: ShellFrame): void {
    if (frame.kind === "data") {
      this.out += Buffer.from(frame.bytes).toString();
      this.bytes.push(Buffer.from(frame.bytes));
    }
    if (frame.kind === "errors") this.errors += Buffer.from(frame.bytes).toString();
    if (frame.kind === "started") this.started = frame.started;
    if (frame.kind === "exit") this.exit = frame.exit;
    this.#changed();
  }
}

let world: World;
beforeEach(async () => {
  world = await World.start();
});
afterEach(() => world[Symbol.asyncDispose]());

test("a command gets its input, keeps its two outputs apart, and tells its exit status", async () => {
  const shell = await world.open({ ...plain, command: "cat; pwd; echo bad >&2; echo $A; exit 7", env: ["A=B C"] });
  shell.type("hello\n");
  shell.line.send({ kind: "eof" });
  await shell.closed;
  expect([shell.out, shell.errors, shell.exit]).toEqual([
    `hello\n${world.workDir}\nB C\n`,
    "bad\n",
    { code: 7, signal: null, problem: "" },
  ]);
  expect(world.asked).toEqual([]); // no terminal, nothing to fetch
});

test.skipIf(process.platform === "win32")(
  "a command without a terminal may open its outputs anew, as scripts do, and they stay apart",
  async () => {
    const shell = await world.open({ ...plain, command: "echo out > /dev/stdout; echo bad | tee /dev/stderr" });
    await shell.closed;
    expect([shell.out, shell.errors, shell.exit?.code]).toEqual(["out\nbad\n", "bad\n", 0]);
  },
);

test.runIf(process.platform === "linux").each([
  ["cat /dev/stdin", "some words\n", "some words\n"],
  ["bash /dev/stdin", "echo a script\n", "a script\n"],
  ["cat; cat /dev/stdin; echo the end", "words\n", "words\nthe end\n"], // opened when nobody writes any more
])("a command without a terminal may open its input anew: %s", async (command, input, output) => {
  const shell = await world.open({ ...plain, command });
  shell.type(input);
  shell.line.send({ kind: "eof" });
  await shell.closed;
  expect([shell.out, shell.errors, shell.exit?.code]).toEqual([output, "", 0]);
});

test.skipIf(process.platform === "win32")(
  "megabytes of input arrive whole, and what is not read holds nobody up",
  async () => {
    for (const [command, counted] of [
      ["cat | wc -c", 5_000_000],
      ["exec 0</dev/null; echo 0", 0],
    ] as const) {
      const shell = await world.open({ ...plain, command });
      shell.line.send({ kind: "data", bytes: Buffer.alloc(5_000_000) });
      shell.line.send({ kind: "eof" });
      await shell.closed;
      expect([Number(shell.out), shell.exit?.code]).toEqual([counted, 0]);
    }
  },
);

test("a command has the environment of /exec, and nothing that is the agent's business only", async () => {
  process.env.GO_BUILD_KEY_PATH = "/secret";
  const shell = await world.open({ ...plain, command: "env" });
  await shell.closed;
  delete process.env.GO_BUILD_KEY_PATH;
  expect(shell.out).toContain(`GOCACHE=${world.workDir}/gocache\n`);
  expect(shell.out).toContain(`WORKDIR=${world.workDir}\n`);
  expect(shell.out).not.toContain("/secret");
});

test.runIf(LINUX)(
  "[gomote 43] a terminal echoes, knows its size and hears of a new one; its package is fetched once",
  async () => {
    const shell = await world.open({ ...plain, command: null, terminal: TERMINAL });
    shell.type("stty size; echo $TERM; tty\n");
    await shell.until(() => /24 80\r\nxterm-256color\r\n\/dev\/pts/.test(shell.out));
    shell.line.send({ kind: "resize", columns: 132, rows: 50 });
    shell.type("stty size\n");
    await shell.until(() => shell.out.includes("50 132"));
    shell.type("exit 3\n");
    await shell.closed;
    expect([shell.started, shell.exit]).toEqual([
      { terminal: "pty", note: "" },
      { code: 3, signal: null, problem: "" },
    ]);
    const second = await world.open({ ...plain, command: "test -t 0", terminal: TERMINAL });
    await second.closed;
    expect(second.exit?.code).toBe(0);
    const name = `/pty-${process.platform}-${process.arch}.tgz`;
    expect(world.asked).toEqual([`HEAD ${name}`, `GET ${name}`]);
  },
);

test.runIf(LINUX)("where the farm has no package for the platform, script(1) stands in, and says so", async () => {
  world.serves = undefined;
  const shell = await world.open({ ...plain, command: "test -t 1 && stty size; exit 5", terminal: TERMINAL });
  await shell.closed;
  expect(shell.started).toEqual({ terminal: "script", note: expect.stringContaining("script(1) stands in") });
  expect([shell.out.trim(), shell.exit]).toEqual(["24 80", { code: 5, signal: null, problem: "" }]);
});

test("signals reach the command and what it started; how it ended is told", async () => {
  const shell = await world.open({ ...plain, command: "sleep 100 & echo up; wait" });
  await shell.until(() => shell.out === "up\n");
  shell.line.send({ kind: "signal", signal: "TERM" });
  await shell.closed;
  expect(shell.exit).toEqual({ code: null, signal: "TERM", problem: "" });
});

const lives = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

test.runIf(LINUX).each(["connection", "lease"])("a shell and all that it started die with the %s", async (what) => {
  const { workDir } = world;
  await world.emptied(); // as before each lease
  const shell = await world.open({ ...plain, command: null, terminal: TERMINAL });
  shell.type("SHELL_PID=$$ setsid sh -c 'echo pids $$ $SHELL_PID end; exec sleep 1000' &\n");
  await shell.until(() => /pids \d+ \d+ end/.test(shell.out));
  const pids = (/pids (\d+) (\d+) end/.exec(shell.out) ?? []).slice(1).map(Number);
  expect(pids.map(lives)).toEqual([true, true]);
  await world.emptied({ [LEASE_HEADER]: LEASE_GOES_ON }); // as `gomote rm .` of whoever types
  expect(pids.map(lives)).toEqual([true, true]);
  if (what === "connection") shell.socket.destroy();
  else await world.emptied();
  await shell.closed;
  const end = performance.now() + 10_000;
  while (pids.some(lives) && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(pids.map(lives)).toEqual([false, false]);
  if (what === "lease") expect(await stat(join(workDir, "x")).catch(() => "empty")).toBe("empty");
});

test.runIf(LINUX)(
  "what a shell left dies with the lease, though it cleared its environment and began a session",
  async () => {
    const daemon = "env -i setsid -f sh -c 'echo pid $$ end; exec sleep 1000 >/dev/null 2>&1'";
    const command = `(env -i sleep 1000 >/dev/null 2>&1 & echo pid $! end); ${daemon}`;
    const shell = await world.open({ ...plain, command });
    await shell.closed;
    const pids = [...shell.out.matchAll(/pid (\d+) end/g)].map(([, pid]) => Number(pid));
    expect(pids).toHaveLength(2);
    await world.emptied();
    const end = performance.now() + 10_000;
    while (pids.some(lives) && performance.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(pids.map(lives)).toEqual([false, false]);
  },
);

test("a shell that does not end keeps the machine from the next one, who hears it, and holds up no other removal", async () => {
  const clock = new FakeClock();
  const { promise: fetched, resolve: fetch } = Promise.withResolvers<IncomingMessage>();
  await using hung = await World.start({ clock, agentFile: () => fetched });
  const shell = await hung.open({ ...plain, command: null, terminal: TERMINAL });
  const asleep = clock.sleeping;
  for (const _ of [1, 2]) {
    const emptied = [hung.emptied(), hung.emptied({ [LEASE_HEADER]: LEASE_GOES_ON })];
    while (clock.sleeping < asleep + 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await clock.advance(seconds(20));
    const refused = "500 Cannot give this machine to anybody else: ending shells took longer than 20 s\n";
    expect(await Promise.all(emptied)).toEqual([refused, "200 "]);
  }
  await shell.closed;
  fetch(Object.assign(new IncomingMessage(new Socket()), { statusCode: 404 }));
  expect(await hung.emptied()).toBe("200 ");
});

test.skipIf(process.platform === "win32")("a FIFO over SFTP is not waited for", async () => {
  await (await world.open({ ...plain, command: "mkfifo fifo" })).closed;
  const shell = await world.open({ what: "files" });
  const asked = (flags: number) => packet(TYPE.open, 9, text("fifo"), u32(flags), attributes({}));
  shell.line.send({ kind: "data", bytes: Buffer.concat([packet(TYPE.init, 3), asked(2), asked(1)]) });
  const seen = () => new SftpReader().push(Buffer.concat(shell.bytes)).map(({ type }) => type);
  await shell.until(() => seen().length === 3);
  expect(seen()).toEqual([TYPE.version, TYPE.status, TYPE.handle]);
  shell.line.destroy();
  expect(await world.emptied()).toBe("200 ");
});

test("a reader that stops holds the command back, and gets every byte", async () => {
  const shell = await world.open({ ...plain, command: "head -c 20000000 /dev/zero; echo end" });
  await shell.until(() => shell.bytes.length > 0);
  shell.line.pause();
  const before = shell.bytes.length;
  await new Promise((resolve) => setImmediate(resolve));
  expect(shell.bytes.length).toBe(before);
  shell.line.resume();
  await shell.closed;
  expect(Buffer.concat(shell.bytes).length).toBe(20_000_004);
});

test("forwards lead to the machine's loopback only", async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("data", (chunk) => socket.write(chunk.toString().toUpperCase()));
    socket.once("end", () => socket.end("bye"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const forward = await world.open({ what: "dial", host: "localhost", port });
  forward.type("hello ");
  forward.line.send({ kind: "eof" });
  await forward.closed;
  expect(forward.out).toBe("HELLO bye");
  server.close();
  for (const host of ["10.0.0.1", "0.0.0.0", "farm.example.org", "127.0.0.2", "::", "localhost.", ""]) {
    const refused = await world.open({ what: "dial", host, port });
    await refused.closed;
    expect(refused.exit?.problem).toMatch(/only to 127.0.0.1, ::1 and localhost/);
  }
});

test("what is no shell is refused, and a broken frame ends the connection", async () => {
  expect(await world.switched("websocket")).toBe(400);
  const socket = await world.switched();
  if (typeof socket === "number") throw new Error(`It answered ${socket}`);
  const gone = new Promise((resolve) => socket.once("close", resolve));
  socket.resume();
  socket.write(encodeShellFrame({ kind: "data", bytes: Buffer.from("before it was opened") }));
  await gone;
});

test("files are read, written, listed and renamed over SFTP; a relative path begins at the work dir", async () => {
  const shell = await world.open({ what: "files" });
  const reader = new SftpReader();
  let seen = 0;
  const ask = async (type: number, ...fields: readonly Uint8Array[]) => {
    shell.line.send({ kind: "data", bytes: packet(type, 9, ...fields) });
    for (;;) {
      await shell.until(() => shell.bytes.length > seen);
      const [answer] = reader.push(shell.bytes[seen++] ?? Buffer.alloc(0));
      if (answer) return answer;
    }
  };
  const zero = Buffer.alloc(8);
  expect((await ask(TYPE.init)).type).toBe(TYPE.version);
  await mkdir(join(world.workDir, "d"), { recursive: true });
  await writeFile(join(world.workDir, "d", "a"), "hello");
  const handle = (await ask(TYPE.open, text("d/b"), u32(2 | 8 | 16), attributes({ mode: 0o751 }))).bytes();
  expect((await ask(TYPE.write, text(handle), zero, text("world"))).u32()).toBe(STATUS.ok);
  expect((await ask(TYPE.close, text(handle))).u32()).toBe(STATUS.ok);
  expect(await readFile(join(world.workDir, "d", "b"), "utf8")).toBe("world");
  const again = (await ask(TYPE.open, text("d/a"), u32(1), attributes({}))).bytes();
  expect((await ask(TYPE.read, text(again), zero, u32(100))).text()).toBe("hello");
  const folder = (await ask(TYPE.opendir, text("d"))).bytes();
  const list = await ask(TYPE.readdir, text(folder));
  expect([list.u32(), list.text()]).toEqual([2, "a"]);
  expect((await ask(TYPE.readdir, text(folder))).u32()).toBe(STATUS.eof);
  expect((await ask(TYPE.rename, text("d/a"), text("d/b"))).u32()).toBe(STATUS.failure);
  expect((await ask(TYPE.stat, text("nowhere"))).u32()).toBe(STATUS.noSuchFile);
  const real = await ask(TYPE.realpath, text("."));
  expect([real.u32(), real.text()]).toEqual([1, world.workDir]);
  expect((await ask(99)).u32()).toBe(STATUS.unsupported);
});

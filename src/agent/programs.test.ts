/** The two programs as bundled, run as processes: exit codes, output, signals, and one starting the other. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { constants, getPriority, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as esbuild from "esbuild";
import { unpackTar } from "modern-tar";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeExecForm } from "../wire/buildlet-api/exec-form.ts";
import { packBeside } from "./api/pack-beside.ts";
import { OriginalCoordinator } from "./testing/original-coordinator.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
let dir = "";
let keyFile = "";

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "programs-"));
  keyFile = join(dir, "key");
  await writeFile(keyFile, "0123456789abcdef0123456789abcdef\n");
  await esbuild.build({
    absWorkingDir: root,
    entryPoints: { buildlet: "src/cmd/buildlet/main.ts", stage0: "src/cmd/stage0/main.ts" },
    outdir: dir,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node20",
  });
});
afterAll(() => rm(dir, { recursive: true }));

class Run {
  readonly child: ChildProcess;
  output = "";
  errors = "";
  readonly ended: Promise<number | string>;

  constructor(program: string, args: readonly string[], env: { readonly [name: string]: string } = {}) {
    this.child = spawn(process.execPath, [join(dir, program), ...args], {
      cwd: dir,
      env: { ...process.env, HOME: dir, ...env },
    });
    this.child.stdout?.on("data", (chunk) => {
      this.output += chunk;
    });
    this.child.stderr?.on("data", (chunk) => {
      this.errors += chunk;
    });
    this.ended = new Promise((resolve) => this.child.once("close", (code, signal) => resolve(code ?? signal ?? "")));
  }
}

const buildlet = (coordinator: OriginalCoordinator, ...flags: string[]) => {
  const common = [
    `-coordinator=127.0.0.1:${coordinator.port}`,
    "-reverse-type=host-test",
    "-halt=false",
    "-health-addr=127.0.0.1:0",
  ];
  return new Run("buildlet.mjs", [...common, ...flags], { TMPDIR: dir });
};

test("stage0 -version says what it is and asks nobody", async () => {
  const version = new Run("stage0.mjs", ["-version", "-coordinator=nowhere.invalid:1"]);
  expect([await version.ended, version.output]).toEqual([0, expect.stringMatching(/^stage0 \(\w+-\w+\)\nnode v/)]);
});

test("-version, -help and wrong flags", async () => {
  const [version, help, wrong] = [["-version"], ["-help"], ["-nope"]].map((args) => new Run("buildlet.mjs", args));
  expect([await version?.ended, version?.output]).toEqual([
    0,
    expect.stringMatching(/^buildlet version 29 \(\w+-\w+\)\nnode v\d+/),
  ]);
  expect([await help?.ended, help?.errors]).toEqual([0, expect.stringContaining("-reverse-type string")]);
  expect([await wrong?.ended, wrong?.errors]).toEqual([2, "flag provided but not defined: -nope\nTry -help.\n"]);
  const loud = new Run("stage0.mjs", ["-help"]);
  expect([await loud.ended, loud.errors]).toEqual([
    0,
    expect.stringContaining("-print-unit systemd|launchd|openrc|rc.d\n"),
  ]);
  expect(loud.errors).toMatch(/-halt\n.*Default: false with a host type \(reverse mode\), otherwise true\n/);
  expect(loud.errors).toMatch(/-workdir string\n.*The farm empties it before each build/);
});

test("[coordinator 23] [coordinator 24] the process exits 0 when the control connection closes, its commands dead", async () => {
  await using coordinator = await OriginalCoordinator.start();
  const run = buildlet(coordinator);
  await coordinator.registered();
  const headers = { "Content-Type": "application/x-www-form-urlencoded" };
  const form = {
    cmd: "/bin/sh",
    args: ["-c", `echo $$ > ${dir}/pid; sleep 300`],
    dir: "/",
    env: [],
    path: [],
    system: false,
    debug: false,
  };
  const response = await coordinator.open({ method: "POST", path: "/exec", headers }, encodeExecForm(form));
  response.on("error", () => {});
  await coordinator.until(() => existsSync(join(dir, "pid")));
  const group = Number(await readFile(join(dir, "pid"), "utf8"));
  coordinator.control?.end();
  expect(await run.ended).toBe(0);
  expect(() => process.kill(group, 0)).toThrow("ESRCH");
});

test("packBeside() packs in a process that lets everybody else run first; it ends with whoever reads, and tells why it cannot", async () => {
  const from = join(dir, "tree");
  await mkdir(from);
  for (let i = 0; i < 40; i++) await writeFile(join(from, `noise-${i}`), randomBytes(1024 * 1024));
  const program = join(dir, "buildlet.mjs");
  const children = () => readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").split(" ").filter(Boolean);
  const before = children();
  const reading = packBeside(program, { dir: from, exclude: ["noise-1*"] });
  await reading.next();
  const [child, ...others] = children().filter((pid) => !before.includes(pid));
  expect([getPriority(Number(child)), others]).toEqual([constants.priority.PRIORITY_BELOW_NORMAL, []]);
  await reading.return(undefined);
  const whole = await buffer(packBeside(program, { dir: from, exclude: ["noise-1*"] }));
  expect((await unpackTar(gunzipSync(whole))).length).toBe(29);
  await expect(buffer(packBeside(program, { dir: join(dir, "nowhere"), exclude: [] }))).rejects.toThrow("ENOENT");
  expect(children().filter((pid) => !before.includes(pid))).toEqual([]);
});

test("[coordinator 5] [coordinator 11] a refusal or a bad redirect is exit 1 with the reason as last line", async () => {
  await using coordinator = await OriginalCoordinator.start();
  coordinator.answer = () => "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 7\r\n\r\nbad key";
  const refused = buildlet(coordinator);
  expect([await refused.ended, refused.errors]).toEqual([
    1,
    expect.stringContaining("412 Precondition Failed: bad key"),
  ]);
  coordinator.answer = () =>
    "HTTP/1.1 307 Temporary Redirect\r\nLocation: https://evil.test/\r\nContent-Length: 0\r\n\r\n";
  const moved = buildlet(coordinator);
  expect([await moved.ended, moved.errors]).toEqual([
    1,
    expect.stringContaining("want a path without scheme and host"),
  ]);
});

test("[coordinator 49] /halt with -halt=false is answered at once and the process exits 0 about a second later", async () => {
  await using coordinator = await OriginalCoordinator.start();
  const run = buildlet(coordinator);
  await coordinator.registered();
  const began = performance.now();
  const reply = await coordinator.fetch({ method: "POST", path: "/halt" });
  expect([reply.status, reply.body.length, performance.now() - began < 900]).toEqual([200, 0, true]);
  expect(await run.ended).toBe(0);
  expect(performance.now() - began).toBeGreaterThan(900);
});

test("SIGTERM ends a buildlet with 143", async () => {
  await using coordinator = await OriginalCoordinator.start();
  const run = buildlet(coordinator);
  await coordinator.registered();
  run.child.kill("SIGTERM");
  expect(await run.ended).toBe(143);
});

test("a key file that is missing is exit 1, unless the coordinator is this machine", async () => {
  const run = new Run("buildlet.mjs", ["-coordinator=farm.test:8119", "-reverse-type=host-x"], { TMPDIR: dir });
  expect([await run.ended, run.errors]).toEqual([1, expect.stringContaining("Cannot find a builder key")]);
});

test("[coordinator 55] stage0 fetches the agent over verified TLS, becomes it, and ends as it does", async () => {
  await using coordinator = await OriginalCoordinator.start();
  const tls = dirname(coordinator.caFile);
  const [cert, key, agent] = await Promise.all(
    ["server.pem", "server-key.pem"]
      .map((name) => readFile(join(tls, name)))
      .concat(readFile(join(dir, "buildlet.mjs"))),
  );
  const files = createServer({ cert, key }, (request, response) => {
    const found = request.url === "/agents/buildlet.mjs";
    response.writeHead(found ? 200 : 404, {
      "Content-Length": agent?.length ?? 0,
      "Last-Modified": "Mon, 23 Nov 2026 17:00:05 GMT",
    });
    response.end(request.method === "HEAD" ? undefined : agent);
  });
  await new Promise<void>((resolve) => files.listen(0, "127.0.0.1", resolve));
  const work = await mkdtemp(join(tmpdir(), "stage0-"));
  const url = `https://127.0.0.1:${(files.address() as AddressInfo).port}/agents/buildlet.mjs`;
  const start = (...flags: string[]) => {
    const child = spawn(
      process.execPath,
      [
        join(dir, "stage0.mjs"),
        `-coordinator=127.0.0.1:${coordinator.port}`,
        "-reverse-type=host-test",
        "-health-addr=127.0.0.1:0",
        `-ca-file=${coordinator.caFile}`,
        ...flags,
      ],
      {
        cwd: work,
        env: {
          ...process.env,
          GO_BUILD_KEY_PATH: keyFile,
          TMPDIR: work,
          META_BUILDLET_BINARY_URL: url,
          NODE_EXTRA_CA_CERTS: coordinator.caFile,
        },
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors += chunk;
    });
    return {
      child,
      ended: new Promise<readonly [number | null, string]>((resolve) =>
        child.once("close", (code) => resolve([code, errors])),
      ),
    };
  };
  const good = start();
  await coordinator.registered();
  const command = (await readFile(`/proc/${good.child.pid}/cmdline`, "utf8")).split("\0");
  expect(command.includes(join(work, "buildlet.mjs"))).toBe(true); // stage0 is out of memory
  coordinator.control?.end();
  expect((await good.ended)[0]).toBe(0);
  coordinator.answer = () => "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n";
  expect((await start().ended)[0]).toBe(1);
  coordinator.answer = () => undefined;
  await new Promise((resolve) => files.close(resolve));
  files.closeAllConnections();
  const offline = start("-network-wait=1ms");
  await coordinator.registered();
  offline.child.kill("SIGTERM");
  expect(await offline.ended).toEqual([143, expect.stringContaining("starting the last good one")]);
  await rm(work, { recursive: true });
});

test("stage0 -print-unit prints a unit with absolute paths", async () => {
  const run = new Run("stage0.mjs", [
    "-print-unit",
    "systemd",
    "-coordinator=farm.test:8119",
    "-reverse-type=host-x",
    "-workdir=w",
  ]);
  expect([await run.ended, run.output]).toEqual([
    0,
    expect.stringContaining(`"${join(dir, "stage0.mjs")}" "-workdir=${join(dir, "w")}" "-reverse-type=host-x"`),
  ]);
});

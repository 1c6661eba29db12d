import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { httpGet } from "../../dial/http-get.ts";
import { parseFlags } from "../../farm/flags.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { checkFile } from "./download.ts";
import { planStage0, STAGE0_FLAGS } from "./settings.ts";
import { runLoop, runOnce, type Stage0Deps, type Stage0Settings } from "./stage0.ts";

const MODIFIED = "Mon, 23 Nov 2026 17:00:05 GMT";
const AGENT = "console.log('agent')\n";

class World implements AsyncDisposable {
  readonly asked: string[] = [];
  readonly log: string[] = [];
  readonly launched: (readonly [file: string, args: readonly string[], content: string])[] = [];
  readonly pauses: number[] = [];
  readonly clock = new FakeClock();
  readonly stop = new AbortController();
  readonly server = createServer((request, response) => {
    this.asked.push(`${request.method} ${request.url}`);
    this.answer(response, request.method ?? "");
  });
  answer = (response: ServerResponse, method: string): void => this.serve(response, method, AGENT);
  codes: number[] = [];
  settings: Stage0Settings = { url: "", file: "", args: ["-a=b"], networkWait: ms(0) };

  readonly deps: Stage0Deps = {
    clock: {
      now: () => this.clock.now(),
      monotonic: () => this.clock.monotonic(),
      sleep: async (span: Ms) => {
        this.pauses.push(span);
        await this.clock.advance(span);
      },
    },
    env: {},
    platform: "linux",
    uid: 0,
    log: (line) => this.log.push(line),
    get: (method, url) => httpGet(url, { method }),
    launch: async (file, args, env) => {
      this.launched.push([file, args, readFileSync(file, "utf8")]);
      this.env = env;
      const code = this.codes.shift() ?? 0;
      if (code === -1) this.stop.abort();
      return code;
    },
  };
  env: Stage0Deps["env"] = {};

  async open(): Promise<this> {
    await new Promise<void>((done) => this.server.listen(0, "127.0.0.1", done));
    const dir = await mkdtemp(join(tmpdir(), "stage0-test-"));
    const { port } = this.server.address() as AddressInfo;
    this.settings = {
      ...this.settings,
      url: `http://127.0.0.1:${port}/agents/buildlet.mjs`,
      file: join(dir, "buildlet.mjs"),
    };
    return this;
  }

  serve(
    response: ServerResponse,
    method: string,
    body: string,
    changes: { readonly [name: string]: string | undefined } = {},
  ): void {
    const digest = `sha-256=${createHash("sha256").update(body).digest("base64")}`;
    const headers = { "Content-Length": String(body.length), "Last-Modified": MODIFIED, Digest: digest, ...changes };
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) response.setHeader(name, value);
    response.end(method === "HEAD" ? undefined : body);
  }

  run(): Promise<0 | 1> {
    return runOnce(this.settings, this.deps, this.stop.signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((done) => this.server.close(done));
    await rm(join(this.settings.file, ".."), { recursive: true });
  }
}

let world: World;
beforeEach(async () => {
  world = await new World().open();
});
afterEach(() => world[Symbol.asyncDispose]());

const HEAD = "HEAD /agents/buildlet.mjs";
const GET = "GET /agents/buildlet.mjs";

test("[coordinator 53] only what changed is fetched; the file has the time of Last-Modified", async () => {
  const { file } = world.settings;
  expect([await world.run(), world.asked]).toEqual([0, [HEAD, GET]]);
  expect([readFileSync(file, "utf8"), statSync(file).mtime.toUTCString(), statSync(file).mode & 0o777]).toEqual([
    AGENT,
    MODIFIED,
    0o755,
  ]);
  world.asked.length = 0;
  expect([await world.run(), world.asked]).toEqual([0, [HEAD]]);
  for (const spoil of [() => utimes(file, 1000, 1000), () => writeFile(file, "other size"), () => rm(file)]) {
    await spoil();
    world.asked.length = 0;
    expect([await world.run(), world.asked, readFileSync(file, "utf8")]).toEqual([0, [HEAD, GET], AGENT]);
  }
  world.answer = (response, method) => world.serve(response, method, AGENT, { "Last-Modified": undefined });
  world.asked.length = 0;
  await world.run();
  expect(world.asked).toContain(GET);
});

test("a file of the right size and time but other content is fetched again when the server tells the digest", async () => {
  const { file } = world.settings;
  await world.run();
  const { mtime } = statSync(file);
  await writeFile(file, AGENT.toUpperCase());
  await utimes(file, mtime, mtime);
  world.asked.length = 0;
  expect([await world.run(), world.asked, readFileSync(file, "utf8")]).toEqual([0, [HEAD, GET], AGENT]);
});

test("[coordinator 54] a GET without Last-Modified is an error, tried three times in all with two seconds between", async () => {
  world.answer = (response, method) => world.serve(response, method, AGENT, { "Last-Modified": undefined });
  expect(await world.run()).toBe(1);
  expect([world.asked, world.pauses, world.launched]).toEqual([[HEAD, GET, HEAD, GET, HEAD, GET], [2000, 2000], []]);
  expect(world.log.at(-1)).toBe(
    `Cannot get the agent from ${world.settings.url}: the answer has no valid Last-Modified`,
  );
});

test("[coordinator 55] the exit code is 0 for 0 and 1 for any other, and nothing is started again", async () => {
  for (const [code, want] of [
    [0, 0],
    [1, 1],
    [7, 1],
  ] as const) {
    world.codes = [code];
    world.launched.length = 0;
    expect([await world.run(), world.launched.length]).toEqual([want, 1]);
  }
  expect([world.launched[0]?.[1], world.env.USER, world.env.HOME, world.env.GO_STAGE0_NET_DELAY]).toEqual([
    ["-a=b"],
    "root",
    "/root",
    "0s",
  ]);
});

test("a bad download leaves the last good agent, which is started, and that is said", async () => {
  await world.run();
  const bad: readonly ((response: ServerResponse, method: string) => void)[] = [
    (response, method) =>
      world.serve(response, method, "evil", { Digest: `sha-256=${Buffer.alloc(32).toString("base64")}` }),
    (response, method) => world.serve(response, method, "evil", { Digest: undefined, ETag: `"${"0".repeat(64)}"` }),
    (response) => response.writeHead(503).end("later"),
    (response, method) => (method === "HEAD" ? world.serve(response, method, "longer than it is") : response.destroy()),
  ];
  for (const answer of bad) {
    world.answer = answer;
    world.launched.length = 0;
    expect([await world.run(), world.launched[0]?.[2], existsSync(`${world.settings.file}.tmp`)]).toEqual([
      0,
      AGENT,
      false,
    ]);
    expect(world.log.at(-1)).toMatch(/; starting the last good one$/);
  }
});

test("a coordinator that is away is asked every second for 30 s; then the last good agent has to do", async () => {
  await world.run();
  const away: Stage0Deps = { ...world.deps, get: () => Promise.reject(new Error("connect ECONNREFUSED")) };
  expect(await runOnce(world.settings, away, world.stop.signal)).toBe(0);
  expect([world.pauses.length, world.pauses.every((pause) => pause === 1000), world.launched.length]).toEqual([
    30,
    true,
    2,
  ]);
  await rm(world.settings.file);
  expect(await runOnce({ ...world.settings, networkWait: seconds(5) }, away, world.stop.signal)).toBe(1);
  expect([world.pauses.length, world.launched.length]).toEqual([35, 2]);
});

test("offline, a last agent that is damaged is not started, and what is wrong is said; online it is fetched again", async () => {
  const { file } = world.settings;
  const away: Stage0Deps = { ...world.deps, get: () => Promise.reject(new Error("connect ECONNREFUSED")) };
  await world.run();
  const { mtime } = statSync(file);
  const damages: readonly (readonly [() => Promise<unknown>, string])[] = [
    [() => writeFile(file, AGENT.slice(0, 9)), `it has 9 of ${AGENT.length} bytes`],
    [() => writeFile(file, AGENT.toUpperCase()), "it does not have the SHA-256 that it was downloaded with"],
    [() => rm(`${file}.sha256`), "there is no digest to check it by"],
  ];
  world.answer = (response, method) => world.serve(response, method, AGENT, { Digest: undefined });
  for (const [damage, said] of damages) {
    await damage();
    await utimes(file, mtime, mtime);
    world.launched.length = 0;
    expect([await runOnce(world.settings, away, world.stop.signal), world.launched]).toEqual([1, []]);
    expect(world.log.at(-1)).toMatch(new RegExp(`; not starting the last one, which is damaged: ${said}$`));
    expect([await world.run(), world.launched[0]?.[2]]).toEqual([0, AGENT]);
  }
});

test("the power may go between digest and agent of an update", async () => {
  const { file } = world.settings;
  await world.run();
  world.answer = (response, method) => world.serve(response, method, "new");
  await world.run();
  expect(readFileSync(file, "utf8")).toBe("new");
  await writeFile(file, AGENT); // as if it had not been renamed yet
  expect(checkFile(file)).toBe("whole");
});

test("runLoop() starts again at once after a good run and with a doubling pause after bad ones", async () => {
  world.codes = [0, 1, 1, 1, 0, 1, ...Array(9).fill(1), -1];
  await runLoop(world.settings, world.deps, world.stop.signal);
  expect(world.pauses).toEqual([1, 1, 2, 4, 1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300].map((s) => s * 1000));
});

test("planStage0() passes the agent's flags on, absolute, with -halt=false unless told otherwise", () => {
  const plan = (argv: readonly string[], env = {}) => {
    const parsed = parseFlags("", STAGE0_FLAGS, argv);
    if (parsed.kind === "stop") throw new Error(parsed.text);
    const machine = { env, platform: "linux", uid: 1000 } as const;
    const { url, file, args, trust } = planStage0(parsed.values, parsed.given, machine, "/lib");
    return [url, file, args, trust.verify];
  };
  const flags = ["-coordinator=localhost:1", "-reverse-type=t", "-workdir=w", "-loop", "-network-wait=5s"];
  expect(plan(flags).slice(0, 3)).toEqual([
    "https://localhost:1/agents/buildlet.mjs",
    "/lib/buildlet.mjs",
    [`-workdir=${resolve("w")}`, "-reverse-type=t", "-coordinator=localhost:1", "-halt=false"],
  ]);
  expect(plan(["-reverse-type", "t", "-halt"])[2]).toEqual(["-halt=true", "-reverse-type=t"]);
  expect(plan([], { GO_BUILDER_ENV: "host-x" })[2]).toEqual(["-reverse-type=host-x", "-halt=false"]);
  expect(plan([], { META_BUILDLET_BINARY_URL: "https://a.test/buildlet.linux-amd64" }).slice(0, 2)).toEqual([
    "https://a.test/buildlet.linux-amd64", "/lib/buildlet.exe",
  ]); // biome-ignore format: a row
  const verify = (coordinator: string, env = {}) => plan([`-coordinator=${coordinator}`, "-reverse-type=t"], env)[3];
  const key = { GO_BUILD_KEY_PATH: "/k" };
  expect([verify("localhost:1"), verify("localhost:1", key), verify("farm.test:1", key), verify("farm.test:1")]).toEqual([
    false, true, true, true,
  ]); // biome-ignore format: a row
  expect(plan(["-coordinator=[::1]:8119"])[0]).toBe("https://[::1]:8119/agents/buildlet.mjs");
});

/** A day of an operator: a configuration that changes, breaks and is mended; rebuild, cancel, drain; a database that is killed. */
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Process, processesWith, until } from "./testing/process.ts";
import { Repository, temporaryFolder } from "./testing/repository.ts";

interface Farm {
  readonly data: string;
  readonly config: (builders: string) => Promise<void>;
  readonly coordinator: Process;
  readonly pages: string;
}

const HOST = "host-linux-amd64-local";

/** A running farm with this computer as its machine, on a repository with one commit. */
async function runningFarm(stack: AsyncDisposableStack, builders: string): Promise<Farm> {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const repository = stack.use(await Repository.make());
  await repository.commit("First");
  const file = join(folder, "farm.config.ts");
  const data = join(folder, "farm");
  const config = (list: string) =>
    writeFile(
      file,
      `export default { repos: [{ name: "app", url: ${JSON.stringify(repository.path)}, poll: "1s" }],
        hosts: [{ hostType: "${HOST}", pool: "local" }], builders: [${list}] };\n`,
    );
  await config(builders);
  const flags = ["-config", file, "-data", data, "-listen", "localhost:0", "-http", "localhost:0"];
  const coordinator = stack.use(Process.program("coordinator.js", flags));
  await coordinator.says(/The farm runs/);
  const { http } = JSON.parse(await readFile(join(data, "coordinator.json"), "utf8")) as { http: string };
  return { data, config, coordinator, pages: http };
}

function builder(name: string, command: string): string {
  return `{ name: "linux-amd64-${name}", host: "${HOST}", steps: [{ name: "${name}", command: ${JSON.stringify(command)} }] }`;
}

async function read(farm: Farm, path: string): Promise<string> {
  const response = await fetch(`${farm.pages}${path}`);
  return (await response.text()).replace(/<(script|style)[\s\S]*?<\/\1>/g, "").replace(/<[^>]*>/g, "");
}

async function shows(farm: Farm, path: string, pattern: RegExp): Promise<void> {
  await until(
    async () => pattern.test(await read(farm, path)),
    30_000,
    () => `${pattern} on ${path}\n${farm.coordinator.output}`,
  );
}

/** `coordinator FLAGS` beside the running one. */
async function command(farm: Farm, ...flags: string[]): Promise<{ status: number | NodeJS.Signals; said: string }> {
  await using run = Process.program("coordinator.js", ["-data", farm.data, ...flags]);
  return { status: await run.exited, said: run.output };
}

test("a changed configuration is taken up without a restart; a broken one leaves the old in force and every page says so", async () => {
  await using stack = new AsyncDisposableStack();
  const farm = await runningFarm(stack, builder("one", "true"));
  await shows(farm, "/b/1", /linux-amd64-one/);
  await farm.config(`${builder("one", "true")}, ${builder("two", "true")}`);
  await shows(farm, "/b/2", /linux-amd64-two passed in/);
  await farm.config('{ name: "linux-amd64-two", host: "nowhere", steps: [] }');
  await shows(farm, "/machines", /builders\[0\]\.host.*nowhere/s);
  await shows(farm, "/builders", /linux-amd64-one/);
  await farm.config(builder("three", "true"));
  await until(
    async () => !/stays in force/.test(await read(farm, "/machines")),
    20_000,
    () => "the banner gone",
  );
  await shows(farm, "/builders", /linux-amd64-three/);

  // Told to take its configuration up while it ends: that is no reason to end at once, with work half done.
  farm.coordinator.child.kill("SIGTERM");
  await until(
    () =>
      fetch(farm.pages).then(
        () => false,
        () => true,
      ),
    20_000,
    () => "the pages gone",
  );
  farm.coordinator.child.kill("SIGHUP");
  expect(await farm.coordinator.exited).toBe(0);
});

test("a farm that waits for its database is not killed by a reload, and ends when it is told to", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const silent = createServer((socket) => socket.on("error", () => {})); // takes connections, and says nothing
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  stack.defer(() => void silent.close());
  const asked = once(silent, "connection") as Promise<[Socket]>;
  const file = join(folder, "farm.config.ts");
  await writeFile(file, "export default { repos: [], hosts: [], builders: [] };\n");
  const flags = ["-config", file, "-data", join(folder, "farm"), "-listen", "localhost:0", "-http", "localhost:0"];
  const { port } = silent.address() as AddressInfo;
  const env = { DATABASE_URL: `postgres://farm:farm@127.0.0.1:${port}/farm` };
  const coordinator = stack.use(Process.program("coordinator.js", flags, { env }));
  const [socket] = await asked;
  stack.defer(() => void socket.destroy());
  coordinator.kill("SIGHUP");
  coordinator.kill("SIGTERM");
  expect(await coordinator.exited, coordinator.output).toBe(0);
  expect(coordinator.output).toContain("The farm ended before it had started");
});

test("-check prints the effective farm, or every mistake with its place and value", { timeout: 120_000 }, async () => {
  const folder = await temporaryFolder();
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "farm.config.ts");
  const check = async (text: string) => {
    await writeFile(file, text);
    await using run = Process.program("coordinator.js", ["-check", "-config", file]);
    return { status: await run.exited, said: run.output };
  };
  const good = await check(
    'import { defineFarm } from "barnraiser"; export default defineFarm({ repos: [{ name: "a", url: "." }], hosts: [{ hostType: "host-linux-arm-x" }], builders: [] });',
  );
  expect(good.status, good.said).toBe(0);
  expect(JSON.parse(good.said).hosts[0]).toMatchObject({ hostType: "host-linux-arm-x", hostArch: "linux-arm-7" });
  const bad = await check(
    'export default { repos: [{ name: "a b", url: "" }], hosts: [], builders: [{ name: "x" }], typo: 1 };',
  );
  expect(bad.status).toBe(2);
  for (const part of ["repos[0].name", '"a b"', "builders[0]", "typo"]) expect(bad.said).toContain(part);
  for (const [text, said] of [
    ["export default {\n a: ,\n};", `${file}:2`],
    ["const x = 1;\nexport default y;", `${file}:2:16`],
    ["export const farm = {};", "no default export"],
    ["await new Promise(() => {});", "has not finished loading after 10 s"],
  ] as const) {
    const broken = await check(text);
    expect(broken.status).toBe(2);
    expect(broken.said).toContain(said);
  }
  await using none = Process.program("coordinator.js", ["-check", "-config", "nowhere.ts"]);
  expect(await none.exited).toBe(2);
  expect(none.output).toContain("there is no such file. Give one with -config");
});

test("rebuild, cancel, drain and resume from the command line; without the token nothing changes", {
  timeout: 120_000,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const farm = await runningFarm(stack, `${builder("quick", "true")}, ${builder("slow", "echo at work; sleep 1000")}`);
  await shows(farm, "/b/2", /at work/);
  expect((await fetch(`${farm.pages}/b/2/cancel`, { method: "POST" })).status).toBeGreaterThanOrEqual(400);
  const wrong = { method: "POST", headers: { authorization: "Bearer wrong" } };
  expect((await fetch(`${farm.pages}/b/2/cancel`, wrong)).status).toBe(401);
  await shows(farm, "/b/2", /running/);
  expect(await command(farm, "-cancel", "2")).toMatchObject({ status: 0 });
  await shows(farm, "/b/2", /cancell?ed/);
  await until(
    async () => (await processesWith("sleep\u00001000")).length === 0,
    20_000,
    () => "the canceled command gone",
  );

  expect(await command(farm, "-drain", HOST, "-note", "new disk")).toMatchObject({ status: 0 });
  const rebuilt = await command(farm, "-rebuild", "1");
  expect(rebuilt, rebuilt.said).toMatchObject({ status: 0 });
  await shows(farm, "/", /drained/);
  await shows(farm, "/b/3", /new disk|drained/);
  expect(await command(farm, "-resume", HOST)).toMatchObject({ status: 0 });
  await shows(farm, "/b/3", / passed in /);

  // The whole farm: what runs is ended, nothing new begins, and -wait says when nothing runs any more.
  expect(await command(farm, "-rebuild", "2")).toMatchObject({ status: 0 });
  await shows(farm, "/b/4", /at work/);
  const early = await command(farm, "-drain", "all", "-note", "upgrade at noon", "-wait", "1s");
  expect(early).toMatchObject({ status: 2, said: expect.stringContaining("1 machine is still at work after 1.0 s") });
  await shows(farm, "/queues", /The farm is drained: nothing new is begun \(upgrade at noon\)/);
  expect(await command(farm, "-rebuild", "1")).toMatchObject({ status: 0 });
  await using waiting = Process.program("coordinator.js", ["-data", farm.data, "-drain", "all", "-wait", "1m"]);
  expect(await command(farm, "-cancel", "4")).toMatchObject({ status: 0 });
  expect(await waiting.exited, waiting.output).toBe(0);
  expect(waiting.output).toContain("the farm takes nothing new; nothing runs there any more");
  await shows(farm, "/b/5", /is drained: the whole farm/);
  expect(await command(farm, "-resume", "all")).toMatchObject({ status: 0 });
  await shows(farm, "/b/5", / passed in /);

  for (const [flags, said] of [
    [["-resume", "host-nobody"], "host-nobody"],
    [["-resume", HOST, "-wait", "1s"], "-wait without -drain"],
    [["-cancel", "99"], "99"],
    [["-cancel", "2"], "Cannot cancel build 2: it has ended already"],
    [["-rebuild", "x"], "x"],
    [["-drain", "nobody"], 'Cannot find machine or host type "nobody"'],
    [["-drain", `${HOST}s`], `did you mean "${HOST}"?`],
    [["-cancel", "1", "-rebuild", "1"], "-rebuild and -cancel at once"],
  ] as const) {
    const refused = await command(farm, ...flags);
    expect(refused.status, refused.said).toBe(2);
    expect(refused.said).toContain(said);
  }
});

test("PostgreSQL killed in the middle of a build: the farm waits, goes on, and the log is whole", async () => {
  await using stack = new AsyncDisposableStack();
  const farm = await runningFarm(stack, builder("long", "for i in $(seq 1 40); do echo line $i; sleep 0.05; done"));
  await shows(farm, "/b/1", /line 3/);
  const postmaster = Number(
    (await readFile(join(farm.data, "postgres/cluster/postmaster.pid"), "utf8")).split("\n")[0],
  );
  process.kill(postmaster, "SIGKILL");
  await shows(farm, "/b/1", / passed in /);
  const log = await fetch(`${farm.pages}/b/1/long/log`);
  expect(await log.text()).toBe(Array.from({ length: 40 }, (_, n) => `line ${n + 1}\n`).join(""));
});

test("one line of over 1 GiB is kept up to the limit, then a notice says so; the build goes on", {
  timeout: 120_000,
}, async () => {
  await using stack = new AsyncDisposableStack();
  const farm = await runningFarm(stack, builder("huge", "head -c 1100000000 /dev/zero | tr '\\0' x"));
  await until(
    async () => / passed in /.test(await read(farm, "/b/1")),
    90_000,
    () => `the verdict\n${farm.coordinator.output}`,
  );
  const rest = await fetch(`${farm.pages}/b/1/huge/log`, { headers: { range: `bytes=${1024 ** 3 - 8}-` } });
  expect(rest.status).toBe(206);
  expect(await rest.text()).toMatch(/^x{8}\n.*1 GiB|^x{8}\n.*1073741824/);
});

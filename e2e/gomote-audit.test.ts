/**
 * Every action on a machine that somebody borrows is in the audit: all calls of both services, what `ssh` and the browser do, and the
 * buttons of the pages, at a real coordinator with a real agent. What only asks is listed as that, so a call that is added later has to be
 * said to be the one or the other.
 */
import { spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { WebSocket as Client } from "ws";
import { RpcClient } from "../src/gomote/testing/rpc-client.ts";
import { Gomote } from "../src/wire/gomote/gen/barnraiser_pb.ts";
import { GomoteService } from "../src/wire/gomote/gen/gomote_pb.ts";
import { Process, until } from "./testing/process.ts";
import { OUR_TYPE, SeveralCoordinators } from "./testing/several.ts";

const OWN = "barnraiser.Gomote";

interface Executions {
  readonly executions?: readonly {
    readonly id: string;
    readonly argv: readonly string[];
    readonly process_state: string;
  }[];
}

/** Null: it changes nothing and takes nothing from the machine. */
const CALLS: Readonly<Record<string, string | null>> = {
  Authenticate: null,
  AddBootstrap: null,
  CreateInstance: "gomote create",
  DestroyInstance: "gomote destroy",
  ExecuteCommand: "gomote run",
  InstanceAlive: null,
  ListDirectory: null,
  ListDirectoryStreaming: null,
  ListInstances: null,
  ListSwarmingBuilders: null,
  ReadTGZToURL: "gomote read",
  RemoveFiles: "gomote remove",
  SignSSHKey: "gomote sign key",
  UploadFile: null,
  WriteFileFromURL: "gomote write",
  WriteTGZFromURL: "gomote write",
  ListExecutions: null,
  KillExecution: "gomote kill",
  ListFolder: null,
  PushFiles: "gomote write",
  GetBuildLayout: null,
  LayOutBuild: "gomote write",
  HoldBuild: "gomote hold",
  DescribeInstance: null,
  ListTypes: null,
};
/** They need a build: src/gomote/holds.test.ts, e2e/gomote-work.test.ts. */
const OF_BUILDS: ReadonlySet<string> = new Set(["LayOutBuild", "HoldBuild"]);

test("every action on an instance is in the audit; a shell in the browser is killed as any command", {
  timeout: 120_000,
}, async () => {
  const methods = [...GomoteService.methods, ...Gomote.methods].map(({ name }) => name);
  expect(Object.keys(CALLS).sort()).toEqual(methods.sort());

  const hosts = `[{ hostType: "${OUR_TYPE}", trust: "team" }]`;
  const flags = ["-listen-ssh", "127.0.0.1:0"];
  await using farm = await SeveralCoordinators.start({ coordinators: 1, builders: "[]", hosts, flags });
  await using _machine = await farm.machine("m1");
  const beside = ["-data", join(farm.folder, "coordinator-0"), "-secrets", join(farm.folder, "secrets")];
  const ask = async (...more: string[]) => {
    await using program = Process.program("coordinator.js", [...beside, ...more]);
    await program.exited;
    return program.output;
  };
  await ask("-add-user", "alice@example.org", "-roles", "member");
  const [token = ""] = /brt_[\w-]+/.exec(await ask("-new-token", "alice@example.org", "-name", "test")) ?? [];
  const { http = "", tlsPort = 0, process: coordinator } = farm.running.get(0) ?? {};
  using alice = new RpcClient(tlsPort, token);
  const since = await farm.number("select coalesce(max(id), 0)::int as n from audit");
  const audit = async () => {
    const rows = await farm.rows<{ action: string; count: number }>(
      `select action, count(*)::int as count from audit where id > ${since} and subject like 'gomote:%' group by action`,
    );
    return inOrder(rows.map(({ action, count }) => [action, count]));
  };
  /** Does something, which is in the audit as these actions, once each, and as nothing else; what comes late fails whatever is done next. */
  const done = new Map<string, number>();
  const does = async (actions: string | null | readonly string[], what: () => Promise<unknown>) => {
    for (const action of actions === null ? [] : [actions].flat()) done.set(action, (done.get(action) ?? 0) + 1);
    await what();
    const want = inOrder([...done]);
    let there = "";
    const look = async () => {
      there = await audit();
      return there === want;
    };
    await until(look, 20_000, () => `${want} in the audit, which has ${there}`);
  };

  let id = "";
  const create = async () => {
    const call = alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", { builder_type: OUR_TYPE });
    await call.ended;
    id = call.messages.at(-1)?.instance?.gomote_id ?? "";
  };
  const unary = (method: string, request: object = {}, service = "protos.GomoteService") =>
    does(CALLS[method] ?? null, () => alice.call(method, { gomote_id: id, ...request }, service));
  const streams = (method: string, request: object, service = "protos.GomoteService") =>
    does(CALLS[method] ?? null, () => alice.stream(method, { gomote_id: id, ...request }, service).ended);

  await does("gomote create", create);
  for (const method of ["Authenticate", "ListInstances", "ListSwarmingBuilders", "UploadFile"])
    await does(null, () => alice.call(method, {}));
  for (const method of ["AddBootstrap", "InstanceAlive"]) await unary(method);
  await unary("ListDirectory", { directory: "." });
  await streams("ListDirectoryStreaming", { directory: "." });
  await streams("ExecuteCommand", { command: "/bin/echo", args: ["hello"] });
  await unary("ReadTGZToURL", { directory: "." });
  await unary("RemoveFiles", { paths: ["nothing"] });
  await unary("WriteFileFromURL", { url: "https://192.0.2.1/x", filename: "x" });
  await unary("WriteTGZFromURL", { url: "https://192.0.2.1/x", directory: "x" });
  await does(null, () => alice.call("ListTypes", {}, OWN));
  await does(null, () => alice.call("GetBuildLayout", { build: 1 }, OWN));
  await unary("ListExecutions", {}, OWN);
  await unary("DescribeInstance", {}, OWN);
  await streams("ListFolder", { directory: "." }, OWN);
  await does(CALLS.PushFiles ?? null, () => alice.upload("PushFiles", [{ gomote_id: id, directory: "y" }], OWN));

  const folder = join(farm.folder, "client");
  await mkdir(folder);
  const key = join(folder, "key");
  const run = (program: string, args: readonly string[]) =>
    new Promise<void>((resolve, reject) => {
      const child = spawn(program, [...args], { stdio: "ignore" });
      child.once("error", reject).once("close", () => resolve());
    });
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  await does("gomote sign key", async () => {
    const request = { gomote_id: id, public_ssh_key: await readFile(`${key}.pub`) };
    const answer = await alice.call<{ signed_public_ssh_key: Buffer }>("SignSSHKey", request);
    if (!("signed_public_ssh_key" in answer)) throw new Error(answer.details);
    await writeFile(`${key}-cert.pub`, answer.signed_public_ssh_key);
  });
  const [, port = ""] = /"ssh":"127.0.0.1:(\d+)"/.exec(coordinator?.output ?? "") ?? [];
  const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "IdentitiesOnly=yes"];
  const where = ["-F", "none", ...options.flatMap((option) => ["-o", option]), "-i", key, "-p", port];
  const ssh = (...args: string[]) => run("ssh", [...where, ...args]);
  await does("gomote ssh", () => ssh(`${id}@127.0.0.1`, "true"));
  const server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const there = (server.address() as AddressInfo).port;
  await does("gomote forward", () => ssh("-W", `localhost:${there}`, `${id}@127.0.0.1`));
  await new Promise((resolve) => server.close(resolve));
  const numberOf = async (command: string) => {
    let number = "";
    const runs = async () => {
      const listed = await alice.call<Executions>("ListExecutions", { gomote_id: id }, OWN);
      const { executions = [] } = "executions" in listed ? listed : {};
      number = executions.find((each) => each.process_state === "" && each.argv[0] === command)?.id ?? "";
      return number !== "";
    };
    await until(runs, 20_000, () => `${command} to run`);
    return number;
  };
  const kill = async (command: string) =>
    alice.call("KillExecution", { gomote_id: id, execution_id: await numberOf(command) }, OWN);
  const sleep = { gomote_id: id, command: "/bin/sleep", args: ["600"] };
  await does(["gomote run", "gomote kill"], async () => {
    const long = alice.stream("ExecuteCommand", sleep);
    await kill("/bin/sleep 600");
    await long.ended;
  });

  const origin = new URL(http).origin;
  const entered = await fetch(`${http}/login`, {
    method: "POST",
    headers: { origin },
    body: new URLSearchParams({ token }),
    redirect: "manual",
  });
  const cookie = entered.headers.get("set-cookie")?.split(";")[0] ?? "";
  const page = (path: string, init: RequestInit = {}) =>
    fetch(`${http}/gomotes/${id}/${path}`, { headers: { origin, cookie }, redirect: "manual", ...init });
  await does(["gomote shell", "gomote kill"], async () => {
    const socket = new Client(`${http}/gomotes/${id}/shell`.replace(/^http/, "ws"), { headers: { origin, cookie } });
    await new Promise((resolve, reject) => {
      socket.once("error", reject);
      socket.once("open", () => socket.send(JSON.stringify({ open: { columns: 80, rows: 24, shell: null, from: 0 } })));
      socket.once("message", resolve);
    });
    const said: string[] = [];
    socket.on("message", (bytes, isBinary) => (isBinary ? undefined : said.push(String(bytes))));
    expect(await kill("a shell in the browser")).toEqual({});
    await until(
      () => said.some((each) => each.includes("This is over: it was killed by whoever ran it.")),
      20_000,
      () => `the shell's end in ${said}`,
    );
    socket.terminate();
  });
  await does(["gomote run", "gomote kill"], async () => {
    const long = alice.stream("ExecuteCommand", sleep);
    const { status } = await page(`commands/${await numberOf("/bin/sleep 600")}/kill`, { method: "POST" });
    expect(status).toBe(303);
    await long.ended;
  });
  await does(null, () => page("files"));
  await does("gomote write", () => page("files?path=z", { method: "PUT", body: "hello" }));
  await does("gomote read", async () => (await page("file?path=z")).text());
  await does("gomote read", async () => (await page("download")).arrayBuffer());
  const gone = new URLSearchParams({ path: "", name: "z" });
  await does("gomote remove", () => page("files/delete", { method: "POST", body: gone }));
  await does("gomote extend", () => page("extend", { method: "POST" }));
  await does("gomote end", () => page("end", { method: "POST" }));
  await does("gomote create", create);
  await unary("DestroyInstance");
  const calls = Object.entries(CALLS).flatMap(([name, action]) => (action && !OF_BUILDS.has(name) ? [action] : []));
  for (const action of calls) expect([...done.keys()]).toContain(action);
});

/** As a text that can be compared, and read. */
function inOrder(counts: readonly (readonly [action: string, count: number])[]): string {
  return counts
    .map(([action, count]) => `${action}: ${count}`)
    .sort()
    .join(", ");
}

/**
 * Machines that people borrow, with real coordinators and real agents: what a person runs is killed when they leave, what they left is gone when
 * the machine is given back, and an instance outlives the coordinator that held it.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { type Ended, OK, RpcClient } from "../src/gomote/testing/rpc-client.ts";
import { tarEnd, tarHeader, tarPadding } from "../src/wire/tar/tar-writer.ts";
import { Process, processesWith, until } from "./testing/process.ts";
import { OUR_TYPE, SeveralCoordinators } from "./testing/several.ts";

const ABORTED = 10;
const NOT_FOUND = 5;
const HOSTS = `[{ hostType: "${OUR_TYPE}", trust: "team" }]`;
const OPTIONS = { builders: "[]", hosts: HOSTS };

/** A token of `email`, who is added. */
async function tokenOf(farm: SeveralCoordinators, email: string): Promise<string> {
  const ask = async (...flags: string[]) => {
    const at = [...farm.running.keys()][0];
    const beside = ["-data", join(farm.folder, `coordinator-${at}`), "-secrets", join(farm.folder, "secrets")];
    await using program = Process.program("coordinator.js", [...beside, ...flags]);
    await program.exited;
    return program.output;
  };
  await ask("-add-user", email, "-roles", "member");
  const said = await ask("-new-token", email, "-name", "test");
  const [token] = /brt_[\w-]+/.exec(said) ?? [];
  if (!token) throw new Error(said);
  return token;
}

function portOf(farm: SeveralCoordinators, at: number): number {
  const coordinator = farm.running.get(at);
  if (!coordinator) throw new Error(`Coordinator ${at} does not run`);
  return coordinator.tlsPort;
}

async function create(client: RpcClient): Promise<string> {
  const call = client.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", { builder_type: OUR_TYPE });
  const ended = await call.ended;
  if (ended.code !== OK) throw new Error(`${ended.code} ${ended.details}`);
  return call.messages.at(-1)?.instance?.gomote_id ?? "";
}

/** A tar.gz of one file. */
function archive(name: string, text: string): Buffer {
  const content = Buffer.from(text);
  const header = tarHeader({ type: "file", name, mode: 0o644, size: content.length, mtime: 0 });
  return gzipSync(Buffer.concat([header, content, tarPadding(content.length), tarEnd()]));
}

async function run(client: RpcClient, gomote_id: string, script: string): Promise<{ output: string; ended: Ended }> {
  const request = { gomote_id, command: "/bin/sh", args: ["-c", script], system_level: true };
  const call = client.stream<{ output: Buffer }>("ExecuteCommand", request);
  const ended = await call.ended;
  return { output: Buffer.concat(call.messages.map(({ output }) => output)).toString(), ended };
}

test("an instance on a real machine, asked for at the coordinator that has it and at the other", {
  timeout: 120_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ ...OPTIONS, coordinators: 2 });
  await using _machine = await farm.machine("m1");
  const token = await tokenOf(farm, "alice@example.org");
  const clients = [0, 1].map((at) => new RpcClient(portOf(farm, at), token));
  try {
    const [one, other] = clients;
    if (!one || !other) throw new Error("There are two");
    const id = await create(one);
    expect(id).toBe(`alice-${OUR_TYPE}-0`);

    // One of them has the machine, and the other passes calls on: both answer alike.
    for (const client of clients) {
      expect(await run(client, id, "echo out; echo err >&2; pwd; exit 3")).toMatchObject({
        output: expect.stringMatching(/^out\nerr\n\/.*work\n$/),
        ended: { code: ABORTED, exit: { exit_status: 3, process_state: "exit status 3" } },
      });
      const nothing = client.stream("ExecuteCommand", { gomote_id: id, command: "no-such-program" });
      expect(await nothing.ended).toMatchObject({ code: ABORTED, exit: { exit_status: 127 } });
      const long = client.stream("ExecuteCommand", {
        gomote_id: id,
        command: "/bin/true",
        args: ["x".repeat(1 << 20)],
      });
      expect(await long.ended).toMatchObject({ code: ABORTED, exit: { exit_status: 127 } });

      // Files in one stream, through whichever coordinator.
      const text = `pushed through ${client === one ? "one" : "the other"}\n`;
      const pushed = [{ gomote_id: id, directory: "pushed" }, { tgz: archive("file", text) }];
      expect(await client.upload("PushFiles", pushed, "barnraiser.Gomote")).toEqual({});
      expect((await run(client, id, "cat pushed/file")).output).toBe(text);

      // Who leaves takes the command along, and all that it started.
      const word = `sleep-${client === one ? "one" : "other"}-${process.pid}`;
      const left = client.stream("ExecuteCommand", {
        gomote_id: id,
        command: "/bin/sh",
        args: ["-c", `exec 2>&1; echo begun; (exec -a ${word} sleep 600) & sh -c "sleep 600; echo ${word}"`],
      });
      await left.have(1);
      expect((await processesWith(word)).length).toBeGreaterThan(0);
      left.cancel();
      await until(
        async () => (await processesWith(word)).length === 0,
        20_000,
        () => `nothing of ${word} to run`,
      );
      expect(await client.call("InstanceAlive", { gomote_id: id })).toEqual({});
    }

    // Files, as listings tell of them.
    const files = `mkdir -p go/pkg/x many && cd many && for i in $(seq 250); do : > f$i; done && cd .. && printf hello > go/hello`;
    expect((await run(other, id, files)).ended.code).toBe(OK);
    const list = async (request: object) => {
      const call = other.stream<{ entries: string[] }>("ListDirectoryStreaming", { gomote_id: id, ...request });
      expect(await call.ended).toMatchObject({ code: OK });
      return call.messages;
    };
    const [go = []] = (await list({ directory: "go", recursive: true, digest: true, skip_files: ["pkg"] })).map(
      ({ entries }) => entries,
    );
    expect(go.map((entry) => entry.split("\t"))).toEqual([
      ["-rw-r--r--", "hello", "5", expect.stringMatching(/Z$/), createHash("sha1").update("hello").digest("hex")],
    ]);
    const streamed = (await list({ directory: "many" })).map(({ entries }) => entries);
    const { entries } = (await one.call("ListDirectory", { gomote_id: id, directory: "many" })) as {
      entries: string[];
    };
    expect([streamed.map(({ length }) => length), streamed.flat()]).toEqual([[100, 100, 50], entries]);
    expect(await other.call("RemoveFiles", { gomote_id: id, paths: ["many", "go/hello"] })).toEqual({});
    const left = (await list({ directory: ".", recursive: true })).flatMap((message) => message.entries);
    expect(left.filter((entry) => /\t(go|many)\//.test(entry)).map((entry) => entry.split("\t")[1])).toEqual([
      "go/",
      "go/pkg/",
      "go/pkg/x/",
    ]);

    // Nothing stays for the next one, neither files nor what still runs.
    const word = `left-${process.pid}`;
    await run(one, id, `setsid sh -c "sleep 600; echo ${word}" > /dev/null 2>&1 & sleep 0.1`);
    expect(await other.call("DestroyInstance", { gomote_id: id })).toEqual({});
    expect(await one.call("InstanceAlive", { gomote_id: id })).toMatchObject({ code: NOT_FOUND });
    const again = await create(other);
    expect(again).toBe(id);
    expect((await run(one, again, "ls go many 2> /dev/null; true")).output).toBe("");
    expect(await farm.rows("select distinct action from audit where subject like 'gomote:%' order by action")).toEqual(
      ["gomote create", "gomote destroy", "gomote remove", "gomote run", "gomote write"].map((action) => ({ action })),
    );
  } finally {
    for (const client of clients) client[Symbol.dispose]();
  }
});

test("an instance outlives its coordinator, killed or stopped, with what is on its machine; who waited at a dead one waits no more", {
  timeout: 180_000,
}, async () => {
  await using farm = await SeveralCoordinators.start({ ...OPTIONS, coordinators: 2 });
  await using _machine = await farm.machine("m1");
  const token = await tokenOf(farm, "alice@example.org");
  const asked = async <T>(at: number, work: (client: RpcClient) => Promise<T>): Promise<T> => {
    using client = new RpcClient(portOf(farm, at), token);
    return await work(client);
  };
  const id = await asked(0, create);
  const said = (at: number, script: string) => asked(at, async (client) => (await run(client, id, script)).output);
  await said(0, "echo kept > file");
  for (const signal of ["SIGKILL", "SIGTERM", "SIGKILL"] as const) {
    const [holder] = await farm.rows<{ id: string }>("select coordinator_id as id from lease where state = 'held'");
    const rows = await farm.rows<{ id: string; pid: number }>("select id, pid from coordinator where ended_at is null");
    const pid = rows.find((row) => row.id === holder?.id)?.pid;
    const at = [...farm.running.values()].find(({ process: { child } }) => child.pid === pid)?.at ?? 0;
    await farm.stopCoordinator(at, signal);
    await until(
      async () => (await said(1 - at, "cat file")) === "kept\n",
      90_000,
      () => `the instance at the other\n${farm.said()}`,
    );
    await farm.startCoordinator(at);
    await until(
      async () => (await said(at, "cat file")) === "kept\n",
      30_000,
      () => `the instance at the new one\n${farm.said()}`,
    );
  }

  // The only machine is taken: whoever waits is told, and is forgotten with their coordinator.
  using client = new RpcClient(portOf(farm, 0), token);
  const waiting = client.stream<{ status: string }>("CreateInstance", { builder_type: OUR_TYPE });
  await waiting.have(1);
  expect(waiting.messages).toMatchObject([{ status: "WAITING" }]);
  await farm.stopCoordinator(0, "SIGKILL");
  expect((await waiting.ended).code).not.toBe(OK);
  await until(
    async () => (await farm.number("select count(*) as n from lease where state = 'wanted'")) === 0,
    90_000,
    () => `nobody to wait\n${farm.said()}`,
  );
  expect(await asked(1, (one) => one.call("InstanceAlive", { gomote_id: id }))).toEqual({});
});

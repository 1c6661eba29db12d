import { once } from "node:events";
import { text } from "node:stream/consumers";
import { connect } from "node:tls";
import { expect, test } from "vitest";
import { coordinatorId, minutes } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import type { OriginalBuildletOptions } from "../../machines/testing/original-buildlet.ts";
import { commandsOf } from "../../store/gomote-commands.ts";
import { BUILDER, type GomoteFarm, gomoteFarm, HOST_TYPE } from "../testing/farm.ts";
import { type Ended, OK, type RpcClient } from "../testing/rpc-client.ts";

const CODE = { invalid: 3, notFound: 5, exhausted: 8, precondition: 9, aborted: 10, unavailable: 14 } as const;

/** Alice with an instance on a machine that runs commands as told. */
async function withInstance(farm: GomoteFarm, exec?: OriginalBuildletOptions["exec"], builderType = HOST_TYPE) {
  const machine = await farm.machines.machine(exec ? { exec } : {});
  const borrowed = await lent(farm, builderType);
  machine.calls.length = 0;
  return { machine, ...borrowed };
}

async function lent(farm: GomoteFarm, builderType = HOST_TYPE) {
  const alice = await farm.person("alice@example.org");
  const call = alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", {
    builder_type: builderType,
  });
  expect(await call.ended).toEqual({ code: OK, details: "" });
  return { alice, gomote_id: call.messages.at(-1)?.instance?.gomote_id ?? "" };
}

async function run(client: RpcClient, request: object): Promise<{ output: string; ended: Ended }> {
  const call = client.stream<{ output: Buffer }>("ExecuteCommand", request);
  const ended = await call.ended;
  return { output: Buffer.concat(call.messages.map(({ output }) => output)).toString(), ended };
}

test("[gomote 19] [gomote 20] output comes before the end, and a command that fails is Aborted with its exit status", async () => {
  await using farm = await gomoteFarm();
  const states: Record<string, string> = { three: "exit status 3", killed: "signal: killed", well: "ok" };
  const { alice, gomote_id } = await withInstance(farm, async ({ cmd }, io) => {
    await io.write(`${cmd} was here\n`);
    return states[cmd] ?? `fork/exec ${cmd}: no such file or directory`;
  });
  const ran = async (command: string) => await run(alice, { gomote_id, command });
  expect(await ran("well")).toEqual({ output: "well was here\n", ended: { code: OK, details: "" } });
  expect(await ran("three")).toEqual({
    output: "three was here\n",
    ended: {
      code: CODE.aborted,
      details: "exit status 3",
      exit: { exit_status: 3, process_state: "exit status 3" },
    },
  });
  expect((await ran("killed")).ended.exit).toEqual({ exit_status: 137, process_state: "signal: killed" });
  expect((await ran("nothing")).ended).toMatchObject({ code: CODE.aborted, exit: { exit_status: 127 } });
  expect((await ran("")).ended).toMatchObject({ code: CODE.aborted, exit: { exit_status: 127 } });
  const sql = farm.database.sql;
  const [instance] = await sql.query<{ id: number }>("select id from gomote_instance");
  await until(
    async () => (await sql.query("select from gomote_command where state is null")).length === 0,
    "all to be ended",
  );
  const commands = await commandsOf(sql, { instance: instance?.id ?? 0 }, null, 10);
  expect(commands.map(({ who, command, state }) => [who, command, state])).toEqual([
    ["alice@example.org", "nothing", "fork/exec nothing: no such file or directory"],
    ["alice@example.org", "killed", "signal: killed"],
    ["alice@example.org", "three", "exit status 3"],
    ["alice@example.org", "well", "ok"],
  ]);
});

test("[gomote 3] a call that arrives without ALPN h2 reaches no method, good as its token may be", async () => {
  await using farm = await gomoteFarm();
  const person = await farm.people.add("alice@example.org", ["member"], "test");
  const { token } = await farm.people.newToken(person, "test", minutes(60), "test");
  const socket = connect({ port: farm.machines.port, host: "localhost", rejectUnauthorized: false });
  await once(socket, "secureConnect");
  const fields = { host: "localhost", "content-type": "application/grpc", authorization: `Bearer ${token}` };
  const head = Object.entries({ ...fields, connection: "close", "content-length": "5" }).map((field) =>
    field.join(": "),
  );
  socket.write(["POST /protos.GomoteService/Authenticate HTTP/1.1", ...head, "", "\0\0\0\0\0"].join("\r\n"));
  // The page that a browser would have got there.
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 OK\r\n.*a page/s);
  expect(await farm.client(token).call("Authenticate")).toEqual({});
});

test("what is run finds the environment of what it was created as, then what it was given, and nothing is changed on the way", async () => {
  await using farm = await gomoteFarm();
  const seen: unknown[] = [];
  const exec = (form: object) => {
    seen.push(form);
    return "ok";
  };
  const { alice, gomote_id } = await withInstance(farm, exec, BUILDER);
  const request = {
    gomote_id,
    command: "go/bin/go",
    args: ["test", "a b", ""],
    directory: "go/src",
    path: ["$WORKDIR/x", "$PATH"],
  };
  const given = ["A=B", "GO_DISABLE_OUTBOUND_NETWORK=true"];
  await run(alice, { ...request, append_environment: given, debug: true, system_level: true });
  await run(alice, { gomote_id, command: "x", imitate_host_type: HOST_TYPE });
  expect(seen).toEqual([
    {
      cmd: "go/bin/go",
      args: ["test", "a b", ""],
      dir: "go/src",
      env: [`GO_BUILDER_NAME=${BUILDER}`, "HOST=yes", "GOROOT=/tmp/workdir/go", ...given],
      path: ["$WORKDIR/x", "$PATH"],
      system: true,
      debug: true,
    },
    { cmd: "x", args: [], dir: "", env: ["HOST=yes"], path: [], system: false, debug: false },
  ]);
});

test("[gomote 23] a client that vanishes ends its command, and the instance goes on", async () => {
  await using farm = await gomoteFarm();
  let killed = false;
  const { alice, gomote_id } = await withInstance(farm, async ({ cmd }, io) => {
    await io.write("begun\n");
    if (cmd === "short") return "ok";
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
    killed = true;
    return "signal: killed";
  });
  const call = alice.stream("ExecuteCommand", { gomote_id, command: "long" });
  await call.have(1);
  call.cancel();
  await until(() => killed, "the command to be killed");
  const ended = () =>
    farm.database.sql.query<{ state: string }>("select state from gomote_command where ended_at is not null");
  await until(async () => (await ended()).length === 1, "the command's end to be written down");
  expect(await ended()).toEqual([{ state: "whoever ran it left" }]);
  expect((await run(alice, { gomote_id, command: "short" })).output).toBe("begun\n");
});

test("a coordinator that stops says to whoever runs a command that it ended, and what to do", async () => {
  for (const silent of [false, true]) {
    await using farm = await gomoteFarm();
    const machine = await farm.machines.machine({
      agent: { digest: "", platform: "linux/amd64", instance: "a".repeat(32), resume: 1 },
      exec: async (_, io) => {
        await io.write("begun\n");
        await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
        return "signal: killed";
      },
    });
    const { alice, gomote_id } = await lent(farm);
    const call = alice.stream("ExecuteCommand", { gomote_id, command: "long" });
    await call.have(1);
    machine.behave.silent = silent; // then the coordinator leaves the machine before the command is killed there
    farm.stop();
    await until(
      () => machine.calls.some((each) => each.startsWith("POST /exec-end")),
      "it to be told to kill the command",
    );
    await farm.machines.pool[Symbol.asyncDispose]();
    expect(await call.ended).toEqual({
      code: CODE.unavailable,
      details: "The coordinator is stopping, and what it ran ends with it; the instance goes on: run it again",
    });
  }
});

/**
 * What sockets between a command and a caller who does not read may hold, in pieces. Nothing else holds even one piece.
 */
const SOCKETS = 64;
const PIECE = 1 << 18;

/** Resolves once nothing was written for a while. */
async function heldBack(written: () => number): Promise<void> {
  await until(async () => {
    const before = written();
    await new Promise((resolve) => setTimeout(resolve, 300));
    return before > 0 && written() === before;
  }, "the command to be held back");
}

test("[gomote 17] a command keeps its instance, however long it runs; what nobody reads holds it back", async () => {
  const clock = new FakeClock();
  await using farm = await gomoteFarm({ clock });
  const paused = Promise.withResolvers<void>();
  const end = Promise.withResolvers<void>();
  const pieces = 2 * SOCKETS;
  let written = 0;
  const { alice, gomote_id } = await withInstance(farm, async (_, io) => {
    for (; written < pieces; written++) {
      await io.write(Buffer.alloc(PIECE, "x")); // which could be compressed to nothing
      await paused.promise;
    }
    await end.promise;
    return "ok";
  });
  const call = alice.stream<{ output: Buffer }>("ExecuteCommand", { gomote_id, command: "long" });
  await call.have(1);
  call.pause();
  paused.resolve();
  await heldBack(() => written);
  expect(written).toBeLessThan(SOCKETS);
  call.resume();
  for (let passed = 0; passed < 120; passed += 10) {
    await clock.advance(minutes(10));
    await farm.gomote.instances.look();
  }
  end.resolve();
  expect(await call.ended).toEqual({ code: OK, details: "" });
  expect(call.messages.reduce((sum, { output }) => sum + output.length, 0)).toBe(pieces * PIECE);
  // One fits into the window of a stream, with what is around it.
  expect(Math.max(...call.messages.map(({ output }) => output.length))).toBe(32 * 1024);
  expect(await alice.call("InstanceAlive", { gomote_id })).toEqual({});
});

test("what nobody reads at another coordinator holds its command back, and no other call between the two", async () => {
  await using farm = await gomoteFarm();
  let written = 0;
  let killed = false;
  const { gomote_id } = await withInstance(farm, async ({ cmd }, io) => {
    if (cmd === "short") {
      await io.write(Buffer.alloc(PIECE, "y"));
      return "ok";
    }
    for (; !io.signal.aborted; written++) await io.write(Buffer.alloc(PIECE, "x"));
    killed = true;
    return "signal: killed";
  });
  await using other = await gomoteFarm({ database: farm.database, coordinator: coordinatorId("P0000000bb") });
  const [alice, again] = [await other.person("alice@example.org"), await other.person("alice@example.org")];
  const call = alice.stream<{ output: Buffer }>("ExecuteCommand", { gomote_id, command: "endless" });
  await call.have(1);
  call.pause();
  await heldBack(() => written);
  expect(written).toBeLessThan(2 * SOCKETS);
  const { output, ended } = await run(again, { gomote_id, command: "short" });
  expect([output.length, ended.code]).toEqual([PIECE, OK]);
  call.cancel();
  await until(() => killed, "the command to be killed");
});

test("[gomote 25] [gomote 26] [gomote 28] directories are listed, and bad arguments said", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const code = async (request: object) => (await alice.call<Ended>("ListDirectory", request)) as Ended;
  expect(await code({ gomote_id })).toMatchObject({ code: CODE.invalid });
  expect(await code({ directory: "." })).toMatchObject({ code: CODE.invalid });
  expect(await code({ gomote_id, directory: "../x" })).toMatchObject({ code: CODE.invalid });
  expect(machine.calls).toEqual([]);
  const entries = ["drwxr-xr-x\td/", "-rw-r--r--\td/x\t3\t2026-11-23T17:00:05Z"];
  const request = { gomote_id, directory: ".", recursive: true, digest: true, skip_files: ["go/pkg", ""] };
  expect(await alice.call("ListDirectory", request)).toEqual({ entries });
  const streamed = alice.stream<{ entries: string[] }>("ListDirectoryStreaming", request);
  expect([await streamed.ended, streamed.messages]).toEqual([{ code: OK, details: "" }, [{ entries }]]);
  expect(machine.calls[0]).toBe("GET /ls dir=.&recursive=true&digest=true&skip=go%2Fpkg");
});

test("a listing of any size is streamed as it comes; as one answer it is refused above what a client takes, with what to do", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const entries = Array.from(
    { length: 60_000 },
    (_, n) => `-rw-r--r--\td/${"é".repeat(50)}${n}\t3\t2026-11-23T17:00:05Z`,
  );
  machine.behave.ls = `${entries.join("\n")}\n`;
  const streamed = alice.stream<{ entries: string[] }>("ListDirectoryStreaming", { gomote_id, directory: "." });
  expect((await streamed.ended).code).toBe(OK);
  expect(streamed.messages.flatMap((message) => message.entries)).toEqual(entries);
  expect(await alice.call("ListDirectory", { gomote_id, directory: "." })).toEqual({
    code: 8,
    details:
      'Cannot list "." in one answer, which no client takes above 4 MiB: use ListDirectoryStreaming, or list less.',
  });
  machine.behave.ls = `${entries.slice(0, 20_000).join("\n")}\n`;
  expect(await alice.call("ListDirectory", { gomote_id, directory: "." })).toEqual({
    entries: entries.slice(0, 20_000),
  });
});

test("[gomote 33] [gomote 34] files are written and removed, or refused", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  farm.world.put("world.example/a", "hello");
  const codes = async (method: string, requests: readonly object[]) =>
    await Promise.all(
      requests
        .map(async (request) => (await alice.call<Ended>(method, request)) as Ended)
        .map(async (end) => (await end).code),
    );

  const write = { gomote_id, url: "http://world.example/a", filename: "d/f", mode: 0o755 };
  expect(await alice.call("WriteFileFromURL", write)).toEqual({});
  expect(
    await codes("WriteFileFromURL", [
      { ...write, url: "http://world.example/404" },
      { ...write, url: "ftp://world.example/a" },
      { ...write, filename: "../f" },
      { ...write, filename: "" },
      { ...write, filename: "/etc/passwd" },
      { ...write, mode: 0x8000_0000 },
      { ...write, url: "" },
    ]),
  ).toEqual([CODE.aborted, CODE.invalid, CODE.invalid, CODE.invalid, CODE.invalid, CODE.invalid, CODE.invalid]);

  const tgz = { gomote_id, url: "http://world.example/a", directory: "go" };
  expect(await alice.call("WriteTGZFromURL", tgz)).toEqual({});
  expect(
    await codes("WriteTGZFromURL", [
      { ...tgz, url: "" },
      { ...tgz, url: "http://world.example/404" },
      { ...tgz, directory: "a/../../b" },
      { ...tgz, gomote_id: "" },
    ]),
  ).toEqual([CODE.invalid, CODE.precondition, CODE.invalid, CODE.invalid]);

  expect(
    await codes("RemoveFiles", [
      { gomote_id },
      { paths: ["x"] },
      { gomote_id, paths: ["x", "../y"] },
      { gomote_id, paths: [""] },
    ]),
  ).toEqual([CODE.invalid, CODE.invalid, CODE.invalid, CODE.invalid]);
  expect(await alice.call("RemoveFiles", { gomote_id, paths: ["x", "y/z"] })).toEqual({});
  expect(machine.calls).toEqual([
    "PUT /write path=d%2Ff&mode=493",
    "PUT /writetgz dir=go",
    "POST /removeall path=x&path=y/z",
  ]);

  expect(await alice.call("AddBootstrap", { gomote_id })).toEqual({ bootstrap_go_url: "" });
});

test("arguments of 10 MB, a NUL in the environment and variables without a name are refused before the machine hears of them", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm);
  const end = async (request: object) => (await run(alice, { gomote_id, command: "x", ...request })).ended;
  expect((await end({ args: ["y".repeat(10 << 20)] })).code).toBe(CODE.exhausted);
  expect(await end({ append_environment: ["A=\0"] })).toEqual({
    code: CODE.invalid,
    details: 'Cannot run "x": there is a NUL in append_environment.',
  });
  expect((await end({ append_environment: ["=B"] })).code).toBe(CODE.invalid);
  expect((await end({ imitate_host_type: "nope" })).code).toBe(CODE.invalid);
  expect(machine.calls).toEqual([]);
});

test("a machine that goes away ends the command as Unavailable and an original's instance with it; who asks next is told", async () => {
  await using farm = await gomoteFarm();
  const { machine, alice, gomote_id } = await withInstance(farm, async (_, io) => {
    await io.write("begun\n");
    await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve(), { once: true }));
    return "ok";
  });
  const call = alice.stream("ExecuteCommand", { gomote_id, command: "long" });
  await call.have(1);
  await machine.hangUp();
  expect(await call.ended).toMatchObject({ code: CODE.unavailable });
  await until(
    async () => ((await alice.call<Ended>("InstanceAlive", { gomote_id })) as Ended).code === CODE.notFound,
    "the instance to end",
  );
  const rows = await farm.database.sql.query<{ reason: string }>("select end_reason as reason from lease");
  expect(rows.map(({ reason }) => reason)).toEqual([expect.stringMatching(/^its machine is gone: /)]);
});

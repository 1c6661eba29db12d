import { randomBytes } from "node:crypto";
import http from "node:http";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import tls from "node:tls";
import { gunzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { minutes, ms, plus, seconds } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { revokeMachineKey } from "../../store/keys.ts";
import { flappingMachines } from "../../store/machines.ts";
import { at } from "../../store/sql.ts";
import { systemClock } from "../../store/system-clock.ts";
import { builderKey, DEV_MASTER_KEY } from "../../wire/builder-key/builder-key.ts";
import { LEASE_OVER } from "../../wire/buildlet-api/buildlet-api.ts";
import { RESUME_VERSION } from "../../wire/buildlet-api/execution.ts";
import { encodeRequestHead, fieldValues, type HeaderField, responseHeadReader } from "../../wire/revdial/http-head.ts";
import { connPath, PONG_HEADER } from "../../wire/revdial/registration.ts";
import { makeMachineKey } from "../keys.ts";
import { PICK_UP_PAUSE, PICK_UPS, PING_EVERY } from "../revdial/dialer.ts";
import { COORDINATOR, farmOfMachines, HOST_TYPE, MASTER_KEY } from "../testing/farm-of-machines.ts";
import { Refused, TREE } from "../testing/original-buildlet.ts";

const AGENT = { digest: "d1", platform: "linux/amd64, 2 cores", instance: "", resume: 0 };

/** The reasons with which sessions ended, oldest first. */
async function reasons(farm: Awaited<ReturnType<typeof farmOfMachines>>): Promise<(string | null)[]> {
  const rows = await farm.database.sql.query<{ reason: string | null }>(
    "select close_reason as reason from session order by opened_at, closed_at",
  );
  return rows.map((row) => row.reason);
}

async function refusal(start: Promise<unknown>): Promise<string> {
  const error = await start.then(
    () => new Error("was let in"),
    (reason: unknown) => reason,
  );
  return error instanceof Refused ? `${error.head.status} ${error.body.trim()}` : String(error);
}

test("[coordinator 1] [coordinator 8] a machine registers with empty Host, no ALPN and a port in its SNI; the 101 comes alone and calls work", async () => {
  await using farm = await farmOfMachines();
  for (const [i, reads] of (["plain", "split", "coalesced"] as const).entries()) {
    await using machine = await farm.machine({ name: `m${i}`, reads });
    const session = await farm.session(i + 1);
    expect(await session.client.workDir()).toBe("/tmp/workdir");
    expect([machine.head?.status, machine.head?.fields, machine.lost, session.agent, session.name]).toEqual([
      101, [], "", "original", `m${i}`,
    ]); // biome-ignore format: a row
  }
});

test("[coordinator 2] /reverse and /revdial over plain HTTP get 500 and nothing is taken over", async () => {
  await using farm = await farmOfMachines();
  const { http: port } = farm.door.ports;
  for (const path of ["/reverse", "/revdial"]) {
    const status = await new Promise((resolve, reject) =>
      http
        .get({ port, path, host: "127.0.0.1", agent: false }, (r) => resolve(r.resume().statusCode))
        .on("error", reject),
    );
    expect(status).toBe(500);
  }
  expect(farm.pool.sessions()).toEqual([]);
});

test("[coordinator 3] [coordinator 4] headers that are missing, doubled, too long or of another version are refused in order, with a reason", async () => {
  await using farm = await farmOfMachines();
  const without =
    (...names: string[]) =>
    (fields: HeaderField[]) =>
      fields.filter(([name]) => !names.includes(name));
  const changed = (name: string, value: string) => (fields: HeaderField[]) =>
    fields.map((field): HeaderField => (field[0] === name ? [name, value] : field));
  const ask = (fields: (fields: HeaderField[]) => HeaderField[]) => refusal(farm.machine({ fields }));
  expect([
    await ask(without("X-Revdial-Version", "X-Go-Builder-Hostname")),
    await ask(changed("X-Revdial-Version", "3")),
    await ask(without("X-Go-Builder-Hostname", "X-Go-Host-Type")),
    await ask(changed("X-Go-Builder-Hostname", "")),
    await ask(without("X-Go-Host-Type", "X-Go-Builder-Key")),
    await ask((fields) => [...fields, ["x-go-builder-key", "again"]]),
    await ask(changed("X-Go-Builder-Hostname", "x".repeat(2000))),
    await ask(changed("X-Go-Builder-Hostname", "x".repeat(300))),
    await ask(changed("X-Go-Host-Type", "a\u0001b")),
    (await ask((fields) => [...fields, ["X-Much", "y".repeat(20_000)]])).slice(0, 3),
  ]).toEqual([
    "400 Header X-Revdial-Version is missing: this buildlet is too old; want one that speaks revdial 2.",
    '400 Revdial version "3" is unknown; want 2.',
    "400 Header X-Go-Builder-Hostname is missing or empty.",
    "400 Header X-Go-Builder-Hostname is missing or empty.",
    "400 Header X-Go-Host-Type is missing or empty.",
    "400 Header X-Go-Builder-Key was sent 2 times; want it once.",
    "400 Header X-Go-Builder-Hostname has 2000 characters; want at most 1024.",
    "400 Header X-Go-Builder-Hostname has 300 characters; want at most 200.",
    "400 Header X-Go-Host-Type holds control characters.",
    "431",
  ]);
  expect(farm.pool.sessions()).toEqual([]);
});

test("[coordinator 5] keys that are missing, wrong, of another machine, revoked or expired get 412 and say which", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({
    keys: { clock, sharedKey: (hostType) => hostType !== "host-own-keys" },
  });
  const { sql } = farm.database;
  const key = (name: string, hostType = HOST_TYPE, expiresIn = null as null | ReturnType<typeof ms>) =>
    makeMachineKey({ sql, clock }, { name, hostType, expiresIn });
  const good = await key("m1");
  const revoked = await key("m1");
  await revokeMachineKey(sql, revoked.id, clock.now());
  const expired = await key("m1", HOST_TYPE, ms(1000));
  await clock.advance(seconds(2));
  const answers = [
    await refusal(farm.machine({ key: "" })),
    await refusal(farm.machine({ key: builderKey(DEV_MASTER_KEY, HOST_TYPE) })),
    await refusal(farm.machine({ key: builderKey(MASTER_KEY, "host-other") })),
    await refusal(farm.machine({ key: good.key, name: "m2" })),
    await refusal(farm.machine({ key: good.key, hostType: "host-other" })),
    await refusal(farm.machine({ key: revoked.key })),
    await refusal(farm.machine({ key: expired.key })),
    await refusal(farm.machine({ hostType: "host-own-keys" })),
  ];
  expect(answers).toEqual([
    "412 Header X-Go-Builder-Key is missing or empty.",
    `412 The key is not valid for host type "${HOST_TYPE}".`,
    `412 The key is not valid for host type "${HOST_TYPE}".`,
    `412 The key ${good.id} was made for another machine or host type, not for "m2" of "${HOST_TYPE}".`,
    `412 The key ${good.id} was made for another machine or host type, not for "m1" of "host-other".`,
    `412 The key ${revoked.id} was revoked 2026-11-23T12:00:00Z.`,
    `412 The key ${expired.id} expired 2026-11-23T12:00:01Z.`,
    '412 The shared key of host type "host-own-keys" is switched off; ask the operator for a key of this machine\'s own (genbuilderkey -machine).',
  ]);
  expect(answers.join().includes(good.key)).toBe(false);
  await using machine = await farm.machine({ key: good.key });
  expect(machine.head?.status).toBe(101);
});

test("[gomote 46] [gomote 47] a buildlet that a Swarming task began is refused, and told what it lacks; one with a key in time is let in, not over HTTP", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ keys: { clock, sharedKey: () => true } });
  const { sql } = farm.database;
  const made = await makeMachineKey({ sql, clock }, { name: "m1", hostType: HOST_TYPE, expiresIn: ms(600_000) });
  const hostname: HeaderField = ["X-Go-Hostname", "m1"];
  const id: HeaderField = ["X-Go-Gomote-ID", "alice-linux-amd64-0"];
  const token: HeaderField = ["X-Go-Swarming-Auth-Token", "token"];
  const ask = (...fields: HeaderField[]) => refusal(farm.machine({ fields: () => fields }));
  expect([await ask(id, token), await ask(hostname, token), await ask(hostname, id)]).toEqual([
    "400 Header X-Go-Hostname is missing or empty.",
    "400 Header X-Go-Gomote-ID is missing or empty.",
    "400 Header X-Go-Swarming-Auth-Token is missing or empty.",
  ]);
  expect(await ask(hostname, id, token)).toBe(
    '412 This farm began no task "alice-linux-amd64-0": start the buildlet with a key of this farm and -reverse-type=HOST-TYPE.',
  );
  expect(await refusal(farm.machine({ key: "unregistered" }))).toMatch(/^412 The key is not valid for host type /);
  const plain = await fetch(`http://127.0.0.1:${farm.door.ports.http}/reverse`);
  expect([plain.status, await plain.text()]).toEqual([500, expect.stringContaining("TLS")]);
  {
    await using machine = await farm.machine({ key: made.key });
    expect(machine.head?.status).toBe(101);
  }
  await clock.advance(minutes(10));
  expect(await refusal(farm.machine({ key: made.key }))).toMatch(/^412 The key \S+ expired /);
});

test("a session ends when its machine's key is revoked", async () => {
  await using farm = await farmOfMachines();
  const { sql, bus } = farm.database;
  const made = await makeMachineKey({ sql, clock: systemClock }, { name: "m1", hostType: HOST_TYPE, expiresIn: null });
  await using machine = await farm.machine({ key: made.key });
  await farm.session();
  await revokeMachineKey(sql, made.id, systemClock.now());
  bus.publish(`key:${made.id}`);
  expect(await machine.ended).toBe(0);
  await until(async () => (await reasons(farm))[0] === `its key ${made.id} was revoked or has expired`, "the reason");
});

test("[coordinator 6] the development key is taken only where it was asked for", async () => {
  await using farm = await farmOfMachines({ keys: { allowDevKey: true } });
  const hostType = "host-linux-amd64-localdev";
  await using machine = await farm.machine({ hostType, key: "4d8129e2963df29b29cab65e108397d1" });
  expect([machine.head?.status, (await farm.session()).hostType]).toEqual([101, hostType]);
});

test("[coordinator 7] a host type that the configuration does not have is taken and recorded as such", async () => {
  await using farm = await farmOfMachines();
  await using _machine = await farm.machine({ hostType: "host-plan9-unknown" });
  await farm.session();
  expect(await farm.database.sql.query("select name, configured, trust from host_type")).toEqual([
    { name: "host-plan9-unknown", configured: false, trust: "community" },
  ]);
});

test("[coordinator 12] version 22 gets its 101, then the end, and is never offered; 23 stays", async () => {
  await using farm = await farmOfMachines();
  await using old = await farm.machine({ version: 22 });
  expect([old.head?.status, await old.ended, farm.offered, farm.pool.sessions()]).toEqual([101, 0, [], []]);
  await using _fine = await farm.machine({ version: 23 });
  expect((await farm.session()).name).toBe("m1");
});

test("[coordinator 15] the first keep-alive comes at once, the next at most 30 s after the last line", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock });
  await using machine = await farm.machine({ agent: AGENT });
  await farm.session();
  expect(machine.lines.map((line) => line.command)).toEqual(["keep-alive"]);
  await clock.advance(seconds(30));
  await until(() => machine.lines.length >= 2, "the next");
  expect(machine.lines[1]?.command).toBe("keep-alive");
});

test("[coordinator 16] an unknown command is skipped; a line that is no JSON ends the session with a reason", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const session = await farm.session();
  machine.send({ command: "dance", connPath: "/x" });
  await session.client.status();
  machine.send("nonsense\n");
  await machine.ended;
  await until(async () => /^sent what is no control line/.test((await reasons(farm))[0] ?? ""), "the reason");
  expect(farm.gone).toEqual([session.id]);
});

test("[coordinator 19] /revdial: unknown or malformed id 400, POST 405 with Allow, a stale pick-up 400; none ends a session", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const session = await farm.session();
  const ask = async (method: string, target: string) => {
    const socket = tls.connect({ port: farm.port, host: "127.0.0.1", rejectUnauthorized: false });
    socket.write(encodeRequestHead(method, target, [["Host", ""]]));
    const read = responseHeadReader().push(await buffer(socket));
    return [read?.head.status, read && fieldValues(read.head, "Allow").join()];
  };
  const mine = machine.lines.find((line) => line.connPath)?.connPath ?? "";
  expect([
    await ask("GET", connPath(randomBytes(16).toString("hex"), 1, COORDINATOR)),
    await ask("GET", "/revdial?revdial.dialer=nope"),
    await ask("GET", "/revdial"),
    await ask("POST", mine),
    await ask("GET", mine),
    await ask("GET", mine.replace(/&.*/, "")),
  ]).toEqual([
    [400, ""],
    [400, ""],
    [400, ""],
    [405, "GET"],
    [400, ""],
    [400, ""],
  ]);
  expect(await session.client.workDir()).toBe("/tmp/workdir");
});

test("a machine gets no connection that another one was asked for, nor ends its wait: not under that one's name, nor by the number of the dial", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const session = await farm.session();
  await using thief = await farm.machine();
  await farm.session(2);
  machine.behave.pickUp = "ignore";
  const dials = () => machine.lines.flatMap((line) => line.connPath ?? []);
  const before = dials().length;
  const calls = ["a", "b", "c"].map((path) => session.client.removeAll([path])); // one may use the connection that was kept
  await until(() => dials().length >= before + 2, "dials");
  const asked = dials().slice(before);
  const own = thief.lines.flatMap((line) => line.connPath ?? []).at(-1) ?? "";
  for (const path of asked) {
    const number = /dial=(\d+)$/.exec(path)?.[1] ?? "";
    thief.send({ command: "pickup-failed", connPath: path, err: "so that it is tried again" });
    expect(await thief.pickUp(own.replace(/\d+$/, number))).toBe(400);
    expect(await thief.pickUp(connPath(randomBytes(16).toString("hex"), Number(number), COORDINATOR))).toBe(400);
  }
  for (const path of asked) expect(await machine.pickUp(path)).toBe(101);
  await Promise.all(calls);
  expect(thief.calls.filter((call) => call.startsWith("POST"))).toEqual([]);
  expect(machine.calls.filter((call) => call.startsWith("POST")).toSorted()).toEqual(
    ["a", "b", "c"].map((path) => `POST /removeall path=${path}`),
  );
});

test("[coordinator 21] pickup-failed fails exactly its dial, also without saying which; the machine is asked again", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock });
  await using machine = await farm.machine();
  const session = await farm.session();
  const asked = () => machine.lines.flatMap((line) => line.connPath ?? []);
  machine.behave.pickUp = "ignore";
  const calls = ["a", "b", "c"].map((path) => session.client.removeAll([path])); // the first may use the connection that was kept
  await until(() => asked().length >= 3, "dials");
  const [, one = "", two = ""] = asked();
  const before = asked().length;
  machine.behave.pickUp = "dial";
  const pause = async () => {
    await until(() => clock.sleeping === 2, "the pause before it is asked again, and the rounds of the pool");
    await clock.advance(PICK_UP_PAUSE);
  };
  machine.send({ command: "pickup-failed", connPath: one, err: "no route to host" });
  await machine.pickUp(two);
  expect(asked().length).toBe(before);
  await pause();
  await Promise.all(calls);
  expect(asked().length).toBe(before + 1);
  machine.behave.pickUp = "fail-without-path";
  await clock.advance(seconds(4)); // the kept connections are too old by then
  const failed = session.client.workDir().catch((error: Error) => error.message);
  for (let dial = 1; dial < PICK_UPS; dial++) await pause();
  expect(await failed).toContain("could not open a connection: 400 no");
  machine.behave.pickUp = "dial";
  expect(await session.client.workDir()).toBe("/tmp/workdir");
});

test("[coordinator 22] [coordinator 25] [coordinator 36] parallel calls open a connection each and all are answered, a tree of over 1 MiB whole; then connections are used again", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const { client } = await farm.session();
  const before = machine.pickedUp;
  const [status, workDir, ls, tgz] = await Promise.all([
    client.status(),
    client.workDir(),
    client.ls("d", { recursive: true, skip: ["x"] }),
    client.readTgz(".").then(buffer),
  ]);
  expect([status, workDir, ls, gunzipSync(tgz).equals(TREE), machine.lost]).toEqual([
    { version: 29 },
    "/tmp/workdir",
    ["drwxr-xr-x\td/", "-rw-r--r--\td/x\t3\t2026-11-23T17:00:05Z"],
    true,
    "",
  ]);
  expect(machine.pickedUp - before).toBeGreaterThanOrEqual(3);
  const parallel = machine.pickedUp;
  for (let i = 0; i < 5; i++) await client.workDir();
  expect(machine.pickedUp).toBe(parallel);
});

test("an answer that is thrown away ends its connection at once, not a byte of it read or all that the machine has to say for now", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  machine.behave.tgz = () => new Promise(() => {});
  const { client } = await farm.session();
  const unread = await client.readTgz(".");
  unread.destroy();
  const begun = await client.readTgz(".");
  for await (const _ of begun.iterator({ destroyOnReturn: false })) if (begun.readableLength === 0) break;
  begun.destroy();
  await until(() => machine.connections === 1, "both connections to end");
});

test("the calls that write, as the original takes them", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const { client } = await farm.session();
  machine.calls.length = 0;
  await client.writeFile("a b/f", 0o755, Buffer.from("12345"));
  await client.writeFile("g", 0o600, Readable.from([Buffer.from("123"), Buffer.from("4567")]));
  await client.writeTgzFromUrl("go", "https://example.org/x.tar.gz?a=1&b=2");
  expect(await client.writeTgz("", Readable.from([Buffer.alloc(100_000)]))).toEqual({ skippedLinks: undefined });
  await client.ls("", { digest: true });
  expect([machine.calls, machine.uploads]).toEqual([
    [
      "PUT /write path=a+b%2Ff&mode=493", // decimal
      "PUT /write path=g&mode=384",
      "POST /writetgz dir=go url=https://example.org/x.tar.gz?a=1&b=2",
      "PUT /writetgz dir=",
      "GET /ls dir=&recursive=false&digest=true",
    ],
    [5, 7, 100_000],
  ]);
});

test("exec streams output in order under back-pressure, and gives the trailer", async () => {
  const lines = Array.from({ length: 20_000 }, (_, at) => `line ${at} of the output\n`);
  await using farm = await farmOfMachines();
  await using _machine = await farm.machine({
    exec: async (form, io) => {
      for (const line of lines) await io.write(line);
      return form.args[0] ?? "ok";
    },
  });
  const { client } = await farm.session();
  const run = async (state: string) => {
    const output: Buffer[] = [];
    let inside = 0;
    const result = await client.exec({ cmd: "./x", args: [state], env: ["A=b"], path: [] }, async (chunk) => {
      expect(++inside).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      output.push(Buffer.from(chunk));
      inside--;
    });
    return [Buffer.concat(output).toString() === lines.join(""), result];
  };
  expect([await run("ok"), await run("exit status 3")]).toEqual([
    [true, { state: "ok", ok: true }],
    [true, { state: "exit status 3", ok: false }],
  ]);
});

test("a machine that breaks off an exec or an upload, answers without the trailer, or refuses, gives the right error", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const { client } = await farm.session();
  const exec = async () => {
    const error = await client.exec({ cmd: "x", args: [], env: [], path: [] }, () => {}).catch((e) => e);
    return `${error.code}: ${error.message}`;
  };
  const upload = async () => {
    const body = Readable.from(
      (function* () {
        for (let i = 0; i < 200; i++) yield randomBytes(64 * 1024);
      })(),
    );
    const error = await client.writeTgz("d", body).catch((e) => e);
    return [`${error?.code}: ${error?.message}`, body.destroyed];
  };
  machine.behave.exec = "no-trailer";
  expect(await exec()).toMatch(/^machine-broken: .*ended without saying how the command "x" ended$/);
  machine.behave.exec = "drop";
  expect(await exec()).toMatch(/^machine-gone: Machine "m1" broke off POST \/exec: /);
  machine.behave.upload = { after: 300_000, how: "drop" };
  expect(await upload()).toEqual([
    expect.stringMatching(/^machine-gone: Machine "m1" broke off PUT \/writetgz: /),
    true,
  ]);
  machine.behave.upload = { after: 300_000, how: "refuse" };
  expect(await upload()).toEqual(['bad-request: Cannot unpack an archive in "d": bad archive', true]);
  delete machine.behave.upload;
  const source = new Readable({ read() {} });
  const broken = client.writeTgz("d", source);
  source.destroy(new Error("the source broke"));
  await expect(broken).rejects.toThrow("the source broke");
  expect(await client.status()).toEqual({ version: 29 });
});

test("calls end at once when the caller gives up or the machine is gone in the middle", async () => {
  let dropped = 0;
  await using farm = await farmOfMachines();
  await using machine = await farm.machine({
    exec: async (_form, io) => {
      await io.write("begun\n");
      await new Promise<void>((resolve) => io.signal.addEventListener("abort", () => resolve()));
      dropped++;
      return "signal: killed";
    },
  });
  const session = await farm.session();
  const begin = (signal?: AbortSignal) => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const request = { cmd: "sleep", args: [], env: [], path: [] };
    return { begun: promise, ended: session.client.exec(request, () => resolve(), signal) };
  };
  const stop = new AbortController();
  const first = begin(stop.signal);
  await first.begun;
  stop.abort(new Error("not wanted any more"));
  await expect(first.ended).rejects.toThrow("not wanted any more");
  await until(() => dropped === 1, "the machine to hear of it");
  const second = begin();
  await second.begun;
  await machine.hangUp();
  await expect(second.ended).rejects.toMatchObject({ code: "machine-gone" });
  await expect(session.client.status()).rejects.toMatchObject({ code: "machine-gone" });
  expect([session.gone.aborted, farm.pool.take(session.id), farm.pool.sessions()]).toEqual([true, undefined, []]);
});

test("[coordinator 62] an original machine is halted and closed after its build, and comes back only by registering", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine();
  const session = await farm.session();
  expect(farm.pool.take(session.id)?.id).toBe(session.id);
  expect(farm.pool.take(session.id)).toBeUndefined();
  await farm.pool.release(session.id, "clean");
  expect(await machine.ended).toBe(0);
  expect([machine.calls.filter((call) => !call.startsWith("GET")), farm.pool.sessions()]).toEqual([
    ["POST /halt", "end"],
    [],
  ]);
  await using _again = await farm.machine();
  expect((await farm.session(2)).machineId).toBe(session.machineId);
  await until(async () => (await reasons(farm))[0]?.startsWith("served its build") ?? false, "the reason");
});

test("[coordinator 63] a machine of our own serves builds one after the other; the first call of each can be the cleaning", async () => {
  await using farm = await farmOfMachines();
  await using machine = await farm.machine({ agent: AGENT });
  expect(fieldValues(machine.head ?? { fields: [] }, PONG_HEADER)).toEqual(["1"]);
  const session = await farm.session();
  for (let build = 1; build <= 3; build++) {
    const taken = farm.pool.take(session.id);
    await taken?.client.cleanUp();
    expect(farm.pool.sessions()[0]?.mode).toBe("busy");
    await farm.pool.release(session.id, "clean");
    expect([(await farm.session(build + 1)).id, farm.pool.sessions()[0]?.mode]).toEqual([session.id, "idle"]);
  }
  expect(machine.calls).toEqual(Array(3).fill("POST /removeall path=."));
  expect(machine.leases).toEqual(Array(3).fill(LEASE_OVER)); // an agent of before would spare what runs
  farm.pool.take(session.id);
  await farm.pool.release(session.id, "broken");
  expect([await machine.ended, machine.calls.slice(-2), farm.offered.length]).toEqual([0, ["POST /halt", "end"], 4]);
});

test("[coordinator 65] an idle machine that falls silent is out within 35 s, ours and the original", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock });
  await using ours = await farm.machine({ name: "ours", agent: AGENT });
  await using original = await farm.machine({ name: "original" });
  await farm.session(2);
  // Both are well for a while; no time passes before both have answered what they were asked.
  for (let round = 1; round <= 5; round++) {
    await clock.advance(PING_EVERY);
    await until(() => ours.answered > round, "our own agent has answered");
    await until(() => clock.sleeping === 1, "no check is under way, only the rounds of the pool sleep");
  }
  expect(farm.pool.sessions().map((session) => session.mode)).toEqual(["idle", "idle"]);
  expect(original.calls.filter((call) => call === "GET /status").length).toBeGreaterThan(3);
  ours.behave.mute = true;
  original.behave.silent = true;
  await clock.advance(seconds(35));
  await until(() => farm.gone.length === 2, "both are out");
  await until(async () => (await reasons(farm)).every((reason) => reason !== null), "reasons");
  expect((await reasons(farm)).toSorted()).toEqual([
    "stopped answering: a health check failed",
    "stopped answering: no answer to 2 questions in a row whether it is there",
  ]);
});

test("[coordinator 65] a busy machine is out after 3 failed heartbeats, and its build hears of it", async () => {
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock });
  await using machine = await farm.machine();
  const session = await farm.session();
  farm.pool.take(session.id);
  machine.behave.silent = true;
  const call = session.client.removeAll(["."]).catch((error: unknown) => error);
  await clock.advance(seconds(60));
  expect(session.gone.aborted).toBe(false);
  await clock.advance(seconds(60));
  await until(() => session.gone.aborted, "it is out");
  expect([session.gone.reason, await call]).toEqual(
    Array(2).fill(expect.objectContaining({ code: "machine-gone", message: expect.stringContaining("3 heartbeats") })),
  );
});

test("a machine whose agent program is not the newest is sent for it when it is free, once for each program", async () => {
  let served = "d1";
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock, pool: { agentDigest: () => served } });
  await using first = await farm.machine({ agent: AGENT });
  const session = await farm.session();
  farm.pool.take(session.id);
  served = "d2";
  await farm.pool.release(session.id, "clean");
  expect([await first.ended, first.calls]).toEqual([0, ["POST /halt", "end"]]);
  await using unchanged = await farm.machine({ agent: AGENT });
  const again = await farm.session(2);
  await clock.advance(seconds(3)); // rounds of the pool
  expect([farm.pool.sessions().map(({ id, mode }) => [id, mode]), unchanged.calls]).toEqual([[[again.id, "idle"]], []]);
  served = "d3";
  await clock.advance(seconds(1));
  expect(await unchanged.ended).toBe(0);
  expect(farm.gone).toEqual([again.id]);
});

test("a machine that somebody goes on with as it is, is offered again at once, and not sent for a newer agent program before that", async () => {
  let served = "d1";
  const clock = new FakeClock();
  await using farm = await farmOfMachines({ clock, pool: { agentDigest: () => served } });
  await using machine = await farm.machine({ agent: AGENT });
  const { id } = await farm.session();
  farm.pool.take(id);
  expect(farm.pool.inUse(id)).toBe(true);
  served = "d2";
  await farm.pool.release(id, "kept");
  expect([farm.pool.inUse(id), farm.offered.length]).toEqual([false, 2]);
  await clock.advance(seconds(3)); // rounds of the pool
  expect([farm.pool.take(id)?.id, machine.calls]).toEqual([id, []]);
});

test("a machine whose work was ended while it was away is emptied before it is offered, and only then", async () => {
  await using farm = await farmOfMachines();
  const { sql } = farm.database;
  const agent = { ...AGENT, instance: "a".repeat(32), resume: RESUME_VERSION };
  const machine = await farm.machine({ agent });
  const { id } = await farm.session();
  await sql.query(
    `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, epoch, instance, session_id, machine_id, coordinator_id, held_at)
     select 'build', 2, $2, 'submitted', 0, $3, $3, 'held', 1, s.instance, s.id, s.machine_id, s.coordinator_id, $3 from session s where s.id = $1`,
    [id, HOST_TYPE, at(systemClock.now())],
  );
  await machine.hangUp();
  await until(async () => (await reasons(farm))[0] !== null, "the end");
  {
    await using holds = await farm.machine({ agent });
    await farm.session(2);
    expect(holds.calls).toEqual([]);
  }
  await until(async () => (await reasons(farm))[1] !== null, "the second end");
  await sql.query("update lease set state = 'ended', ended_at = $1", [at(plus(systemClock.now(), seconds(1)))]);
  await using back = await farm.machine({ agent });
  await farm.session(3);
  expect(back.calls).toEqual(["POST /removeall path=."]);
});

test("two machines of one name are both kept; one that keeps coming and going is seen, by every coordinator", async () => {
  await using farm = await farmOfMachines();
  for (let i = 0; i < 3; i++) {
    await using _gone = await farm.machine({ agent: AGENT });
  }
  const flapping = () => flappingMachines(farm.database.sql, plus(systemClock.now(), ms(-60_000)), 4);
  expect(await flapping()).toEqual([]);
  await using _one = await farm.machine({ agent: AGENT });
  await using _two = await farm.machine({ agent: AGENT });
  await until(() => farm.pool.sessions().length === 2, "both");
  expect(new Set(farm.pool.sessions().map((session) => session.machineId)).size).toBe(1);
  await until(async () => (await flapping())[0]?.sessions === 5, "all five have their rows");
});

test("300 machines that dial at once are all there within seconds, and their ends are written", async () => {
  await using farm = await farmOfMachines();
  const machines = await Promise.all(
    Array.from({ length: 300 }, (_, at) => farm.machine({ name: `m${at}`, agent: AGENT })),
  );
  await farm.session(300);
  expect(await farm.database.sql.query("select count(*)::integer as n from session where closed_at is null")).toEqual([
    { n: 300 },
  ]);
  await Promise.all(machines.map((machine) => machine.hangUp()));
  await until(async () => {
    const [row] = await farm.database.sql.query<{ n: number }>(
      "select count(*)::integer as n from session where closed_at is null",
    );
    return row?.n === 0;
  }, "all ends");
  expect([farm.gone.length, farm.pool.sessions()]).toEqual([300, []]);
});

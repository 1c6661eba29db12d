import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import type { OutgoingHttpHeaders } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { LEASE_GOES_ON, LEASE_HEADER, LEASE_OVER } from "../../wire/buildlet-api/buildlet-api.ts";
import { type ExecForm, encodeExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { type Reply, replyOf } from "../testing/original-coordinator.ts";
import { running } from "../testing/processes.ts";
import { TestMachine } from "../testing/test-machine.ts";

let machine: TestMachine;
beforeAll(async () => {
  machine = await TestMachine.start();
  await machine.coordinator.registered();
});
afterAll(() => machine[Symbol.asyncDispose]());

const FORM: ExecForm = { cmd: "/bin/sh", args: [], dir: "", env: [], path: [], system: false, debug: false };
const POST = { method: "POST", path: "/exec", headers: { "Content-Type": "application/x-www-form-urlencoded" } };

const start = (form: Partial<ExecForm>) => machine.coordinator.open(POST, encodeExecForm({ ...FORM, ...form }));
const exec = async (form: Partial<ExecForm>): Promise<Reply> => await replyOf(await start(form));
const sh = (script: string, form: Partial<ExecForm> = {}) => exec({ args: ["-c", script], ...form });

async function script(name: string, text: string): Promise<void> {
  const path = join(machine.workDir, name);
  await mkdir(join(path, ".."), { recursive: true });
  await writeFile(path, text);
  await chmod(path, 0o755);
}

function outcome(reply: Reply): readonly [number, string, string | undefined] {
  return [reply.status, reply.body.toString(), reply.trailers["process-state"]];
}

test("[coordinator 41] the trailer tells how the command ended", async () => {
  const replies = [await sh("echo out; exit 3"), await sh("true"), await sh("kill -9 $$"), await sh("kill $$")];
  expect(replies.map(outcome)).toEqual([
    [200, "out\n", "exit status 3"],
    [200, "", "ok"],
    [200, "", "signal: killed"],
    [200, "", "signal: terminated"],
  ]);
  expect([replies[0]?.headers.trailer, replies[0]?.headers["transfer-encoding"]]).toEqual(["Process-State", "chunked"]);
});

test("the response is byte for byte what the original sends, header order and Date apart", async () => {
  const socket = await machine.coordinator.dial();
  const body = encodeExecForm({ ...FORM, args: ["-c", "echo out; exit 7"] });
  socket.write(
    `POST /exec HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  let text = "";
  for await (const chunk of socket) text += chunk;
  const [head = "", ...rest] = text.split("\r\n\r\n");
  expect(head.split("\r\n").filter((line) => !line.startsWith("Date: ")).sort()).toEqual([
    "Connection: close", "HTTP/1.1 200 OK", "Trailer: Process-State", "Transfer-Encoding: chunked",
  ]); // biome-ignore format: a row
  expect(rest.join("\r\n\r\n")).toBe("4\r\nout\n\r\n0\r\nProcess-State: exit status 7\r\n\r\n");
});

test("[coordinator 40] where a command runs", async () => {
  await script("d/x.sh", "#!/bin/sh\npwd\n");
  await mkdir(join(machine.workDir, "e"), { recursive: true });
  const w = machine.workDir;
  const replies = await Promise.all([
    exec({ cmd: "d/x.sh" }),
    exec({ cmd: "pwd", system: true }),
    exec({ cmd: "d/x.sh", dir: "e" }),
    exec({ cmd: "d/x.sh", dir: "/" }),
    exec({ cmd: "d/x.sh", dir: "a/../e" }),
  ]);
  expect(replies.map((reply) => reply.body.toString())).toEqual([`${w}/d\n`, `${w}\n`, `${w}/e\n`, "/\n", `${w}/e\n`]);
});

test("a bare name is looked for in the work dir's root before PATH, but not in mode sys", async () => {
  await script("pwd", "#!/bin/sh\necho ours\n");
  expect((await exec({ cmd: "pwd" })).body.toString()).toBe("ours\n");
  expect((await exec({ cmd: "pwd", system: true })).body.toString()).toBe(`${machine.workDir}\n`);
});

test("[coordinator 42] what cannot be run: 422, 400, or the reason in the trailer", async () => {
  await script("no-shebang", "echo never\n");
  await script("not-executable", "#!/bin/sh\n");
  await chmod(join(machine.workDir, "not-executable"), 0o644);
  await mkdir(join(machine.workDir, "folder"), { recursive: true });
  const status = async (form: Partial<ExecForm>) => (await exec(form)).status;
  expect([
    await status({ cmd: "no-such-program" }),
    await status({ cmd: "" }),
    await status({ cmd: "../x" }),
    await status({ cmd: "d/x.sh", system: true }),
    await status({ cmd: "d/x.sh", dir: "../.." }),
    await status({ cmd: "a\0b" }),
  ]).toEqual([422, 400, 400, 400, 400, 400]);
  const w = machine.workDir;
  expect([
    outcome(await exec({ cmd: "./missing" })),
    outcome(await exec({ cmd: "folder/" })),
    outcome(await exec({ cmd: "./no-shebang" })),
    outcome(await exec({ cmd: "./not-executable" })),
    outcome(await exec({ cmd: "/bin/sh", dir: "nowhere" })),
    outcome(await exec({ cmd: "/bin/sh", args: ["a\0b"] })),
    outcome(await exec({ cmd: `./${"é\n"}` })),
  ]).toEqual([
    [200, "", `fork/exec ${w}/missing: no such file or directory`],
    [200, "", `fork/exec ${w}/folder/: permission denied`],
    [200, "", `fork/exec ${w}/no-shebang: exec format error`],
    [200, "", `fork/exec ${w}/not-executable: permission denied`],
    [200, "", `chdir ${w}/nowhere: no such file or directory`],
    [200, "", "fork/exec /bin/sh: invalid argument"],
    [200, "", `fork/exec ${w}/??: no such file or directory`],
  ]);
});

test("a refusal before the start is chunked and announces the trailer too", async () => {
  const { headers } = await exec({ cmd: "no-such-program" });
  expect([headers.trailer, headers["transfer-encoding"], headers["content-type"]]).toEqual([
    "Process-State", "chunked", "text/plain; charset=utf-8",
  ]); // biome-ignore format: a row
});

test("[coordinator 43] the request's environment wins, but not over the work dir's folders", async () => {
  const form = { env: ["A=1", "A=2", "TMPDIR=/x", "GOCACHE=/x", "GOROOT_BOOTSTRAP=", "nonsense"] };
  const { body } = await sh('echo "$A,$TMPDIR,$GOCACHE,$GOPLSCACHE,$GOROOT_BOOTSTRAP,$WORKDIR,$PWD"', {
    ...form,
    dir: "/",
  });
  const w = machine.workDir;
  expect(body.toString()).toBe(`2,${w}/tmp,${w}/gocache,${w}/goplscache,,${w},/\n`);
});

test("a command does not see where the agent has its key and its passwords, unless the request says so", async () => {
  for (const name of ["GO_BUILD_KEY_PATH", "GO_BUILD_KEY_DELETE_AFTER_READ", "META_password", "BARNRAISER_SECRET"]) {
    vi.stubEnv(name, "hidden");
  }
  vi.stubEnv("OWNERS_OWN", "seen");
  try {
    const reply = await sh("env", { env: ["BARNRAISER_COMMIT=asked-for"] });
    const lines = reply.body.toString().split("\n");
    expect([lines.filter((line) => line.endsWith("=hidden")), lines.includes("OWNERS_OWN=seen")]).toEqual([[], true]);
    expect(lines).toContain("BARNRAISER_COMMIT=asked-for");
  } finally {
    vi.unstubAllEnvs();
  }
});

test("[coordinator 44] PATH elements are expanded; $EMPTY alone clears it", async () => {
  const path = async (...elements: string[]) =>
    (await sh('echo "$PATH"', { env: ["PATH=/p:/q"], path: elements })).body.toString();
  expect([await path("$WORKDIR/go/bin", "$PATH"), await path("$EMPTY"), await path("", "/a", "$EMPTY"), await path()]).toEqual([
    `${machine.workDir}/go/bin:/p:/q\n`, "\n", "/a\n", "/p:/q\n",
  ]); // biome-ignore format: a row
});

test("[coordinator 45] debug tells first what is run", async () => {
  const { body } = await sh("echo done", { debug: true, dir: "/", env: ['Q="'] });
  const [first, second, third] = body.toString().split("\n");
  expect(first).toMatch(
    /^:: Running \/bin\/sh with args \["\/bin\/sh" "-c" "echo done"\] and env \[.*"Q=\\"".*\] in dir \/$/,
  );
  expect([second, third]).toEqual(["", "done"]);
});

test("[coordinator 46] the head comes at once, also from a command that is silent", async () => {
  const response = await start({ args: ["-c", "sleep 60"] });
  expect(response.statusCode).toBe(200);
  response.destroy();
});

test("output comes as it is written, stdout and stderr in their order, through /dev/stderr too", async () => {
  const { body } = await sh("for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done; echo dev > /dev/stderr");
  expect(body.toString()).toBe("out1\nerr1\nout2\nerr2\nout3\nerr3\nout4\nerr4\nout5\nerr5\ndev\n");
});

test("any bytes pass: NUL, invalid UTF-8, no line feed, a line of 16 MB", async () => {
  const bytes = randomBytes(100_000);
  await writeFile(join(machine.workDir, "bytes"), bytes);
  expect((await sh("cat bytes", { dir: "." })).body.equals(bytes)).toBe(true);
  const long = await sh("head -c 16777216 /dev/zero | tr '\\0' x");
  expect([long.body.length, long.body.every((byte) => byte === 120), long.trailers["process-state"]]).toEqual([
    16_777_216,
    true,
    "ok",
  ]);
});

test("a reader that stops reading stops the command, and memory does not grow", async () => {
  const response = await start({ args: ["-c", "head -c 100000000 /dev/zero; echo; echo end"] });
  response.pause();
  const before = process.memoryUsage().rss;
  await new Promise((resolve) => setTimeout(resolve, 300)); // in which all of it would be in memory
  expect(process.memoryUsage().rss - before).toBeLessThan(48 * 1024 * 1024);
  let length = 0;
  for await (const chunk of response) length += chunk.length;
  expect([length, response.trailers["process-state"]]).toEqual([100_000_005, "ok"]);
});

test("[coordinator 47] when the client goes away everything that the command started dies, daemons too", async () => {
  const word = `sleep-${randomBytes(6).toString("hex")}`;
  const nap = `exec -a ${word} sleep 300`;
  await script(
    "tree",
    `#!/bin/bash\n(${nap}) &\n(setsid bash -c '${nap}' >/dev/null 2>&1 </dev/null &)\n(env -i setsid bash -c '${nap} & wait') &\necho up\nwait\n`,
  );
  const response = await start({ cmd: "./tree" });
  await new Promise((resolve) => response.once("data", resolve));
  await machine.coordinator.until(() => running(word).length >= 3);
  response.destroy();
  await machine.coordinator.until(() => running(word).length === 0);
});

test("what a build left running is killed when the lease ends, not when files are deleted, and not what is still running", async () => {
  const left = `sleep-${randomBytes(6).toString("hex")}`;
  const leave = async () => {
    await script("leave", `#!/bin/bash\n(setsid bash -c 'exec -a ${left} sleep 300' >/dev/null 2>&1 </dev/null &)\n`);
    await exec({ cmd: "./leave" });
    await machine.coordinator.until(() => running(left).length === 1);
  };
  const removed = async (headers: OutgoingHttpHeaders) =>
    (await machine.coordinator.fetch({ method: "POST", path: "/removeall?path=.", headers })).status;
  await leave();
  const busy = await start({ args: ["-c", "echo up; sleep 0.5; echo still here"], dir: "/" });
  await new Promise((resolve) => busy.once("data", resolve));
  busy.pause(); // nobody would hear what it says meanwhile
  expect([await removed({ [LEASE_HEADER]: LEASE_GOES_ON }), running(left).length]).toEqual([200, 1]);
  // Whatever was said before, and by whomever: the next coordinator may be one that says nothing of leases.
  expect([await removed({}), running(left).length]).toEqual([200, 0]);
  expect((await replyOf(busy)).body.toString()).toContain("still here");
  await leave();
  expect([await removed({ [LEASE_HEADER]: LEASE_OVER }), running(left).length]).toEqual([200, 0]);
  await leave();
  expect([await removed({}), running(left).length]).toEqual([200, 0]);
});

test("[coordinator 48] HTTP/1.0 gets 400", async () => {
  const socket = await machine.coordinator.dial();
  socket.write("POST /exec HTTP/1.0\r\nContent-Length: 0\r\n\r\n");
  let text = "";
  for await (const chunk of socket) text += chunk;
  expect(text.split("\r\n")[0]).toBe("HTTP/1.1 400 Bad Request");
});

test("[coordinator 24] commands die with the session", async () => {
  const word = `sleep-${randomBytes(6).toString("hex")}`;
  await using other = await TestMachine.start();
  await other.coordinator.registered();
  await other.coordinator.open(
    POST,
    encodeExecForm({ ...FORM, cmd: "/bin/bash", args: ["-c", `exec -a ${word} sleep 300`] }),
  );
  await other.coordinator.until(() => running(word).length === 1);
  other.coordinator.control?.destroy();
  await other.ended;
  expect(running(word)).toEqual([]);
});

test("the first exec decides on GOROOT_BOOTSTRAP for good", async () => {
  await using other = await TestMachine.start();
  await other.coordinator.registered();
  await mkdir(join(other.workDir, "go1.4"), { recursive: true });
  const echo = encodeExecForm({ ...FORM, args: ["-c", 'echo "$GOROOT_BOOTSTRAP"'], dir: "/" });
  const first = await other.coordinator.fetch(POST, echo);
  await other.coordinator.fetch({ method: "POST", path: "/removeall?path=go1.4" });
  expect([first.body.toString(), (await other.coordinator.fetch(POST, echo)).body.toString(), existsSync(join(other.workDir, "go1.4"))]).toEqual([
    `${other.workDir}/go1.4\n`, `${other.workDir}/go1.4\n`, false,
  ]); // biome-ignore format: a row
});

test("connections that begin with rubbish do no harm", async () => {
  await using other = await TestMachine.start({ flags: ["-reverse-type=", "-listen=127.0.0.1:0"] });
  const port = await other.listening;
  for (const rubbish of [
    "\u0016\u0003\u0001\u0000",
    "GET / HTTP/9.9\r\n\r\n",
    "POST /connect-ssh HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "\r\n\r\n\r\n",
  ]) {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.end(rubbish);
    for await (const _ of socket);
  }
  const answer = await fetch(`http://127.0.0.1:${port}/healthz`);
  expect(await answer.text()).toBe("ok\n");
});

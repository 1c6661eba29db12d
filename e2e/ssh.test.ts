/**
 * Shells on machines that people borrow, by the OpenSSH client of the system (Debian: openssh-client, rsync): two real coordinators, one real agent.
 *
 * Every test goes through both gateways: that of the coordinator that has the machine, and the other one, which carries.
 */
import { execFile, spawn } from "node:child_process";
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { constants } from "node:os";
import { join } from "node:path";
import { spawn as spawnInTerminal } from "@lydell/node-pty";
import { afterAll, beforeAll, expect, test } from "vitest";
import { OK, RpcClient } from "../src/gomote/testing/rpc-client.ts";
import type { Machine } from "./testing/machine.ts";
import { Process, processesWith, until } from "./testing/process.ts";
import { OUR_TYPE, SeveralCoordinators } from "./testing/several.ts";

const OPTIONS = {
  coordinators: 2,
  builders: "[]",
  hosts: `[{ hostType: "${OUR_TYPE}", trust: "team", env: { FROM_HOST: "$WORKDIR/x" } }]`,
  flags: ["-listen-ssh", "127.0.0.1:0"],
};
const INVALID = 3;
const OWN = "barnraiser.Gomote";
const NEEDS = ["ssh", "scp", "sftp", "ssh-keygen", "rsync"];

let farm: SeveralCoordinators;
let machine: Machine;
let stack: AsyncDisposableStack;
let alice: RpcClient;
let id = "";
let work = "";
let folder = "";
/** Of each gateway. */
const ports: number[] = [];

interface Ran {
  readonly out: string;
  readonly errors: string;
  readonly status: number | null;
}

function ran(program: string, args: readonly string[], input = ""): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, [...args], { stdio: ["pipe", "pipe", "pipe"] });
    const all = { out: "", errors: "" };
    child.stdout.setEncoding("utf8").on("data", (text) => (all.out += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (all.errors += text));
    child.once("error", reject);
    child.once("close", (status) => resolve({ ...all, status }));
    child.stdin.on("error", () => {}); // it reads nothing
    child.stdin.end(input);
  });
}

const plain = [
  "-F",
  "none",
  "-o",
  "StrictHostKeyChecking=no",
  "-o",
  "UserKnownHostsFile=/dev/null",
  "-o",
  "LogLevel=ERROR",
];
const options = (key = "key") => [...plain, "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", join(folder, key)];
const ssh = (at: number, args: readonly string[], input?: string) =>
  ran("ssh", [...options(), "-p", String(ports[at]), `${id}@127.0.0.1`, ...args], input);

async function sign(client: RpcClient, name: string, instance: string): Promise<void> {
  const key = await readFile(join(folder, `${name}.pub`));
  const answer = await client.call<{ signed_public_ssh_key: Buffer }>("SignSSHKey", {
    gomote_id: instance,
    public_ssh_key: key,
  });
  if (!("signed_public_ssh_key" in answer)) throw new Error(JSON.stringify(answer));
  await writeFile(join(folder, `${name}-cert.pub`), answer.signed_public_ssh_key);
}

async function newKey(name: string, type = "ed25519"): Promise<void> {
  await ran("ssh-keygen", ["-q", "-t", type, "-N", "", "-f", join(folder, name)]);
}

beforeAll(async () => {
  for (const program of NEEDS) {
    const found = await new Promise((resolve) => execFile("which", [program], (error) => resolve(!error)));
    if (!found) throw new Error(`These tests need ${program}: apt-get install openssh-client rsync`);
  }
  await using starting = new AsyncDisposableStack();
  farm = starting.use(await SeveralCoordinators.start(OPTIONS));
  folder = join(farm.folder, "client");
  await mkdir(folder);
  machine = starting.use(await farm.machine("m1"));
  for (const at of [0, 1]) {
    const [, port = ""] = /"ssh":"127.0.0.1:(\d+)"/.exec(farm.running.get(at)?.process.output ?? "") ?? [];
    ports[at] = Number(port);
  }
  const beside = ["-data", join(farm.folder, "coordinator-0"), "-secrets", join(farm.folder, "secrets")];
  const ask = async (...flags: string[]) => {
    await using program = Process.program("coordinator.js", [...beside, ...flags]);
    await program.exited;
    return program.output;
  };
  await ask("-add-user", "alice@example.org", "-roles", "member");
  const [token] = /brt_[\w-]+/.exec(await ask("-new-token", "alice@example.org", "-name", "test")) ?? [];
  alice = starting.use(new RpcClient(farm.running.get(0)?.tlsPort ?? 0, token));
  const call = alice.stream<{ instance: { gomote_id: string; working_dir: string } | null }>("CreateInstance", {
    builder_type: OUR_TYPE,
  });
  const ended = await call.ended;
  if (ended.code !== OK) throw new Error(`${ended.code} ${ended.details}`);
  const instance = call.messages.at(-1)?.instance;
  id = instance?.gomote_id ?? "";
  work = instance?.working_dir ?? "";
  await newKey("key");
  await sign(alice, "key", id);
  stack = starting.move();
}, 120_000);
afterAll(() => stack?.disposeAsync());

test("[gomote 41] a certificate is of five minutes, for one instance and one person; garbage is refused", async () => {
  const { out } = await ran("ssh-keygen", ["-L", "-f", join(folder, "key-cert.pub")]);
  expect(out).toMatch(/Type: ssh-ed25519-cert-v01@openssh.com user certificate/);
  expect(out).toMatch(/Key ID: "go_build"\s+Serial: 1\s/);
  expect(out).toMatch(/Signing CA: ECDSA /);
  const [, from = "", to = ""] = /Valid: from (\S+) to (\S+)/.exec(out) ?? [];
  expect(Date.parse(to) - Date.parse(from)).toBe(300_000);
  expect(out).toMatch(
    new RegExp(`Principals: \\s+${id}@farmer\\.golang\\.org\\s+\\S+\\s+Critical Options: \\(none\\)`),
  );
  expect(out).toMatch(/Extensions: \s+permit-port-forwarding\s+permit-pty\s+token@barnraiser\b/);
  for (const garbage of [
    "",
    "ssh-ed25519 AAAA",
    "ssh-dss AAAAB3NzaC1kc3MAAAA= x",
    `${await readFile(join(folder, "key"))}`,
  ]) {
    const answer = await alice.call("SignSSHKey", { gomote_id: id, public_ssh_key: Buffer.from(garbage) });
    expect(answer).toMatchObject({ code: INVALID });
  }
  for (const type of ["ecdsa", "rsa"]) {
    await newKey(type, type);
    await sign(alice, type, id);
    const args = [...options(type), "-p", String(ports[0]), `${id}@127.0.0.1`, "echo in"];
    expect(await ran("ssh", args)).toMatchObject({ out: "in\n", status: 0 });
  }
});

test("[gomote 42] only its owner's certificate opens an instance: no other name, no bare key, no other authority", async () => {
  expect(await ssh(0, ["echo in"])).toEqual({ out: "in\n", errors: "", status: 0 });
  const refused = async (key: string, user = id) => {
    const { errors, status } = await ran("ssh", [
      ...options(key),
      "-p",
      String(ports[0]),
      `${user}@127.0.0.1`,
      "echo in",
    ]);
    expect([status, errors]).toEqual([255, expect.stringContaining("Permission denied (publickey)")]);
  };
  await refused("key", `${id}x`);
  await newKey("bare");
  await refused("bare");
  await newKey("authority");
  const certify = async (name: string, ...more: string[]) => {
    await newKey(name);
    const principals = `${id}@farmer.golang.org,alice`;
    await ran("ssh-keygen", [
      "-q",
      "-s",
      join(folder, "authority"),
      "-I",
      "x",
      "-n",
      principals,
      ...more,
      join(folder, `${name}.pub`),
    ]);
    await refused(name);
  };
  await certify("self-signed", "-V", "+5m");
  await certify("host-type", "-h");
});

test.each([0, 1])(
  "through gateway %i a command has its input, its two outputs, its status, and what `run` gives it",
  async (at) => {
    const script = 'cat; echo bad >&2; pwd; echo "$FROM_HOST $GOCACHE"; exit 7';
    expect(await ssh(at, [script], "some input")).toEqual({
      out: `some input${work}\n${work}/x ${work}/gocache\n`,
      errors: "bad\n",
      status: 7,
    });
    expect(await ssh(at, ["kill -TERM $$"])).toMatchObject({ status: 255 });
    expect(await ssh(at, ["kill -BUS $$"])).toMatchObject({ status: 128 + constants.signals.SIGBUS }); // ssh has no name for it
    const bytes = await ssh(at, ["yes | head -c 5000000 & yes | head -c 5000000 >&2 & wait"]);
    expect([bytes.out.length, bytes.errors.length, bytes.status]).toEqual([5_000_000, 5_000_000, 0]);
    expect((await ssh(at, ["no-such-program"])).status).toBe(127);
  },
);

/** ssh in a terminal of the test's own. */
class Terminal implements Disposable {
  readonly pty;
  seen = "";
  status: number | undefined;
  readonly #changed = new Set<() => void>();

  constructor(at: number, args: readonly string[] = []) {
    const given = [...options(), "-p", String(ports[at]), "-tt", `${id}@127.0.0.1`, ...args];
    this.pty = spawnInTerminal("ssh", given, { cols: 80, rows: 24, name: "xterm-256color" });
    this.pty.onData((text) => {
      this.seen += text;
      for (const call of this.#changed) call();
    });
    this.pty.onExit(({ exitCode }) => {
      this.status = exitCode;
      for (const call of this.#changed) call();
    });
  }

  async sees(pattern: RegExp): Promise<void> {
    await until(
      () => pattern.test(this.seen),
      30_000,
      () => `${pattern} in ${JSON.stringify(this.seen)}`,
      this.#changed,
    );
  }

  async ends(): Promise<number | undefined> {
    await until(
      () => this.status !== undefined,
      30_000,
      () => `an end in ${JSON.stringify(this.seen)}`,
      this.#changed,
    );
    return this.status;
  }

  [Symbol.dispose](): void {
    if (this.status === undefined) this.pty.kill();
  }
}

test.each([0, 1])(
  "[gomote 43] through gateway %i a shell has a terminal, which follows the window",
  { timeout: 120_000 },
  async (at) => {
    using terminal = new Terminal(at);
    await terminal.sees(new RegExp(`# Welcome to ${id}, the machine m1`));
    terminal.pty.write("stty size; echo $TERM; cd; stty -echo\r");
    await terminal.sees(/24 80\r\nxterm-256color/);
    terminal.pty.resize(132, 50);
    terminal.pty.write("while ! stty size | grep '^50 132'; do sleep 0.1; done\r");
    await terminal.sees(/\n50 132\r/);
    // What is typed before an interrupt is dropped, so each is waited for.
    terminal.pty.write(`sh -c 'trap "echo g""ot; exit" INT; echo sle""eping; while :; do sleep 0.1; done'\r`);
    await terminal.sees(/\nsleeping\r\n/);
    terminal.pty.write("\x03");
    await terminal.sees(/got\r\n.*[#$] $/s);
    terminal.pty.write("exit 9\r");
    expect(await terminal.ends()).toBe(9);
  },
);

test.each([0, 1])("through gateway %i scp, sftp and rsync carry files", { timeout: 120_000 }, async (at) => {
  const port = String(ports[at]);
  const there = `${id}@127.0.0.1`;
  await writeFile(join(folder, "up"), "x".repeat(300_000), { mode: 0o741 });
  const dir = `d${at}`;
  expect(await ssh(at, [`mkdir -p ${dir}`])).toMatchObject({ status: 0 });
  expect(await ran("scp", [...options(), "-p", "-P", port, join(folder, "up"), `${there}:${dir}/up`])).toMatchObject({
    status: 0,
  });
  const { mode, size } = await stat(join(work, dir, "up"));
  expect([mode & 0o777, size]).toEqual([0o741, 300_000]);
  expect(
    await ran("scp", [...options(), "-P", port, "-r", `${there}:${dir}`, join(folder, `back${at}`)]),
  ).toMatchObject({ status: 0 });
  expect((await readFile(join(folder, `back${at}`, "up"), "utf8")).length).toBe(300_000);
  const batch = `cd ${dir}\nmkdir sub\nput ${join(folder, "up")} sub/two\nrename sub/two sub/three\nls -l sub\nchmod 600 sub/three\nrm up\nbye\n`;
  const sftp = await ran("sftp", [...options(), "-P", port, "-b", "-", there], batch);
  expect(sftp).toMatchObject({ status: 0, out: expect.stringContaining("three") });
  expect((await stat(join(work, dir, "sub", "three"))).mode & 0o777).toBe(0o600);
  expect((await ran("sftp", [...options(), "-P", port, "-b", "-", there], "get nowhere\n")).status).toBe(1);
  const rsh = ["ssh", ...options(), "-p", port].join(" ");
  const rsync = ["-a", "--delete", "-e", rsh, `${folder}/back${at}/`, `${there}:${dir}/`];
  expect(await ran("rsync", rsync)).toMatchObject({ status: 0 });
  expect((await readFile(join(work, dir, "up"), "utf8")).length).toBe(300_000);
  await expect(stat(join(work, dir, "sub"))).rejects.toThrow("ENOENT");
});

function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const probe = createServer().listen(0, "127.0.0.1", () => {
    const { port } = probe.address() as AddressInfo;
    probe.close(() => resolve(port));
  });
  return promise;
}

test.each([0, 1])(
  "through gateway %i -L reaches the machine's loopback, and nothing of the farm's network",
  { timeout: 120_000 },
  async (at) => {
    const server: Server = createServer((_, response) => response.end("from the machine"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const [free, barred] = [await freePort(), await freePort()];
    const args = [
      ...options(),
      "-p",
      String(ports[at]),
      "-N",
      "-L",
      `${free}:localhost:${port}`,
      "-L",
      `${barred}:10.1.2.${at + 3}:80`,
    ];
    const child = spawn("ssh", [...args, `${id}@127.0.0.1`], { stdio: "ignore" });
    try {
      const reached = async () => {
        const answer = await fetch(`http://127.0.0.1:${free}/`).catch(() => undefined);
        return (await answer?.text()) === "from the machine";
      };
      await until(reached, 20_000, () => "an answer through the forward");
      expect(await reached()).toBe(true);
      const refused = await new Promise<string>((resolve) => {
        const socket = connect(barred, "127.0.0.1");
        socket.once("error", (error) => resolve(error.message));
        socket.once("end", () => resolve("hung up"));
        socket.resume();
      });
      expect(refused).toMatch(/hung up|ECONNRESET/);
      const recorded = () =>
        farm.rows<{ who: string; detail: string }>(
          `select who, detail from audit where action = 'gomote forward' and subject = 'gomote:${id}' order by id desc limit 2`,
        );
      const barredAs = `10.1.2.${at + 3}:80 refused: only the machine's own loopback is reached`;
      await until(
        async () => (await recorded())[0]?.detail === barredAs,
        20_000,
        () => "the refusal to be written down",
      );
      const who = "alice@example.org";
      expect(await recorded()).toEqual([
        { who, detail: barredAs },
        { who, detail: `localhost:${port}` },
      ]);
    } finally {
      child.kill();
      server.closeAllConnections();
      server.close();
    }
    const remote = await ran("ssh", [
      ...options(),
      "-p",
      String(ports[at]),
      "-o",
      "ExitOnForwardFailure=yes",
      "-R",
      "0:localhost:1",
      `${id}@127.0.0.1`,
      "true",
    ]);
    expect(remote.status).toBe(255);
  },
);

interface Executions {
  readonly executions?: readonly {
    readonly id: string;
    readonly argv: readonly string[];
    readonly process_state: string;
  }[];
}

test.each([0, 1])(
  "through gateway %i commands, files and shells are commands of the instance: shown to its machine's owner, and killed as any other",
  { timeout: 120_000 },
  async (at) => {
    const list = async () => {
      const { executions = [] } = (await alice.call("ListExecutions", { gomote_id: id }, OWN)) as Executions;
      return executions;
    };
    const ended = async (command: string, state: string) => {
      let last = "";
      const look = async () => {
        last = (await list()).find(({ argv }) => argv[0] === command)?.process_state ?? "no such command";
        return last === state;
      };
      await until(look, 20_000, () => `${state} of ${command}, which is ${last}`);
    };
    await ssh(at, [`true through ${at}`]);
    await ended(`true through ${at}`, "ok");
    await ssh(at, [`exit 7; through ${at}`]);
    await ended(`exit 7; through ${at}`, "exit status 7");
    const files = "files over ssh (sftp, scp)";
    const before = (await list()).filter(({ argv }) => argv[0] === files).length;
    await ran("sftp", [...options(), "-P", String(ports[at]), "-b", "-", `${id}@127.0.0.1`], "pwd\n");
    await ended(files, "ok");
    expect((await list()).filter(({ argv }) => argv[0] === files).length).toBe(before + 1);

    const word = `ssh-killed-${at}-${process.pid}`;
    const long = `(exec -a ${word} sleep 600) & wait`;
    const running = ssh(at, [long]);
    using terminal = new Terminal(at);
    await terminal.sees(/# Welcome to/);
    await ended(long, "");
    await ended("a shell over ssh", "");
    const token = (await readFile(join(farm.folder, "secrets", "operator-token"), "utf8")).trim();
    for (const path of [`/gomotes/${id}`, `/machines/m1?type=${OUR_TYPE}`]) {
      const answer = await fetch(`${farm.running.get(0)?.http}${path}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      const page = await answer.text();
      expect([path, answer.status, page.includes(word), page.includes("a shell over ssh")]).toEqual([
        path,
        200,
        true,
        true,
      ]);
    }
    for (const { id: execution_id, process_state } of await list())
      if (process_state === "")
        expect(await alice.call("KillExecution", { gomote_id: id, execution_id }, OWN)).toEqual({});
    expect(await running).toMatchObject({ status: 255, errors: "# This is over: it was killed by whoever ran it.\n" });
    expect(await terminal.ends()).toBe(255);
    await until(
      async () => (await processesWith(word)).filter((line) => !line.includes("ssh -F")).length === 0,
      20_000,
      () => `${word} to end`,
    );
    await ended(long, "it was killed by whoever ran it");
    await ended("a shell over ssh", "it was killed by whoever ran it");
  },
);

test("a client that is killed takes its command along", { timeout: 120_000 }, async () => {
  const word = `ssh-left-${process.pid}`;
  const child = spawn(
    "ssh",
    [...options(), "-p", String(ports[1]), `${id}@127.0.0.1`, `(exec -a ${word} sleep 600) & wait`],
    { stdio: "ignore" },
  );
  const running = async () => (await processesWith(word)).filter((line) => !line.includes("ssh -F")).length;
  await until(
    async () => (await running()) > 0,
    20_000,
    () => `${word} to run`,
  );
  child.kill("SIGKILL");
  await until(
    async () => (await running()) === 0,
    20_000,
    () => `${word} to end`,
  );
});

test("an instance that ends says why on every terminal, and closes it", { timeout: 120_000 }, async () => {
  using here = new Terminal(0);
  using there = new Terminal(1);
  for (const terminal of [here, there]) {
    terminal.pty.write("echo re''ady\r");
    await terminal.sees(/ready/);
  }
  expect(await alice.call("DestroyInstance", { gomote_id: id })).toEqual({});
  for (const terminal of [here, there]) {
    await terminal.sees(new RegExp(`# The instance ${id} has ended: its owner destroyed it\\.`));
    expect(await terminal.ends()).toBe(255);
  }
  expect((await ssh(0, ["true"])).errors).toContain("Permission denied");
  expect(machine.kills).toBe(0);
});

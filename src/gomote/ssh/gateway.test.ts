/**
 * The gateway before original buildlets, its limits, and its clock. What our own agent serves is in e2e/ssh.test.ts.
 * Needs the system's ssh.
 */
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2, { type ServerChannel } from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../../farm/clock.ts";
import { machineId, minutes } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../farm/testing/until.ts";
import { MASTER_KEY } from "../../machines/testing/farm-of-machines.ts";
import { systemClock } from "../../store/system-clock.ts";
import { quiet } from "../../store/testing/database.ts";
import { type GomoteFarm, gomoteFarm, HOST_TYPE } from "../testing/farm.ts";
import type { RpcClient } from "../testing/rpc-client.ts";
import { GOOD_FOR } from "./certificates.ts";
import { MOST_CHANNELS, MOST_DESTINATIONS } from "./client.ts";
import { LOGIN_LIMIT, MOST_KNOCKING_FROM, SshGateway } from "./gateway.ts";
import { openGatewayKeys } from "./keys.ts";

const OWN = "barnraiser.Gomote";

interface Executions {
  readonly executions: readonly {
    readonly id: string;
    readonly argv: readonly string[];
    readonly process_state: string;
  }[];
}

interface Ran {
  readonly out: string;
  readonly errors: string;
  readonly status: number | null;
}

/** A farm whose only machine has an original buildlet with an ssh server, and an instance of it. */
class World implements AsyncDisposable {
  readonly stack = new AsyncDisposableStack();
  /** The requests that the machine's ssh server got. */
  readonly asked: string[] = [];
  /** How the machine answers what is typed. */
  typed = (text: string, channel: ServerChannel): void => {
    if (!text.includes("leave")) return;
    channel.exit(5);
    channel.end();
  };
  farm!: GomoteFarm;
  gateway!: SshGateway;
  alice!: RpcClient;
  id = "";
  #folder = "";

  static async start(clock: Clock, sshd = true): Promise<World> {
    const world = new World();
    world.#folder = await mkdtemp(join(tmpdir(), "gateway-"));
    world.stack.defer(() => rm(world.#folder, { recursive: true }));
    world.farm = world.stack.use(await gomoteFarm({ clock, shells: true }));
    world.gateway = world.stack.use(await world.farm.gomote.listenSsh({ host: "127.0.0.1", port: 0 }));
    const ssh = (socket: Socket, user: string, key: string) => world.#sshd(socket, user, key);
    await world.farm.machines.machine(sshd ? { ssh } : {});
    world.alice = await world.farm.person("alice@example.org");
    const call = world.alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", {
      builder_type: HOST_TYPE,
    });
    await call.ended;
    world.id = call.messages.at(-1)?.instance?.gomote_id ?? "";
    await world.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", world.key]);
    await world.sign(world.alice, world.id);
    return world;
  }

  get key(): string {
    return join(this.#folder, "key");
  }

  /** From now on the client shows this certificate. */
  async sign(client: RpcClient, instance: string): Promise<void> {
    const key = await readFile(`${this.key}.pub`);
    const answer = await client.call("SignSSHKey", { gomote_id: instance, public_ssh_key: key });
    if (!("signed_public_ssh_key" in answer)) throw new Error(JSON.stringify(answer));
    await writeFile(`${this.key}-cert.pub`, answer.signed_public_ssh_key as Buffer);
  }

  /**
   * The original's in-process server, which is Go's, with an RSA key of its own. It lets in anybody who has the key
   * that it was given, and wants a terminal.
   */
  #sshd(socket: Socket, user: string, key: string): void {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const host = privateKey.export({ type: "pkcs1", format: "pem" }).toString();
    const server = new ssh2.Server({ hostKeys: [host], ident: "Go" }, (client) => {
      client.on("error", () => {});
      client.on("authentication", (context) => {
        const shown = context.method === "publickey" ? context.key.data.toString("base64") : "";
        if (context.username === user && shown === key.split(" ")[1]) context.accept();
        else context.reject(["publickey"]);
      });
      client.on("session", (accept) => {
        const session = accept();
        session.on("pty", (take, _, { cols, rows }) => {
          this.asked.push(`pty ${rows} ${cols}`);
          take?.();
        });
        session.on("window-change", (take, _, { cols, rows }) => {
          this.asked.push(`window ${rows} ${cols}`);
          take?.();
        });
        session.on("shell", (take) => {
          this.asked.push(`shell of ${user}`);
          const channel = take();
          channel.write("its shell\r\n");
          channel.on("data", (bytes: Buffer) => this.typed(bytes.toString(), channel));
        });
      });
    });
    server.injectSocket(socket);
  }

  run(program: string, args: readonly string[], stop?: Promise<unknown>): Promise<Ran> {
    return new Promise((resolve, reject) => {
      const child = spawn(program, [...args], { stdio: ["pipe", "pipe", "pipe"] });
      const all = { out: "", errors: "" };
      child.stdout.setEncoding("utf8").on("data", (text) => {
        all.out += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text) => {
        all.errors += text;
      });
      child.once("error", (error) => reject(new Error(`This test needs ${program}: ${error.message}`)));
      child.once("close", (status) => resolve({ ...all, status }));
      if (stop) void stop.then(() => child.stdin.write("leave\r"));
      else child.stdin.end();
    });
  }

  ssh(args: readonly string[], stop?: Promise<unknown>, { user = this.id, level = "ERROR" } = {}): Promise<Ran> {
    const strict = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", `LogLevel=${level}`, "BatchMode=yes"];
    const options = [...strict, "IdentitiesOnly=yes"].flatMap((option) => ["-o", option]);
    const where = ["-F", "none", "-p", String(this.gateway.port), "-i", this.key];
    return this.run("ssh", [...where, ...options, ...args.slice(0, 1), `${user}@127.0.0.1`, ...args.slice(1)], stop);
  }

  /** What the gateway tells a client that is not let in. */
  async refusal(user = this.id): Promise<string | undefined> {
    const { errors, status } = await this.ssh(["-T"], undefined, { user, level: "INFO" });
    expect([status, errors]).toEqual([255, expect.stringContaining("Permission denied (publickey)")]);
    return /# This certificate does not let you in: (.*)\.\r?\n/.exec(errors)?.[1];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stack.disposeAsync();
  }
}

let world: World | undefined;
beforeEach(() => {
  world = undefined;
});
afterEach(async () => await world?.[Symbol.asyncDispose]());

test("[gomote 44] an original buildlet gives shells with a terminal only: anything else is told so, and nothing runs", async () => {
  world = await World.start(systemClock);
  for (const args of [["-T"], ["-T", "touch x"]]) {
    const { out, errors, status } = await world.ssh(args);
    expect([out, errors.split("\n").length, status]).toEqual(["", 2, 255]);
    expect(errors).toMatch(/^# scp etc\. unsupported: /);
  }
  expect(world.asked).toEqual([]);
});

test("[gomote 42] a shell on an original buildlet goes through its own ssh server, with the gateway's key", async () => {
  world = await World.start(systemClock);
  const { asked } = world;
  const shell = world.ssh(
    ["-tt"],
    until(() => asked.length > 1, "a shell"),
  );
  const { out, status } = await shell;
  expect(out).toMatch(/^# Welcome to alice-.*\r\nits shell\r\n/s);
  expect([asked, status]).toEqual([["pty 24 80", "shell of swarming"], 5]);
});

test("a shell on an original buildlet is a command of its instance: listed while it is open, with how it ended, and killed as any other", async () => {
  world = await World.start(systemClock);
  const { asked, alice, id, farm } = world;
  const rows = async () => {
    const { executions = [] } = (await alice.call("ListExecutions", { gomote_id: id }, OWN)) as Executions;
    return executions.map(({ argv, process_state }) => [...argv, process_state]);
  };
  expect((await world.ssh(["-T", "touch x"])).status).toBe(255);
  await until(async () => (await rows())[0]?.[1] !== "", "its end to be written down");
  expect(await rows()).toEqual([["touch x", expect.stringMatching(/^scp etc\. unsupported/)]]);
  const { promise: leave, resolve } = Promise.withResolvers<void>();
  const left = world.ssh(["-tt"], leave);
  await until(() => asked.length > 1, "a shell");
  expect((await rows())[0]).toEqual(["a shell over ssh", ""]);
  resolve();
  expect((await left).status).toBe(5);
  await until(async () => (await rows())[0]?.[1] === "exit status 5", "its status to be written down");

  const { promise: never } = Promise.withResolvers<void>();
  const shell = world.ssh(["-tt"], never);
  await until(() => asked.length > 3, "another shell");
  const { executions } = (await alice.call("ListExecutions", { gomote_id: id }, OWN)) as Executions;
  expect(await alice.call("KillExecution", { gomote_id: id, execution_id: executions[0]?.id }, OWN)).toEqual({});
  expect(await shell).toMatchObject({
    status: 255,
    out: expect.stringContaining("# This is over: it was killed by whoever ran it."),
  });
  expect((await rows())[0]).toEqual(["a shell over ssh", "it was killed by whoever ran it"]);
  const audit =
    "select action, detail from audit where action like 'gomote ssh' or action like 'gomote kill' order by id";
  expect(await farm.database.sql.query(audit)).toEqual([
    { action: "gomote ssh", detail: "touch x" },
    { action: "gomote ssh", detail: "shell" },
    { action: "gomote ssh", detail: "shell" },
    { action: "gomote kill", detail: "a shell over ssh" },
  ]);
});

test("an original's ssh server that does not answer is told of; a signal that ended its shell is one here", async () => {
  world = await World.start(systemClock, false);
  const { out } = await world.ssh(["-tt"]);
  expect(out).toMatch(/Cannot reach the machine's ssh server: dial tcp 127\.0\.0\.1:2222: connect: connection refused/);
  await world[Symbol.asyncDispose]();
  world = await World.start(systemClock);
  world.typed = (_, channel) => {
    channel.exit("TERM", false, "");
    channel.end();
  };
  const { asked } = world;
  const shell = await world.ssh(
    ["-tt"],
    until(() => asked.length > 1, "a shell"),
  );
  expect([shell.status, shell.out]).toEqual([255, expect.stringContaining("its shell")]);
});

test("[gomote 42] whoever shows a certificate that does not let them in is told why", async () => {
  const clock = new FakeClock();
  world = await World.start(clock);
  const { alice, farm, id, key } = world;
  expect((await world.ssh(["-T"])).errors).toMatch(/^# scp etc/);
  expect(await world.refusal(`${id}x`)).toBe("it is for another instance");
  await clock.advance(GOOD_FOR);
  expect(await world.refusal()).toBe("it has expired");

  await world.run("ssh-keygen", ["-q", "-t", "ecdsa", "-N", "", "-f", `${key}-ca`]);
  const principals = `${id}@farmer.golang.org,${(await farm.people.find("alice@example.org")).id}`;
  await world.run("ssh-keygen", ["-q", "-s", `${key}-ca`, "-I", "x", "-n", principals, "-V", "+5m", `${key}.pub`]);
  expect(await world.refusal()).toBe("another authority signed it");

  // A certificate of an instance whose name is another person's by now.
  await world.sign(alice, id);
  await farm.database.sql.query("update gomote_instance set owner = $1", [
    (await farm.people.add("bob@example.org", ["member"], "test")).id,
  ]);
  expect(await world.refusal()).toBe("the instance is another person's");
  await farm.database.sql.query("update gomote_instance set owner = $1", [principals.split(",")[1]]);
  expect((await world.ssh(["-T"])).errors).toMatch(/^# scp etc/);
  await alice.call("DestroyInstance", { gomote_id: id });
  expect(await world.refusal()).toBe("its instance has ended");
  await rm(`${key}-cert.pub`);
  expect(await world.refusal()).toBeUndefined(); // a bare key
});

test("[gomote 42] certificates that the farm's own authority signed do not let in when they have expired, or name another person", async () => {
  world = await World.start(systemClock);
  const { farm, id, key } = world;
  const { authority } = await openGatewayKeys(farm.database.sql, MASTER_KEY, systemClock.now());
  await writeFile(`${key}-ca`, authority.privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  const alice = await farm.people.find("alice@example.org");
  const bob = await farm.people.add("bob@example.org", ["member"], "test");
  const certify = async (owner: string, valid: string) => {
    const principals = `${id}@farmer.golang.org,${owner}`;
    const signing = ["-q", "-s", `${key}-ca`, "-I", "x", "-n", principals, "-V", valid, `${key}.pub`];
    expect((await world?.run("ssh-keygen", signing))?.status).toBe(0);
  };
  await certify(alice.id, "-10m:+5m");
  expect((await world.ssh(["-T"])).errors).toMatch(/^# scp etc/);
  await certify(alice.id, "-10m:-5m");
  expect(await world.refusal()).toBe("it has expired");
  await certify(bob.id, "-10m:+5m");
  expect(await world.refusal()).toBe("the instance is another person's");
});

test("a shell ends with the token that its certificate was asked for with, and nobody gets in with it", async () => {
  world = await World.start(systemClock);
  const { farm, asked, id } = world;
  const alice = await farm.people.find("alice@example.org");
  const { id: number, token } = await farm.people.newToken(alice, "laptop", minutes(60), "test");
  await world.sign(farm.client(token), id);
  const { promise: never } = Promise.withResolvers<void>();
  const shell = world.ssh(["-tt"], never);
  await until(() => asked.length > 1, "a shell");
  await farm.people.revokeToken(number, alice, "test");
  const { out, status } = await shell;
  expect([out, status]).toEqual([expect.stringContaining("# The token that let you in was revoked.\r\n"), 255]);
  expect(await world.refusal()).toBe("the token that it was asked for with was revoked");
});

/** A client of our own with a bare key, at a gateway that takes everybody: the library shows no certificates. */
async function bareClient({ farm, id, stack }: World): Promise<ssh2.Client> {
  const { sql, bus } = farm.database;
  const { lines, instances, running: commands } = farm.gomote;
  const [instance] = await instances.list(null);
  if (!lines || !instance) throw new Error("There is no instance");
  const gate = { admit: async () => ({ ok: true, instance, token: undefined }) as const };
  const { host, client: pair } = await openGatewayKeys(sql, MASTER_KEY, systemClock.now());
  const config = () => ({ hosts: [], builders: [] });
  const listen = { host: "127.0.0.1", port: 0 };
  const deps = {
    sql,
    bus,
    clock: systemClock,
    log: quiet,
    config,
    instances,
    lines,
    commands,
    gate,
    host,
    client: pair,
  };
  const gateway = stack.use(await SshGateway.open({ ...deps, listen }));
  const client = new ssh2.Client();
  client.on("error", () => {});
  stack.defer(() => void client.destroy());
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const own = privateKey.export({ type: "pkcs1", format: "pem" }).toString();
  client.connect({ host: "127.0.0.1", port: gateway.port, username: id, privateKey: own });
  await once(client, "ready");
  return client;
}

test("each destination of refused ports is written down, of so many that a client cannot fill the audit", async () => {
  world = await World.start(systemClock);
  const { sql } = world.farm.database;
  const client = await bareClient(world);
  const all = Array.from({ length: MOST_DESTINATIONS + 20 }, (_, n) => n + 1);
  const one = (port: number): Promise<string> =>
    new Promise((resolve) =>
      client.forwardOut("127.0.0.1", 0, "10.0.0.1", port, (error) => resolve(error?.message ?? "opened")),
    );
  for (const said of await Promise.all([...all, 1, 1].map(one))) expect(said).toMatch(/Channel open failure/);
  const rows = () =>
    sql.query<{ detail: string }>("select detail from audit where action = 'gomote forward' order by id");
  await until(async () => (await rows()).length > MOST_DESTINATIONS, "all to be written down");
  const details = (await rows()).map(({ detail }) => detail);
  expect(details.length).toBe(MOST_DESTINATIONS + 1);
  expect(details).toContain("10.0.0.1:1 refused: only the machine's own loopback is reached");
  expect(details).toContain(
    `more than ${MOST_DESTINATIONS} destinations over one connection: those beyond are refused`,
  );
});

test("a session has one command: a client that asks for two gets the first, and many sessions without any are refused", async () => {
  world = await World.start(systemClock);
  const { asked } = world;
  const client = await bareClient(world);
  const channel = await new Promise<ssh2.ClientChannel>((resolve, reject) =>
    client.shell((error, made) => (error ? reject(error) : resolve(made))),
  );
  const { outgoing } = channel as unknown as { readonly outgoing: { readonly id: number } };
  const { _protocol: raw } = client as unknown as {
    readonly _protocol: {
      shell(channel: number, wantsReply: boolean): void;
      session(channel: number, window: number, packet: number): void;
    };
  };
  raw.shell(outgoing.id, true);
  raw.shell(outgoing.id, false);
  await until(() => asked.length > 1, "a shell");
  for (let n = 1; n < MOST_CHANNELS; n++) raw.session(1000 + n, 1024, 1024);
  const one = (): Promise<string> =>
    new Promise((resolve) => client.exec("x", (error) => resolve(error?.message ?? "opened")));
  expect(await one()).toMatch(/Channel open failure/);
  expect(asked).toEqual(["pty 24 80", "shell of swarming"]);
  channel.resume().write("leave");
  await once(channel, "close");
  expect(await one()).toBe("opened");
});

test("[gomote 45] an open shell renews its instance each minute; idle again, it ends as any other", async () => {
  const clock = new FakeClock();
  world = await World.start(clock);
  const { asked, alice, id, farm } = world;
  const { promise: leave, resolve } = Promise.withResolvers<void>();
  const shell = world.ssh(["-tt"], leave);
  await until(() => asked.length > 1, "a shell");
  for (let minute = 0; minute < 120; minute++) {
    await clock.advance(minutes(1));
    await farm.gomote.instances.look();
  }
  const names = async () => {
    const { instances = [] } = (await alice.call("ListInstances")) as { instances?: readonly { gomote_id: string }[] };
    return instances.map(({ gomote_id }) => gomote_id);
  };
  expect(await names()).toEqual([id]);
  resolve();
  expect((await shell).status).toBe(5);
  const running = () => farm.database.sql.query("select from gomote_command where ended_at is null");
  await until(async () => (await running()).length === 0, "its shell to be over");
  await clock.advance(minutes(31));
  await farm.gomote.instances.look();
  expect(await names()).toEqual([]);
});

test("whoever knocks and says nothing is let go of after a while, and there are only so many of them", async () => {
  const clock = new FakeClock();
  world = await World.start(clock);
  const { port } = world.gateway;
  const state = { open: 0, closed: 0 };
  const sockets = Array.from({ length: MOST_KNOCKING_FROM + 5 }, () => {
    const socket = connect(port, "127.0.0.1");
    socket.once("data", () => state.open++); // the gateway's greeting
    socket.on("error", () => {});
    socket.once("close", () => state.closed++);
    return socket;
  });
  await until(() => state.closed === 5 && state.open === MOST_KNOCKING_FROM, "the last five to be refused");
  await clock.advance(LOGIN_LIMIT);
  await until(() => state.closed === sockets.length, "all to be let go of");
  expect((await world.ssh(["-T"])).errors).toMatch(/^# scp etc/);
});

test("keys are the same for every coordinator and after every start, and sealed", async () => {
  world = await World.start(systemClock);
  const { sql } = world.farm.database;
  const keys = (master: string) => openGatewayKeys(sql, master, systemClock.now());
  const [one, two] = await Promise.all([keys("one master"), keys("one master")]);
  expect(one.host).toEqual(two.host);
  expect(one.authority.publicKey).toEqual(two.authority.publicKey);
  const [m1, m2] = [machineId(1), machineId(2)];
  expect(one.client(m1)).toEqual(two.client(m1));
  expect(new Set([one.host, one.client(m1), one.client(m2)].map(({ publicLine }) => publicLine)).size).toBe(3);
  expect((await keys("one master")).client(m2)).toEqual(one.client(m2));
  expect((await keys("another master")).host.publicLine).not.toBe(one.host.publicLine);
  const rows = await sql.query<{ sealed: Uint8Array }>("select sealed from ssh_key");
  for (const { sealed } of rows) expect(Buffer.from(sealed).includes("PRIVATE KEY")).toBe(false);
  await sql.query("update ssh_key set sealed = set_byte(sealed, 40, 1 - get_byte(sealed, 40) % 2)");
  await expect(keys("one master")).rejects.toThrow("it was changed");
});

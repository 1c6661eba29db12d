/** The gateway before original buildlets, its limits, and its clock; what our own agent serves: e2e/ssh.test.ts. Needs the system's ssh. */
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ssh2 from "ssh2";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../../farm/clock.ts";
import { minutes } from "../../farm/ids.ts";
import { FakeClock } from "../../farm/testing/fake-clock.ts";
import { until } from "../../machines/testing/farm-of-machines.ts";
import { systemClock } from "../../store/system-clock.ts";
import { type GomoteFarm, gomoteFarm, HOST_TYPE } from "../testing/farm.ts";
import type { RpcClient } from "../testing/rpc-client.ts";
import { LOGIN_LIMIT, MOST_KNOCKING_FROM, type SshGateway } from "./gateway.ts";
import { openGatewayKeys } from "./keys.ts";

interface Ran {
  readonly out: string;
  readonly errors: string;
  readonly status: number | null;
}

/** A farm whose only machine has an original buildlet with an ssh server, and an instance of it. */
class World implements AsyncDisposable {
  readonly stack = new AsyncDisposableStack();
  /** What the machine's ssh server was asked for. */
  readonly asked: string[] = [];
  farm!: GomoteFarm;
  gateway!: SshGateway;
  alice!: RpcClient;
  id = "";
  #folder = "";

  static async start(clock: Clock): Promise<World> {
    const world = new World();
    world.#folder = await mkdtemp(join(tmpdir(), "gateway-"));
    world.stack.defer(() => rm(world.#folder, { recursive: true }));
    world.farm = world.stack.use(await gomoteFarm({ clock, shells: true }));
    world.gateway = world.stack.use(await world.farm.gomote.listenSsh({ host: "127.0.0.1", port: 0 }));
    await world.farm.machines.machine({ ssh: (socket, user, key) => world.#sshd(socket, user, key) });
    world.alice = await world.farm.person("alice@example.org");
    const call = world.alice.stream<{ instance: { gomote_id: string } | null }>("CreateInstance", {
      builder_type: HOST_TYPE,
    });
    await call.ended;
    world.id = call.messages.at(-1)?.instance?.gomote_id ?? "";
    await world.run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(world.#folder, "key")]);
    const key = await readFile(join(world.#folder, "key.pub"));
    const answer = await world.alice.call("SignSSHKey", { gomote_id: world.id, public_ssh_key: key });
    if (!("signed_public_ssh_key" in answer)) throw new Error(JSON.stringify(answer));
    await writeFile(join(world.#folder, "key-cert.pub"), answer.signed_public_ssh_key as Buffer);
    return world;
  }

  /** The original's in-process server: whoever has the key that it was told of, and a terminal. */
  #sshd(socket: Socket, user: string, key: string): void {
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const host = privateKey.export({ type: "sec1", format: "pem" }).toString();
    const server = new ssh2.Server({ hostKeys: [host] }, (client) => {
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
          channel.on("data", (bytes: Buffer) => {
            if (!bytes.includes("leave")) return;
            channel.exit(5);
            channel.end();
          });
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

  ssh(args: readonly string[], stop?: Promise<unknown>): Promise<Ran> {
    const strict = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"];
    const options = [...strict, "IdentitiesOnly=yes"].flatMap((option) => ["-o", option]);
    const where = ["-F", "none", "-p", String(this.gateway.port), "-i", join(this.#folder, "key")];
    return this.run("ssh", [...where, ...options, ...args.slice(0, 1), `${this.id}@127.0.0.1`, ...args.slice(1)], stop);
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
  expect(one.client.publicLine).not.toBe(one.host.publicLine);
  expect((await keys("one master")).client).toEqual(one.client);
  expect((await keys("another master")).host.publicLine).not.toBe(one.host.publicLine);
  const rows = await sql.query<{ sealed: Uint8Array }>("select sealed from ssh_key");
  for (const { sealed } of rows) expect(Buffer.from(sealed).includes("PRIVATE KEY")).toBe(false);
  await sql.query("update ssh_key set sealed = set_byte(sealed, 40, 1 - get_byte(sealed, 40) % 2)");
  await expect(keys("one master")).rejects.toThrow("it was changed");
});

/** A farm that lends machines: a real front door and database, machines that dial in, claims and the service as a coordinator wires them. */
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { checkFarm } from "../../config/check.ts";
import type { FarmInput } from "../../config/input.ts";
import { type Gomote, openGomote } from "../../coordinator/gomote.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { type CoordinatorId, type Ms, minutes } from "../../farm/ids.ts";
import type { Person, Role } from "../../farm/person.ts";
import {
  COORDINATOR,
  type FarmOfMachines,
  farmOfMachines,
  HOST_TYPE,
} from "../../machines/testing/farm-of-machines.ts";
import { Peers } from "../../peers/peers.ts";
import { People } from "../../people/people.ts";
import { Claims } from "../../schedule/claims.ts";
import { claimLease } from "../../store/leases.ts";
import { configureHostTypes } from "../../store/machines.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import type { RequestListener } from "../../web/front-door.ts";
import type { SshKeys, Transfers } from "../rpc/faces.ts";
import { RpcClient } from "./rpc-client.ts";

export { HOST_TYPE };
/** Lent to the team; machines of COMMUNITY to nobody. */
export const TEAM_TYPE = "host-linux-arm64-team";
export const COMMUNITY = "host-linux-riscv64-shelf";
export const BUILDER = "linux-amd64";

export const FARM: FarmInput = {
  repos: [{ name: "app", url: "/nowhere" }],
  hosts: [
    { hostType: HOST_TYPE, trust: "team", env: { HOST: "yes" } },
    { hostType: TEAM_TYPE, trust: "team", gomote: "team" },
    { hostType: COMMUNITY },
  ],
  builders: [
    { name: BUILDER, host: HOST_TYPE, steps: ["true"], env: { GOROOT: "$WORKDIR/go" } },
    { name: "linux-amd64-known", host: HOST_TYPE, steps: ["true"], knownIssues: [123] },
    { name: "linux-riscv64", host: COMMUNITY, steps: ["true"] },
  ],
};

/** Files that a test put at a URL, and those that the service keeps. */
export class FakeTransfers implements Transfers {
  readonly files = new Map<string, { readonly owner: string | null; readonly bytes: Buffer }>();

  async upload(person: Person) {
    const objectName = `object-${this.files.size}`;
    this.files.set(`https://farm/t/${objectName}`, { owner: person.id, bytes: Buffer.alloc(0) });
    return { url: "https://farm/t/", fields: { key: objectName }, objectName };
  }

  async keep(person: Person, fileName: string, body: Readable): Promise<string> {
    const url = `https://farm/d/${fileName}`;
    this.files.set(url, { owner: person.id, bytes: await buffer(body) });
    return url;
  }

  async open(person: Person, url: string): Promise<Readable> {
    const file = this.files.get(url);
    if (!file) throw new FarmError("not-found", `Cannot fetch ${JSON.stringify(url)}: it answered 404`);
    if (file.owner !== null && file.owner !== person.id) throw new FarmError("forbidden", "It is somebody else's");
    return Readable.from([file.bytes]);
  }
}

const SSH_KEYS: SshKeys = {
  async sign(person, instance, publicKey) {
    const key = Buffer.from(publicKey).toString();
    if (!key.startsWith("ssh-ed25519 ")) throw new FarmError("bad-request", "Cannot read the key");
    return Buffer.from(`signed for ${person.email} on ${instance.name}\n`);
  },
};

export interface GomoteFarmOptions {
  /** Of expiry and of what is told while somebody waits; machines and their sessions have the real one. */
  readonly clock?: Clock;
  readonly config?: Partial<FarmInput>;
  readonly database?: TestDatabase;
  readonly coordinator?: CoordinatorId;
  readonly parkFor?: Ms;
  /** Instead of the people in the database. */
  readonly identify?: (bearer: string) => Promise<Person>;
}

export class GomoteFarm implements AsyncDisposable {
  readonly machines: FarmOfMachines;
  readonly gomote: Gomote;
  readonly people: People;
  readonly transfers: FakeTransfers;
  readonly #stack: AsyncDisposableStack;

  constructor(parts: Pick<GomoteFarm, "machines" | "gomote" | "people" | "transfers">, stack: AsyncDisposableStack) {
    this.machines = parts.machines;
    this.gomote = parts.gomote;
    this.people = parts.people;
    this.transfers = parts.transfers;
    this.#stack = stack;
  }

  get database(): TestDatabase {
    return this.machines.database;
  }

  /** Somebody with a token, and their client. */
  async person(email: string, roles: readonly Role[] = ["member"]): Promise<RpcClient> {
    const person = await this.people.find(email).catch(() => this.people.add(email, roles, "test"));
    const { token } = await this.people.newToken(person, "test", minutes(60 * 24), "test");
    return this.client(token);
  }

  client(token: string | undefined): RpcClient {
    return this.#stack.use(new RpcClient(this.machines.port, token));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export async function gomoteFarm(options: GomoteFarmOptions = {}): Promise<GomoteFarm> {
  const { clock = systemClock } = options;
  await using stack = new AsyncDisposableStack();
  const database = options.database ?? stack.use(await freshDatabase());
  const { sql, bus } = database;
  const config = checkFarm({ ...FARM, ...options.config });
  await configureHostTypes(sql, config.hosts);
  const stop = new AbortController();
  let listener: RequestListener = () => {};
  const machines = stack.use(
    await farmOfMachines({
      database,
      ...(options.coordinator && { coordinator: options.coordinator }),
      pages: (request, response) => listener(request, response),
      pool: {
        idle: (session, holds) => claims.offer({ id: session.id, queue: session.hostType, holds }),
        gone: (session) => claims.withdraw(session),
      },
    }),
  );
  const coordinator = options.coordinator ?? COORDINATOR;
  const people = new People({ sql, bus, clock: systemClock, log: quiet });
  const transfers = new FakeTransfers();
  const gomote = openGomote({
    sql,
    bus,
    clock,
    log: quiet,
    coordinator,
    config: () => config,
    people: { identify: options.identify ?? ((bearer) => people.identify(bearer)) },
    peers: new Peers({ sql, clock: systemClock, log: quiet, self: coordinator }),
    machine: (session) => machines.pool.take(session),
    release: (session, how) => machines.pool.release(session, how),
    tarball: async () => Readable.from([Buffer.from("the tree")]),
    stopping: stop.signal,
    transfers,
    sshKeys: SSH_KEYS,
    ...(options.parkFor && { parkFor: options.parkFor }),
  });
  const claims = new Claims(
    {
      clock: systemClock,
      log: quiet,
      claim: (session) => claimLease(sql, session, clock.now()),
      start: (lease) => gomote.instances.start(lease),
    },
    stop.signal,
  );
  bus.subscribe("queue:", (topic) => claims.wake(topic.slice("queue:".length) || undefined), stop.signal);
  listener = gomote.serve((_, response) => {
    response.statusCode = 200;
    response.end("a page\n");
  });
  stack.defer(async () => {
    stop.abort(new FarmError("unavailable", "The coordinator is stopping"));
    await gomote[Symbol.asyncDispose]();
  });
  return new GomoteFarm({ machines, gomote, people, transfers }, stack.move());
}

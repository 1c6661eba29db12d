/**
 * A farm that lends machines: a real front door and database, machines that dial in, and claims and the service as a
 * coordinator wires them.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Blobs } from "../../blobs/blobs.ts";
import { checkFarm } from "../../config/check.ts";
import type { FarmInput } from "../../config/input.ts";
import { type Gomote, openGomote } from "../../coordinator/gomote.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { type CoordinatorId, minutes, type SessionId } from "../../farm/ids.ts";
import type { Lease } from "../../farm/lease.ts";
import type { Person, Role } from "../../farm/person.ts";
import {
  COORDINATOR,
  type FarmOfMachines,
  farmOfMachines,
  HOST_TYPE,
  MASTER_KEY,
} from "../../machines/testing/farm-of-machines.ts";
import { PeerBlobs } from "../../peers/peer-blobs.ts";
import { PeerSignature } from "../../peers/peer-signature.ts";
import { Peers } from "../../peers/peers.ts";
import { SharedBlobs } from "../../peers/shared-blobs.ts";
import { People } from "../../people/people.ts";
import { Claims } from "../../schedule/claims.ts";
import { claimLease } from "../../store/leases.ts";
import { configureHostTypes } from "../../store/machines.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import type { RequestListener } from "../../web/front-door.ts";
import { servePeers } from "../../web/peer-files.ts";
import type { SshKeys } from "../rpc/faces.ts";
import { openGatewayKeys } from "../ssh/keys.ts";
import { RpcClient } from "./rpc-client.ts";
import { TestWorld } from "./test-world.ts";

export { HOST_TYPE };
/** A host type that is lent to the team. That of COMMUNITY is lent to nobody. */
export const TEAM_TYPE = "host-linux-arm64-team";
export const COMMUNITY = "host-linux-riscv64-shelf";
export const BUILDER = "linux-amd64";

const FARM: FarmInput = {
  gomote: { fetch: "public" },
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

const SSH_KEYS: SshKeys = {
  async sign(person, instance, publicKey) {
    const key = Buffer.from(publicKey).toString();
    if (!key.startsWith("ssh-ed25519 ")) throw new FarmError("bad-request", "Cannot read the key");
    return Buffer.from(`signed for ${person.email} on ${instance.name}\n`);
  },
};

export interface GomoteFarmOptions {
  /** The clock of expiry, and of news for people who wait. Machines and their sessions have the real one. */
  readonly clock?: Clock;
  readonly config?: Partial<FarmInput>;
  readonly database?: TestDatabase;
  readonly coordinator?: CoordinatorId;
  /** Whether there are shells, and keys that are really signed for them. */
  readonly shells?: boolean;
  /** Called each time for the configuration; undefined: `config`. */
  readonly reconfigured?: () => Partial<FarmInput> | undefined;
  /** Used instead of the people in the database. */
  readonly identify?: (bearer: string) => Promise<Person>;
}

export class GomoteFarm implements AsyncDisposable {
  readonly machines: FarmOfMachines;
  readonly gomote: Gomote;
  readonly people: People;
  readonly world: TestWorld;
  /** Leases of builds that were claimed. A test drives them itself. */
  readonly builds: readonly Lease[];
  /** The folder of files on their way. */
  readonly blobs: Blobs;
  /** Says that the coordinator stops, which is how its end begins. */
  readonly stop: () => void;
  readonly #stack: AsyncDisposableStack;

  constructor(
    parts: Pick<GomoteFarm, "machines" | "gomote" | "people" | "world" | "blobs" | "builds" | "stop">,
    stack: AsyncDisposableStack,
  ) {
    this.machines = parts.machines;
    this.gomote = parts.gomote;
    this.people = parts.people;
    this.world = parts.world;
    this.builds = parts.builds;
    this.blobs = parts.blobs;
    this.stop = parts.stop;
    this.#stack = stack;
  }

  get database(): TestDatabase {
    return this.machines.database;
  }

  /** A client of a person with a token. The person is added unless they are there already. */
  async person(email: string, roles: readonly Role[] = ["member"]): Promise<RpcClient> {
    const person = await this.people.find(email).catch(() => this.people.add(email, roles, "test"));
    const { token } = await this.people.newToken(person, "test", minutes(60 * 24), "test");
    return this.client(token);
  }

  client(token: string | undefined, agent?: string, fields?: Readonly<Record<string, string>>): RpcClient {
    return this.#stack.use(new RpcClient(this.machines.port, token, agent, fields));
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
  const claim = (session: SessionId) => claimLease(sql, session, clock.now());
  const claims = new Claims({ clock: systemClock, log: quiet, claim }, stop.signal);
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
  const peers = new Peers({ sql, clock: systemClock, log: quiet, self: coordinator });
  const world = stack.use(await TestWorld.start());
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-gomote-"));
  stack.defer(() => rm(folder, { recursive: true }));
  const blobs = await Blobs.open(folder, clock.now());
  const signature = new PeerSignature({ self: coordinator, clock: systemClock, masterKey: MASTER_KEY });
  const shells = options.shells && { keys: await openGatewayKeys(sql, MASTER_KEY, clock.now()) };
  const peerBlobs = new PeerBlobs({ peers, clock: systemClock, signature });
  const gomote = openGomote({
    sql,
    bus,
    clock,
    log: quiet,
    coordinator,
    config: () => {
      const changed = options.reconfigured?.();
      return changed ? checkFarm({ ...FARM, ...changed }) : config;
    },
    people: { identify: options.identify ?? ((bearer) => people.identify(bearer)) },
    peers,
    signature,
    machine: (session) => machines.pool.take(session),
    inUse: (session) => machines.pool.inUse(session),
    release: (session, how) => machines.pool.release(session, how),
    tarball: async () => Readable.from([Buffer.from("the tree")]),
    stopping: stop.signal,
    blobs,
    elsewhere: (key, holder, signal) => peerBlobs.fetch(key, holder, signal),
    masterKey: MASTER_KEY,
    world,
    ...(shells ? { shells } : { sshKeys: SSH_KEYS }),
  });
  const builds: Lease[] = [];
  claims.begin((lease) => (lease.kind === "gomote" ? gomote.instances.start(lease) : builds.push(lease)));
  bus.subscribe("queue:", (topic) => claims.wake(topic.slice("queue:".length) || undefined), stop.signal);
  bus.subscribe("given:", (topic) => claims.summon(topic.slice("given:".length)), stop.signal);
  const pages: RequestListener = (_, response) => {
    response.statusCode = 200;
    response.end("a page\n");
  };
  const sharedBlobs = new SharedBlobs({ log: quiet, signature, get: (key) => gomote.transfers.blob(key) });
  const where = { plainPort: () => machines.door.ports.http, ssh: undefined };
  listener = gomote.serve(where, servePeers(sharedBlobs, pages));
  const end = () => stop.abort(new FarmError("unavailable", "The coordinator is stopping"));
  stack.defer(async () => {
    end();
    await gomote[Symbol.asyncDispose]();
  });
  return new GomoteFarm({ machines, gomote, people, world, blobs, builds, stop: end }, stack.move());
}

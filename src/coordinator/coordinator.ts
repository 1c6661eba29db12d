/**
 * A farm in one process: every room opened, wired and ended in order. No decision is taken here.
 *
 *   source finds commits -> plan -> builds wanted -> claims -> a machine of the pool -> builds drives it -> verdict
 *
 * Each part is made of those above it, and knows none below. Two circles are closed at the end, when all parts exist:
 *
 *   claiming        the pool offers idle machines to the claims; parts that use the pool get the leases (claiming.ts)
 *   configuration   it is in force first, and then the farm is brought in step with it (`follow`)
 *
 * Things are disposed of in the opposite order of their making, but for those that use machines. There no more work is
 * taken first, then what runs is given back, and then machines are let go. The database ends last.
 */
import { join } from "node:path";
import { planFound } from "../builds/plan-found.ts";
import type { FarmConfig } from "../config/effective.ts";
import { effectiveFarm } from "../config/effective-farm.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { People } from "../people/people.ts";
import { secretReader } from "../source/secrets.ts";
import { Source } from "../source/source.ts";
import { coordinatorShares } from "../store/coordinators.ts";
import { configureHostTypes } from "../store/machines.ts";
import type { Sql } from "../store/sql.ts";
import { readAgents } from "../web/agent-files.ts";
import { actions } from "./actions.ts";
import { isLoopback } from "./address.ts";
import { openBuilding } from "./building.ts";
import { beginClaiming, makeClaims } from "./claiming.ts";
import { LiveConfig } from "./config-file.ts";
import { openLending } from "./lending.ts";
import { openLocal } from "./local.ts";
import { openMachines } from "./machines.ts";
import { Newest } from "./newest.ts";
import { type CoordinatorOptions, DIST } from "./options.ts";
import { openPeers } from "./peers.ts";
import { fingerprint } from "./shared.ts";
import { openSite } from "./site.ts";
import { openStorage, type Storage } from "./storage.ts";
import { startUpkeep } from "./upkeep.ts";

/** The program that machines run, by the name under which it is served. */
const AGENT = "buildlet.mjs";

export class Coordinator implements AsyncDisposable {
  readonly sql: Sql;
  readonly bus: Bus;
  /** The address of the pages on the plain port, without a slash at the end. */
  readonly pages: string;
  /** The address of the TLS port. */
  readonly machines: string;
  /** The address at which `ssh` reaches people's instances. */
  readonly gateway: { readonly ssh?: string };
  readonly caFile: string;
  readonly newest: Newest;
  readonly #live: LiveConfig;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<Coordinator, "sql" | "bus" | "pages" | "machines" | "gateway" | "caFile" | "newest">,
    live: LiveConfig,
    stack: AsyncDisposableStack,
  ) {
    this.sql = parts.sql;
    this.bus = parts.bus;
    this.pages = parts.pages;
    this.machines = parts.machines;
    this.gateway = parts.gateway;
    this.caFile = parts.caFile;
    this.newest = parts.newest;
    this.#live = live;
    this.#stack = stack;
  }

  /**
   * Starts a farm. Resolves when it takes machines and commits. Throws a FarmError that says what it could not have.
   */
  static async start(options: CoordinatorOptions): Promise<Coordinator> {
    const { clock, log, data, farmName, lost } = options;
    const stop = new AbortController();
    const stopping = stop.signal;
    await using stack = new AsyncDisposableStack();

    const storage = await openStorage(stack, options, stopping);
    const { common, hurried, secrets, blobs } = storage;
    const { sql, bus } = common;
    const live = stack.use(
      await LiveConfig.open({ clock, log, origin: options.origin, accept: (farm) => accept(storage, farm) }),
    );
    const { base } = live;
    const config = () => live.current;
    const secret = secretReader(base, process.env);
    const agents = await readAgents(join(DIST, "agents"));

    const source = stack.use(
      await Source.open({ ...common, random: Math.random, blobs, data, base, environment: process.env }),
    );
    const tarball = async (repo: string, hash: string, signal: AbortSignal) =>
      (await source.tarball(repo, hash, signal)).open();
    const people = new People(hurried);
    const neighbours = openPeers(stack, hurried, secrets.master);

    const claims = makeClaims(common, stopping);
    const { pool, probes } = openMachines(stack, {
      common,
      config,
      neighbours,
      claims,
      masterKey: secrets.master,
      allowDevKey: options.allowDevKey === true || (options.dev && isLoopback(options.listen.host)),
      agentDigest: () => agents.get(AGENT)?.sha256,
    });
    const hasSsh = options.listenSsh !== undefined;
    const gomote = await openLending(stack, { storage, config, neighbours, pool, people, tarball, hasSsh, stopping });
    const { instances } = gomote;
    const peerBlobs = neighbours.blobs;
    const builds = await openBuilding(stack, { storage, config, pool, peerBlobs, instances, tarball, lost });
    startUpkeep(stack, { storage, live, secret, farmName });

    const site = await openSite(stack, {
      options,
      storage,
      live,
      secret,
      source,
      neighbours,
      pool,
      people,
      gomote,
      agents,
      actions: actions({ ...common, builds }),
    });
    const { pages, machines, gateway, tlsPort } = site;
    await storage.folder.announce({ http: pages, https: machines });
    const local = openLocal(stack, storage, { data, tlsPort });

    // The first to end. Nothing is claimed any more, builds stop while their machines are still there, and machines
    // hear why. A database that is away is not waited for: recovery finds what could not be written.
    stack.defer(async () => {
      storage.database.hurry();
      stop.abort(new FarmError("unavailable", "The coordinator is stopping"));
      for (const part of [builds, instances, probes, pool]) await part[Symbol.asyncDispose]();
    });
    beginClaiming(claims, { builds, instances, probes }, bus, stopping);
    await live.follow(async (farm) => {
      await source.configure(farm.repos, (tx, found) => planFound(tx, farm, found, clock.now(), source));
      await local.configure(farm);
      claims.wake();
      bus.publish("config:");
    });
    const newest = new Newest({ sql, logs: storage.logs, source, config });
    const { caFile } = secrets.tls;
    return new Coordinator({ sql, bus, pages, machines, gateway, caFile, newest }, live, stack.move());
  }

  /** The repositories that this coordinator watches, one line for each. */
  get watching(): readonly string[] {
    return this.#live.current.repos.map(
      (repo) => `${repo.name} ${repo.branches.join(" ")}, every ${repo.pollMs / 1000} s`,
    );
  }

  /** Reads the configuration again. */
  reload(): Promise<void> {
    return this.#live.reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

/**
 * Stores the parts of a configuration that others read: the host types for claims, and what all coordinators must have
 * alike.
 */
async function accept({ common, secrets }: Storage, farm: FarmConfig): Promise<void> {
  const { sql, coordinator } = common;
  await configureHostTypes(sql, farm.hosts);
  const configuration = fingerprint("configuration", JSON.stringify(effectiveFarm(farm)));
  await coordinatorShares(sql, coordinator, { ...secrets.fingerprints, configuration });
}

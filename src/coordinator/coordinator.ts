/**
 * A farm in one process: every room built, wired and ended in order. No decision is taken here.
 *
 *   source finds commits -> plan -> builds wanted -> claims -> a machine of the pool -> builds drives it -> logs, verdict
 *
 * Things are disposed of in the opposite order of their making: first no more work is taken, then what runs is given
 * back, then machines are let go, and the database ends last.
 */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { Blobs } from "../blobs/blobs.ts";
import { Builds } from "../builds/builds.ts";
import { Narrowing } from "../builds/narrowing.ts";
import { planFound } from "../builds/plan-found.ts";
import { Recovery } from "../builds/recovery.ts";
import { Snapshots } from "../builds/snapshots.ts";
import { shellOf } from "../config/check.ts";
import type { FarmConfig, LoginConfig } from "../config/effective.ts";
import { effectiveFarm } from "../config/effective-farm.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { coordinatorId } from "../farm/ids.ts";
import type { Lease, LeaseKind } from "../farm/lease.ts";
import { PEER_SHELL_PATH } from "../gomote/machine-lines.ts";
import type { SshGateway } from "../gomote/ssh/gateway.ts";
import { openGatewayKeys } from "../gomote/ssh/keys.ts";
import { Logs } from "../logs/logs.ts";
import { Keys } from "../machines/keys.ts";
import { LocalMachines } from "../machines/local/local-machines.ts";
import { Probes } from "../machines/probes.ts";
import { ReversePool } from "../machines/reverse/reverse-pool.ts";
import { send } from "../notices/channels.ts";
import { Post } from "../notices/post.ts";
import { Watch } from "../notices/watch.ts";
import { Forwarder } from "../peers/forwarder.ts";
import { PeerBlobs } from "../peers/peer-blobs.ts";
import { PeerSignature } from "../peers/peer-signature.ts";
import { certificateDigest, Peers } from "../peers/peers.ts";
import { OpenId } from "../people/openid.ts";
import { People } from "../people/people.ts";
import { Retention } from "../retention/retention.ts";
import { ExpiredTransfers } from "../retention/transfers.ts";
import { Claims } from "../schedule/claims.ts";
import { secretReader } from "../source/secrets.ts";
import { Source } from "../source/source.ts";
import {
  coordinatorEnded,
  coordinatorReachable,
  coordinatorShares,
  coordinatorStarted,
  endPredecessors,
} from "../store/coordinators.ts";
import { DataFolder } from "../store/data-folder.ts";
import { openDatabase } from "../store/database.ts";
import { claimLease } from "../store/leases.ts";
import { closeLeftSessions, configureHostTypes } from "../store/machines.ts";
import type { Snapshot } from "../store/snapshots.ts";
import type { Sql } from "../store/sql.ts";
import { readAgents, serveAgents } from "../web/agent-files.ts";
import { loadAssets } from "../web/assets.ts";
import { limitBodies } from "../web/body-limit.ts";
import { CertificateKeeper } from "../web/certificate-keeper.ts";
import { FrontDoor } from "../web/front-door.ts";
import { servePeers } from "../web/peer-files.ts";
import { createWebApp } from "../web/web-app.ts";
import { builderKey } from "../wire/builder-key/builder-key.ts";
import { actions } from "./actions.ts";
import { type Address, addressText, isLoopback, peerAddress, sshAddress } from "./address.ts";
import { type ConfigOrigin, LiveConfig } from "./config-file.ts";
import { Drained } from "./drained.ts";
import { type Gomote, openGomote } from "./gomote.ts";
import { Health } from "./health.ts";
import { Newest } from "./newest.ts";
import { pushReceiver } from "./push.ts";
import { openSecrets } from "./secrets.ts";
import { fingerprint } from "./shared.ts";
import { VERSION } from "./version.ts";

/** The program that machines run, by the name under which it is served. */
const AGENT = "buildlet.mjs";
const QUEUE = "queue:";

/** dist/, where this program was built to: agents, browser files. */
const DIST = fileURLToPath(new URL(".", import.meta.url));

export interface CoordinatorOptions {
  readonly data: string;
  /** Where what all coordinators share is; "": the data folder. */
  readonly secrets: string;
  readonly listen: Address;
  /** Where the farm's other coordinators reach the TLS port; undefined: worked out from `listen`. */
  readonly peer: Address | undefined;
  readonly http: Address;
  /** Of the ssh gateway; undefined: there is none. */
  readonly listenSsh?: Address | undefined;
  readonly origin: ConfigOrigin;
  /** On loopback, also accept keys made from the protocol's public development master key. */
  readonly dev: boolean;
  /** Accept them whatever the address. */
  readonly allowDevKey?: boolean;
  readonly masterKeyFile?: string;
  readonly certificate?: { readonly certFile: string; readonly keyFile: string; readonly names: readonly string[] };
  readonly farmName: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Called once if others took this coordinator for dead: it must stop. */
  readonly lost: () => void;
}

export class Coordinator implements AsyncDisposable {
  readonly sql: Sql;
  readonly bus: Bus;
  /** Address of the pages on the plain port, without a slash at the end. */
  readonly pages: string;
  /** Address of the TLS port. */
  readonly machines: string;
  readonly caFile: string;
  readonly newest: Newest;
  readonly #config: LiveConfig;
  readonly #ssh: string | undefined;
  readonly #stack: AsyncDisposableStack;

  private constructor(parts: {
    readonly sql: Sql;
    readonly bus: Bus;
    readonly pages: string;
    readonly machines: string;
    readonly caFile: string;
    readonly newest: Newest;
    readonly config: LiveConfig;
    readonly ssh: string | undefined;
    readonly stack: AsyncDisposableStack;
  }) {
    this.sql = parts.sql;
    this.bus = parts.bus;
    this.pages = parts.pages;
    this.machines = parts.machines;
    this.caFile = parts.caFile;
    this.newest = parts.newest;
    this.#config = parts.config;
    this.#ssh = parts.ssh;
    this.#stack = parts.stack;
  }

  /** Starts a farm; resolves when it takes machines and commits. Throws FarmError saying what it could not have. */
  static async start(options: CoordinatorOptions): Promise<Coordinator> {
    const { clock, log, data } = options;
    const startedAt = clock.now();
    const id = coordinatorId(`P${randomBytes(5).toString("hex").slice(0, 9)}`);
    await using stack = new AsyncDisposableStack();

    const folder = stack.use(await DataFolder.take(data));
    const url = process.env.DATABASE_URL;
    const database = stack.use(await openDatabase({ data, url, clock, log }));
    const { sql, bus } = database;
    const alone = !url;
    const identity = await folder.identity();
    const self = { id, host: hostname(), pid: process.pid, version: VERSION, folder: identity };
    await coordinatorStarted(sql, self, startedAt);
    await endPredecessors(sql, id, identity, startedAt);
    stack.defer(() => coordinatorEnded(database.hurried, id, clock.now()).catch(() => {})); // recovery will find out
    await closeLeftSessions(sql, id, alone, startedAt);

    const stop = new AbortController();
    const secrets = options.secrets || data;
    const { certFile = "", keyFile = "", names = [] } = options.certificate ?? {};
    const tlsFiles = { folder: join(data, "tls"), caFolder: join(secrets, "tls"), names, certFile, keyFile };
    const { master, token, tls, fingerprints } = await openSecrets(
      sql,
      secrets,
      options.masterKeyFile ?? "",
      tlsFiles,
      startedAt,
    );
    const agents = await readAgents(join(DIST, "agents"));
    const logs = stack.use(new Logs({ sql, bus, clock, stopping: stop.signal }));

    // The configuration is followed before anything uses it, and acted on once everything is there.
    let act: (farm: FarmConfig) => Promise<void> = async () => {};
    const config = stack.use(
      await LiveConfig.open({
        origin: options.origin,
        clock,
        log,
        taken: async (farm) => {
          await configureHostTypes(sql, farm.hosts);
          const configuration = fingerprint("configuration", JSON.stringify(effectiveFarm(farm)));
          await coordinatorShares(sql, id, { ...fingerprints, configuration });
          await act(farm);
          bus.publish("config:");
        },
      }),
    );
    const base = "file" in options.origin ? dirname(resolve(options.origin.file)) : process.cwd();
    const hostOf = (hostType: string) => config.current.hosts.find((host) => host.hostType === hostType);

    const blobs = await Blobs.open(join(data, "blobs"), clock.now());
    // What builds are planned by: a new farm is looked at before it has been taken up everywhere and is `config.current`.
    let planning = config.current;
    const source: Source = stack.use(
      await Source.open({
        sql,
        bus,
        log,
        clock,
        random: Math.random,
        blobs,
        data,
        base,
        environment: process.env,
        planned: (tx, found) => planFound(tx, planning, found, clock.now(), source),
      }),
    );

    const keys = new Keys({
      sql,
      clock,
      masterKey: master,
      allowDevKey: options.allowDevKey === true || (options.dev && isLoopback(options.listen.host)),
      sharedKey: (hostType) => hostOf(hostType)?.sharedKey ?? true,
    });
    const peers = new Peers({ sql: database.hurried, clock, log, self: id });
    const forwarder = stack.use(new Forwarder({ peers, clock, log }));
    const pool: ReversePool = stack.use(
      new ReversePool({
        sql,
        bus,
        clock,
        log,
        coordinator: id,
        check: (claimant) => keys.check(claimant),
        owner: (hostType) =>
          hostOf(hostType)
            ?.owners.map((owner) => owner.name)
            .join(", ") || null,
        agentDigest: () => agents.get(AGENT)?.sha256,
        forward: (pickUp) => forwarder.forward(pickUp),
        peers,
        idle: (session, holds) => claims.offer({ id: session.id, queue: session.hostType, holds }),
        gone: (session) => claims.withdraw(session),
      }),
    );
    const signature = new PeerSignature({ self: id, clock, masterKey: master });
    const peerBlobs = new PeerBlobs({ peers, clock, log, signature, get: (key) => gomote.transfers.blob(key) });
    const elsewhere = ({ blob, holder }: Pick<Snapshot, "blob" | "holder">, signal: AbortSignal) =>
      peerBlobs.fetch(blob, holder, signal);
    const snapshots = stack.use(new Snapshots({ sql, bus, clock, log, blobs, coordinator: id, elsewhere }));
    snapshots.start();
    const tarball = async (repo: string, hash: string, signal: AbortSignal) =>
      (await source.tarball(repo, hash, signal)).open();
    const builds = stack.use(
      new Builds({
        snapshots,
        sql,
        bus,
        clock,
        log,
        logs,
        coordinator: id,
        machine: (session) => pool.take(session),
        release: (session, how) => pool.release(session, how),
        tarball,
        failed: (build) => gomote.holds.keep(build),
      }),
    );
    let gateway: SshGateway | undefined;
    const gomote: Gomote = stack.use(
      openGomote({
        sql,
        bus,
        clock,
        log,
        coordinator: id,
        config: () => config.current,
        people: { identify: (bearer) => people.identify(bearer) },
        peers,
        machine: (session) => pool.take(session),
        release: (session, how) => pool.release(session, how),
        tarball,
        ssh: () => gateway && { address: sshAddress(options.listenSsh, gateway.port), hostKeys: gateway.hostKeys },
        ...(options.listenSsh && { shells: { signature, keys: await openGatewayKeys(sql, master, startedAt) } }),
        stopping: stop.signal,
        blobs,
        elsewhere: (key, holder, signal) => peerBlobs.fetch(key, holder, signal),
        plainPort: () => door.ports.http,
        masterKey: master,
      }),
    );
    const starters: Readonly<Record<LeaseKind, (lease: Lease) => void>> = {
      build: (lease) => builds.start(lease),
      helper: (lease) => builds.start(lease),
      gomote: (lease) => gomote.instances.start(lease),
      probe: (lease) => probes.start(lease),
    };
    const claims = new Claims(
      {
        clock,
        log,
        claim: (session) => claimLease(sql, session, clock.now()),
        start: (lease) => starters[lease.kind](lease),
      },
      stop.signal,
    );
    const probes = stack.use(
      new Probes({
        sql,
        bus,
        clock,
        log,
        coordinator: id,
        withdraw: (session) => claims.withdraw(session),
        machine: (session) => pool.take(session),
        release: (session, how) => pool.release(session, how),
        shell: (hostType) => shellOf(hostOf(hostType)?.hostArch ?? ""),
      }),
    );
    stack.defer(() => stop.abort(new FarmError("unavailable", "The coordinator is stopping")));
    bus.subscribe(QUEUE, (topic) => claims.wake(topic.slice(QUEUE.length) || undefined), stop.signal);

    const { lost } = options;
    const recovery = stack.use(
      new Recovery({ sql, heart: database.heart, bus, clock, log, coordinator: id, alone, lost }),
    );
    await recovery.start();
    stack.use(new Narrowing({ sql, bus, clock, log, config: () => planning }));

    const place = () => ({ farm: options.farmName, url: config.current.publicUrl });
    const channels = { clock, secret: secretReader(base, process.env), file: (path: string) => resolve(base, path) };
    const notices = { sql, bus, clock, log, config: () => config.current };
    stack.use(new Watch({ ...notices, problem: () => config.problem, host: hostname(), place, startedAt }));
    stack.use(
      new Post({
        ...notices,
        send: (recipient, message, notice) =>
          send(channels, recipient, config.current.notify.mail, place(), message, notice),
      }),
    );

    stack.use(new Retention({ sql: database.hurried, clock, log, config: () => config.current }));
    stack.use(new ExpiredTransfers({ sql: database.hurried, clock, log, blobs }));

    const people = new People({ sql: database.hurried, bus, clock, log });

    const health = stack.use(
      new Health({ sql: database.hurried, bus, clock, log, repos: () => source.standings(), startedAt }),
    );
    const drained = stack.use(await Drained.open({ sql: database.hurried, bus, clock, log, coordinator: id }));
    let address = "";
    let httpPort = 0;
    const web = stack.use(
      createWebApp({
        sql: database.hurried,
        bus,
        clock,
        log,
        assets: await loadAssets(join(DIST, "ui")),
        logs,
        actions: actions({ sql, bus, clock, builds, coordinator: id }),
        people,
        openid: new OpenId({
          sql: database.hurried,
          clock,
          log,
          people,
          config: () => loginOf(config.current),
          secret: secretReader(base, process.env),
          key: token,
        }),
        lending: { ...gomote, peers },
        farmName: options.farmName,
        version: VERSION,
        startedAt,
        coordinator: id,
        operatorToken: token,
        dialAddress: () => address,
        httpPort: () => httpPort,
        config: () => config.current,
        banners: () => [...drained.banners(), ...config.banners()],
        checkers: () => health.results(),
        merged: (repo, hash, count) => source.merged(repo, hash, count),
        push: pushReceiver({
          repos: () => config.current.repos,
          secret: (repo) => source.webhookSecret(repo),
          poke: (repo) => source.poke(repo),
          log,
        }),
      }),
    );
    const door = stack.use(
      await FrontDoor.open({
        listen: options.listen,
        http: options.http,
        ...tls,
        machines: pool,
        carried: new Map([
          [
            PEER_SHELL_PATH,
            (socket, head, rest) => (gomote.lines ? void gomote.lines.serve(socket, head, rest) : socket.destroy()),
          ],
        ]),
        upgrades: web.upgrades,
        pages: gomote.serve(limitBodies(clock, serveAgents(agents, servePeers(peerBlobs, web.listener)))),
        clock,
        log,
      }),
    );
    const { ports } = door;
    const reachable = (cert: string) => {
      const at = options.peer ? addressText(options.peer) : peerAddress(options.listen, ports.tls);
      return coordinatorReachable(sql, { id, address: at, certificate: certificateDigest(cert) });
    };
    await reachable(tls.cert);
    stack.use(
      new CertificateKeeper({
        certificate: tlsFiles,
        clock,
        log,
        // The others know it before they see it.
        renew: async (renewed) => {
          await reachable(renewed.cert);
          door.renew(renewed);
        },
      }),
    );
    if (options.listenSsh) gateway = stack.use(await gomote.listenSsh(options.listenSsh));
    const host = (given: Address) => given.host || "localhost";
    address = `${host(options.listen)}:${ports.tls}`;
    httpPort = ports.http;
    const pages = `http://${host(options.http)}:${ports.http}`;
    const machines = `https://${address}`;
    await folder.announce({ http: pages, https: machines });

    const local = stack.use(
      new LocalMachines({
        coordinator: `localhost:${ports.tls}`,
        key: (hostType) => builderKey(master, hostType),
        caFile: resolve(tls.caFile),
        stage0: join(DIST, "agents", "stage0.mjs"),
        folder: resolve(data, "local"),
        clock,
        log,
      }),
    );
    act = async (farm) => {
      planning = farm;
      await source.configure(farm.repos);
      await local.configure(farm);
      claims.wake();
    };
    await act(config.current);
    // The first to end: nothing is claimed any more, builds stop while their machines are still there, machines hear why. A database that
    // is away is not waited for: recovery finds what could not be written.
    stack.defer(async () => {
      database.hurry();
      stop.abort(new FarmError("unavailable", "The coordinator is stopping"));
      await builds[Symbol.asyncDispose]();
      await gomote.instances[Symbol.asyncDispose]();
      await probes[Symbol.asyncDispose]();
      await pool[Symbol.asyncDispose]();
    });
    return new Coordinator({
      sql,
      bus,
      pages,
      machines,
      caFile: tls.caFile,
      newest: new Newest({ sql, logs, source, config: () => config.current }),
      config,
      ssh: gateway && sshAddress(options.listenSsh, gateway.port),
      stack: stack.move(),
    });
  }

  /** Where `ssh` reaches people's instances. */
  get gateway(): { readonly ssh?: string } {
    return this.#ssh === undefined ? {} : { ssh: this.#ssh };
  }

  /** What is watched, one line per repository. */
  get watching(): readonly string[] {
    return this.#config.current.repos.map(
      (repo) => `${repo.name} ${repo.branches.join(" ")}, every ${repo.pollMs / 1000} s`,
    );
  }

  /** Takes the configuration up again. */
  reload(): Promise<void> {
    return this.#config.reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function loginOf({ login, publicUrl }: FarmConfig): { login: LoginConfig; publicUrl: string } | null {
  return login && publicUrl !== null ? { login, publicUrl } : null;
}

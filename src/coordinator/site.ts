/**
 * What is reached from outside: the pages, the two ports with everything behind them, the ssh gateway, and the
 * certificate.
 *
 * The pages show the ports, and these are known only once the door is made. So the door is made first, and opened last.
 */
import { join } from "node:path";
import type { FarmConfig, LoginConfig } from "../config/effective.ts";
import { PEER_SHELL_PATH } from "../gomote/machine-lines.ts";
import { mostCalls } from "../gomote/rpc/let-in.ts";
import type { ReversePool } from "../machines/reverse/reverse-pool.ts";
import { certificateDigest } from "../peers/peers.ts";
import { SharedBlobs } from "../peers/shared-blobs.ts";
import { OpenId } from "../people/openid.ts";
import type { People } from "../people/people.ts";
import type { ReadSecret } from "../source/secrets.ts";
import type { Source } from "../source/source.ts";
import { coordinatorReachable } from "../store/coordinators.ts";
import { type AgentFile, serveAgents } from "../web/agent-files.ts";
import { loadAssets } from "../web/assets.ts";
import { limitBodies } from "../web/body-limit.ts";
import { CertificateKeeper } from "../web/certificate-keeper.ts";
import type { Actions } from "../web/deps.ts";
import { FrontDoor, MAX_STREAMS } from "../web/front-door.ts";
import { servePeers } from "../web/peer-files.ts";
import { createWebApp, type WebApp } from "../web/web-app.ts";
import { type Address, addressText, peerAddress, sshAddress } from "./address.ts";
import type { LiveConfig } from "./config-file.ts";
import { Drained } from "./drained.ts";
import type { Gomote } from "./gomote.ts";
import { Health } from "./health.ts";
import { type CoordinatorOptions, DIST } from "./options.ts";
import type { Neighbours } from "./peers.ts";
import { pushReceiver } from "./push.ts";
import type { Storage } from "./storage.ts";
import { VERSION } from "./version.ts";

export interface SiteDeps {
  readonly options: CoordinatorOptions;
  readonly storage: Storage;
  readonly live: LiveConfig;
  readonly secret: ReadSecret;
  readonly source: Source;
  readonly neighbours: Neighbours;
  readonly pool: ReversePool;
  readonly people: People;
  readonly gomote: Gomote;
  readonly actions: Actions;
  readonly agents: ReadonlyMap<string, AgentFile>;
}

/** The addresses of the site. */
export interface Site {
  /** The address of the pages on the plain port, without a slash at the end. */
  readonly pages: string;
  /** The address of the TLS port. */
  readonly machines: string;
  readonly tlsPort: number;
  readonly gateway: { readonly ssh?: string };
}

/** Opens the ports. Throws a FarmError that names the port that cannot be had. */
export async function openSite(stack: AsyncDisposableStack, deps: SiteDeps): Promise<Site> {
  const { options, storage, live, neighbours, pool, gomote, agents } = deps;
  const { secrets, common } = storage;
  const { clock, log } = common;
  const { listen, http, listenSsh } = options;
  // All calls that one person may have fit on one connection.
  const streams = Math.max(MAX_STREAMS, 2 * mostCalls(live.current.gomote.perPerson));
  const door = new FrontDoor({ listen, http, ...secrets.tls, streams, clock, log });
  const web = stack.use(await openPages(stack, deps, door, () => gateway?.port));
  const gateway = listenSsh && stack.use(await gomote.listenSsh(listenSsh));
  const ssh = gateway && { address: sshAddress(listenSsh, gateway.port), hostKeys: gateway.hostKeys };
  const blobs = new SharedBlobs({ log, signature: neighbours.signature, get: (key) => gomote.transfers.blob(key) });
  const calls = { plainPort: () => door.ports.http, ssh };
  stack.use(door);
  await door.open({
    machines: pool,
    carried: new Map([
      [
        PEER_SHELL_PATH,
        (socket, head, rest) => (gomote.lines ? void gomote.lines.serve(socket, head, rest) : socket.destroy()),
      ],
    ]),
    upgrades: web.upgrades,
    pages: gomote.serve(calls, limitBodies(clock, serveAgents(agents, servePeers(blobs, web.listener)))),
  });
  await certify(stack, deps, door);
  return {
    pages: `http://${hostOf(http)}:${door.ports.http}`,
    machines: `https://${hostOf(listen)}:${door.ports.tls}`,
    tlsPort: door.ports.tls,
    gateway: ssh ? { ssh: ssh.address } : {},
  };
}

async function openPages(
  stack: AsyncDisposableStack,
  deps: SiteDeps,
  door: FrontDoor,
  sshPort: () => number | undefined,
): Promise<WebApp> {
  const { options, storage, live, secret, source, neighbours, people, gomote, actions } = deps;
  const { hurried, secrets, logs, startedAt } = storage;
  const config = () => live.current;
  const health = stack.use(new Health({ ...hurried, repos: () => source.standings(), startedAt }));
  const drained = stack.use(await Drained.open(storage.common));
  return createWebApp({
    ...hurried,
    assets: await loadAssets(join(DIST, "ui")),
    logs,
    actions,
    people,
    openid: new OpenId({ ...hurried, people, config: () => loginOf(config()), secret, key: secrets.token }),
    lending: { ...gomote, peers: neighbours.peers },
    farmName: options.farmName,
    version: VERSION,
    startedAt,
    operatorToken: secrets.token,
    dialAddress: () => addressText({ host: hostOf(options.listen), port: door.ports.tls }),
    httpPort: () => door.ports.http,
    sshPort,
    config,
    banners: () => [...drained.banners(), ...live.banners()],
    checkers: () => health.results(),
    merged: (repo, hash, count) => source.merged(repo, hash, count),
    push: pushReceiver({
      repos: () => config().repos,
      secret: (repo) => source.webhookSecret(repo),
      poke: (repo) => source.poke(repo),
      log: hurried.log,
    }),
  });
}

/**
 * Tells the other coordinators our address and the certificate by which they know us, and renews that certificate in
 * time.
 */
async function certify(stack: AsyncDisposableStack, deps: SiteDeps, door: FrontDoor): Promise<void> {
  const { options, storage } = deps;
  const { sql, clock, log, coordinator: id } = storage.common;
  const address = options.peer ? addressText(options.peer) : peerAddress(options.listen, door.ports.tls);
  const reachable = (cert: string) => coordinatorReachable(sql, { id, address, certificate: certificateDigest(cert) });
  await reachable(storage.secrets.tls.cert);
  stack.use(
    new CertificateKeeper({
      certificate: storage.tlsFiles,
      clock,
      log,
      // The others learn of a certificate before they see it in a connection.
      renew: async (renewed) => {
        await reachable(renewed.cert);
        door.renew(renewed);
      },
    }),
  );
}

function hostOf({ host }: Address): string {
  return host || "localhost";
}

function loginOf({ login, publicUrl }: FarmConfig): { login: LoginConfig; publicUrl: string } | null {
  return login && publicUrl !== null ? { login, publicUrl } : null;
}

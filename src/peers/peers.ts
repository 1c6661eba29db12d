/**
 * The farm's other coordinators: who lives, and a connection to one of them.
 *
 * Their rows say where each is reached and which certificate it shows there. They are read anew when they are older than FRESH, and sooner
 * when somebody is asked for who is not among them. While the database is away, what was read last goes on being true.
 *
 * A connection is TLS to the address of the row, and whoever answers must show the very certificate of the row: neither names nor
 * authorities are asked, so peers may be reached by bare addresses, and nobody else can pose as one.
 */
import { createHash, X509Certificate } from "node:crypto";
import { connect, type TLSSocket } from "node:tls";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, ms, seconds } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import { livingPeers, type Peer } from "../store/coordinators.ts";
import type { Sql } from "../store/sql.ts";

/** How old the list may be. */
export const FRESH: Ms = seconds(5);
/** Asked for whoever does not exist, the database is looked at this often at most. */
const AT_MOST_EVERY = ms(100);
const ANSWER_LIMIT = seconds(3);
/** A peer that is silent is noticed by the system's own probes, which begin after this. */
const PROBE_AFTER = seconds(15);

export interface PeersDeps {
  /** One that gives up within moments. */
  readonly sql: Sql;
  readonly clock: Clock;
  readonly log: Log;
  readonly self: CoordinatorId;
}

export class Peers {
  readonly #deps: PeersDeps;
  #known: ReadonlyMap<CoordinatorId, Peer> = new Map();
  #lookedAt = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(deps: PeersDeps) {
    this.#deps = deps;
  }

  get self(): CoordinatorId {
    return this.#deps.self;
  }

  /** The peer `id`; undefined when no such coordinator lives. */
  async find(id: CoordinatorId): Promise<Peer | undefined> {
    const age = this.#deps.clock.monotonic() - this.#lookedAt;
    if (age >= FRESH || (age >= AT_MOST_EVERY && !this.#known.has(id))) await this.#look();
    return this.#known.get(id);
  }

  /** All that live. */
  async all(): Promise<readonly Peer[]> {
    if (this.#deps.clock.monotonic() - this.#lookedAt >= FRESH) await this.#look();
    return [...this.#known.values()];
  }

  /**
   * A connection to `id`, which proved to be it. Throws FarmError: `not-found` when it does not live, `unavailable` when it cannot be
   * reached, `forbidden` when somebody else answered, the reason of `signal` when that came first. `alpn`: what is to be spoken; left out: HTTP/1.1.
   */
  async connect(id: CoordinatorId, signal: AbortSignal, alpn?: "h2"): Promise<TLSSocket> {
    const peer = await this.find(id);
    if (!peer) throw new FarmError("not-found", `Cannot reach coordinator ${id}: it has ended`);
    const { socket, certificate } = await connected(peer, signal, alpn);
    // A certificate that was renewed a moment ago is in the row by now.
    if (certificate !== peer.certificate && (await this.#lookAgain(id))?.certificate !== certificate) {
      socket.destroy();
      this.#deps.log.error(
        { coordinator: id, address: peer.address },
        "Somebody else answers at a coordinator's address",
      );
      throw new FarmError("forbidden", `Cannot trust coordinator ${id}: another certificate is shown at its address`);
    }
    return socket;
  }

  /** Whether `id` takes connections; one that stops or was killed does not any more, long before its row says so. */
  async answers(id: CoordinatorId): Promise<boolean> {
    try {
      const { clock } = this.#deps;
      const answer = (limited: AbortSignal): Promise<TLSSocket> => this.connect(id, limited);
      (await within(clock, ANSWER_LIMIT, [], `asking coordinator ${id}`, answer)).destroy();
      return true;
    } catch {
      return false;
    }
  }

  async #lookAgain(id: CoordinatorId): Promise<Peer | undefined> {
    await this.#look();
    return this.#known.get(id);
  }

  #look(): Promise<void> {
    this.#looking ??= this.#read().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #read(): Promise<void> {
    const { sql, clock, log, self } = this.#deps;
    try {
      this.#known = new Map((await livingPeers(sql, self)).map((peer) => [peer.id, peer]));
    } catch (error) {
      log.warn({ error: messageOf(error) }, "Could not look who the other coordinators are");
    }
    this.#lookedAt = clock.monotonic();
  }
}

/** SHA-256 of a certificate (the first one of a PEM chain), as rows have it. */
export function certificateDigest(certificate: Buffer | string): string {
  return createHash("sha256").update(new X509Certificate(certificate).raw).digest("hex");
}

/** A connection, and the certificate that was shown on it. */
function connected(
  peer: Peer,
  signal: AbortSignal,
  alpn?: string,
): Promise<{ socket: TLSSocket; certificate: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ socket: TLSSocket; certificate: string }>();
  const { hostname, port } = new URL(`https://${peer.address}`);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  // The certificate is compared with the one that is expected, which says more than any authority could.
  const socket = connect({
    host,
    port: Number(port || 443),
    rejectUnauthorized: false,
    ...(alpn && { ALPNProtocols: [alpn] }),
  });
  socket.setNoDelay(true).setKeepAlive(true, PROBE_AFTER);
  const onError = (error: Error) =>
    reject(
      new FarmError("unavailable", `Cannot reach coordinator ${peer.id} at ${peer.address}: ${messageOf(error)}`, {
        cause: error,
      }),
    );
  const onClose = () => {
    signal.removeEventListener("abort", onAbort);
    onError(new Error("it closed the connection"));
  };
  const onAbort = () => {
    reject(signal.reason);
    socket.destroy();
  };
  socket.on("error", onError).on("close", onClose);
  signal.addEventListener("abort", onAbort, { once: true });
  socket.once("secureConnect", () => {
    signal.removeEventListener("abort", onAbort);
    socket.off("close", onClose); // later errors are told by `close` to whoever has the socket then
    const shown = socket.getPeerX509Certificate();
    if (shown) resolve({ socket, certificate: certificateDigest(shown.raw) });
    else socket.destroy(new Error("it showed no certificate"));
  });
  if (signal.aborted) onAbort();
  return promise;
}

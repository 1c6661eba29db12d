/**
 * The farm's other coordinators: which of them live, and connections to them.
 *
 * Their rows say where each is reached and which certificate it shows there. The rows are read again when they are
 * older than FRESH, and sooner when somebody asks for a coordinator that is not among them. While the database is away,
 * the last rows stay valid.
 *
 * A connection is TLS to the address of the row, and the other end must show the very certificate of the row. Names and
 * authorities do not count. So peers may be reached by bare addresses, and nobody else can pose as one.
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

/** How old the list of coordinators may be. */
const FRESH: Ms = seconds(5);
/** How long to wait between two looks at the database for coordinators that do not exist. */
const AT_MOST_EVERY = ms(100);
const ANSWER_LIMIT = seconds(3);
/** After this silence the system begins its own probes, which notice a peer that is gone. */
const PROBE_AFTER = seconds(15);

export interface PeersDeps {
  /** A database connection that gives up within moments. */
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

  /** The peer `id`. Undefined: no such coordinator lives. */
  async find(id: CoordinatorId): Promise<Peer | undefined> {
    const age = this.#deps.clock.monotonic() - this.#lookedAt;
    if (age >= FRESH || (age >= AT_MOST_EVERY && !this.#known.has(id))) await this.#look();
    return this.#known.get(id);
  }

  /** All peers that live. */
  async all(): Promise<readonly Peer[]> {
    if (this.#deps.clock.monotonic() - this.#lookedAt >= FRESH) await this.#look();
    return [...this.#known.values()];
  }

  /**
   * A connection to `id`, which has proved its identity. Throws FarmError: `not-found` when it does not live,
   * `unavailable` when it cannot be reached, `forbidden` when another program answered; or the reason of `signal`.
   * `alpn` names the protocol; HTTP/1.1 when left out.
   */
  async connect(id: CoordinatorId, signal: AbortSignal, alpn?: "h2"): Promise<TLSSocket> {
    const peer = await this.find(id);
    if (!peer) throw new FarmError("not-found", `Cannot reach coordinator ${id}: it has ended`);
    const { socket, certificate } = await connected(peer, signal, alpn);
    // The certificate may have been renewed a moment ago: by now the row has the new one.
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

  /** Whether `id` takes connections. One that stops or was killed does not, long before its row says so. */
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

/** The SHA-256 of a certificate (the first one of a PEM chain), as rows have it. */
export function certificateDigest(certificate: Buffer | string): string {
  return createHash("sha256").update(new X509Certificate(certificate).raw).digest("hex");
}

/** Opens a connection. Resolves with it and the certificate that was shown on it. */
function connected(
  peer: Peer,
  signal: AbortSignal,
  alpn?: string,
): Promise<{ socket: TLSSocket; certificate: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ socket: TLSSocket; certificate: string }>();
  const { hostname, port } = new URL(`https://${peer.address}`);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  // The certificate is compared with the expected one, which proves more than any authority could.
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
    socket.off("close", onClose); // the socket's next owner sees later errors by its `close`
    const shown = socket.getPeerX509Certificate();
    if (shown) resolve({ socket, certificate: certificateDigest(shown.raw) });
    else socket.destroy(new Error("it showed no certificate"));
  });
  if (signal.aborted) onAbort();
  return promise;
}

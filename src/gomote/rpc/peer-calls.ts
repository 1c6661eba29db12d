/**
 * Calls that another coordinator has to answer, since the machine is connected to it. They go over HTTP/2 to its TLS
 * port, where it must show the certificate of its row (peers/).
 *
 * There is a connection to each coordinator for as long as it is used, and another one when MOST_ON_LINE calls go on:
 * calls above the other's limit (web/front-door.ts) would silently wait for others to end. A connection that broke is
 * replaced at the next call.
 */
import {
  ConnectError,
  type StreamRequest,
  type StreamResponse,
  type Transport,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { type CoordinatorId, type Ms, minutes, seconds } from "../../farm/ids.ts";
import type { Peers } from "../../peers/peers.ts";

/** Calls at a time on one connection. Every coordinator takes twice as many. */
export const MOST_ON_LINE = 1000;
const CONNECT_LIMIT: Ms = seconds(10);
const UNUSED: Ms = minutes(1);
const PING: Ms = seconds(15);
const GOOD: ReadonlySet<string> = new Set(["open", "idle", "verifying"]);

interface Connected {
  readonly transport: Transport;
  readonly sessions: Http2SessionManager;
}

/** A connection to a coordinator, from the moment it is wanted. */
class Line {
  readonly connected: Promise<Connected>;
  /** How many calls go on over it. */
  calls = 0;
  /** Whether it may take another call. */
  isGood: () => boolean = () => true;

  constructor(connected: Promise<Connected>) {
    this.connected = connected;
    connected.then(
      ({ sessions }) => {
        this.isGood = () => GOOD.has(sessions.state());
      },
      () => {
        this.isGood = () => false;
      },
    );
  }
}

export interface PeerCallsDeps {
  readonly peers: Pick<Peers, "connect">;
  readonly clock: Clock;
}

/**
 * Calls to other coordinators. The signal of a request has to abort when its call is over, however it ends, as signals
 * of the library do.
 */
export class PeerCalls implements Disposable {
  readonly #deps: PeerCallsDeps;
  readonly #lines = new Map<CoordinatorId, readonly Line[]>();
  #ended = false;

  constructor(deps: PeerCallsDeps) {
    this.#deps = deps;
  }

  async unary(coordinator: CoordinatorId, request: UnaryRequest, headers: Headers): Promise<UnaryResponse> {
    const { method, signal, message } = request;
    const transport = await this.#transport(coordinator, signal);
    try {
      return await transport.unary(method, signal, undefined, headers, message);
    } catch (error) {
      throw answerOrLost(error, coordinator);
    }
  }

  async stream(coordinator: CoordinatorId, request: StreamRequest, headers: Headers): Promise<StreamResponse> {
    const { method, signal, message } = request;
    const transport = await this.#transport(coordinator, signal);
    try {
      const response = await transport.stream(method, signal, undefined, headers, message);
      return { ...response, message: messages(response.message, coordinator) };
    } catch (error) {
      throw answerOrLost(error, coordinator);
    }
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    for (const line of [...this.#lines.values()].flat())
      line.connected.then(({ sessions }) => sessions.abort()).catch(() => {});
  }

  /** The transport for one call, which goes on until `over` aborts. */
  async #transport(coordinator: CoordinatorId, over: AbortSignal): Promise<Transport> {
    over.throwIfAborted();
    if (this.#ended) throw new FarmError("unavailable", "The coordinator is stopping; try again.");
    const good = (this.#lines.get(coordinator) ?? []).filter((line) => line.isGood());
    const free = good.find(({ calls }) => calls < MOST_ON_LINE);
    const line = free ?? new Line(this.#connect(coordinator));
    this.#lines.set(coordinator, free ? good : [...good, line]);
    line.calls++;
    over.addEventListener("abort", () => line.calls--, { once: true });
    return (await line.connected).transport;
  }

  async #connect(coordinator: CoordinatorId): Promise<Connected> {
    const limit = new AbortController();
    const done = new AbortController();
    this.#deps.clock.sleep(CONNECT_LIMIT, done.signal).then(
      () => limit.abort(new FarmError("unavailable", `Coordinator ${coordinator} does not answer; try again.`)),
      () => {},
    );
    try {
      const socket = await this.#deps.peers.connect(coordinator, limit.signal, "h2");
      const url = "https://peer";
      const options = { idleConnectionTimeoutMs: UNUSED, pingIntervalMs: PING };
      const sessions = new Http2SessionManager(url, options, { createConnection: () => socket });
      if ((await sessions.connect()) === "error") throw ConnectError.from(sessions.error());
      return { sessions, transport: createGrpcTransport({ baseUrl: url, sessionManager: sessions }) };
    } finally {
      done.abort();
    }
  }
}

async function* messages<T>(from: AsyncIterable<T>, coordinator: CoordinatorId): AsyncGenerator<T> {
  try {
    yield* from;
  } catch (error) {
    throw answerOrLost(error, coordinator);
  }
}

/**
 * The error for the caller. An error that the other coordinator answered is passed on. An error of the connection says
 * nothing about the caller or the request, and becomes `unavailable`.
 */
function answerOrLost(error: unknown, coordinator: CoordinatorId): unknown {
  if (!(error instanceof ConnectError) || error.metadata.has("grpc-status")) return error;
  return new FarmError("unavailable", `The connection to coordinator ${coordinator} was lost; try again.`, {
    cause: error,
  });
}

/**
 * Calls that another coordinator has to answer, since the machine is connected to it: over HTTP/2 to its TLS port, where it must show the
 * certificate of its row (peers/). One connection to each, for as long as it is used; the next call after it broke makes another.
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

const CONNECT_LIMIT: Ms = seconds(10);
const UNUSED: Ms = minutes(1);
const PING: Ms = seconds(15);

interface Line {
  readonly transport: Transport;
  readonly sessions: Http2SessionManager;
}

export interface PeerCallsDeps {
  readonly peers: Pick<Peers, "connect">;
  readonly clock: Clock;
}

export class PeerCalls implements Disposable {
  readonly #deps: PeerCallsDeps;
  readonly #lines = new Map<CoordinatorId, Promise<Line>>();
  #ended = false;

  constructor(deps: PeerCallsDeps) {
    this.#deps = deps;
  }

  async unary(coordinator: CoordinatorId, request: UnaryRequest, headers: Headers): Promise<UnaryResponse> {
    const { transport } = await this.#line(coordinator);
    const { method, signal, message } = request;
    return await transport.unary(method, signal, undefined, headers, message);
  }

  async stream(coordinator: CoordinatorId, request: StreamRequest, headers: Headers): Promise<StreamResponse> {
    const { transport } = await this.#line(coordinator);
    const { method, signal, message } = request;
    return await transport.stream(method, signal, undefined, headers, message);
  }

  [Symbol.dispose](): void {
    this.#ended = true;
    for (const line of this.#lines.values()) line.then(({ sessions }) => sessions.abort()).catch(() => {});
  }

  async #line(coordinator: CoordinatorId): Promise<Line> {
    const known = await this.#lines.get(coordinator)?.catch(() => undefined);
    if (known && ["open", "idle", "verifying"].includes(known.sessions.state())) return known;
    if (this.#ended) throw new FarmError("unavailable", "The coordinator is stopping; try again.");
    const made = this.#connect(coordinator);
    this.#lines.set(coordinator, made);
    return await made;
  }

  async #connect(coordinator: CoordinatorId): Promise<Line> {
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

/**
 * Blobs that another coordinator has: snapshots, which only the coordinator whose machine made them keeps, and files on
 * their way between people and machines, which lie where they arrived. The other side: shared-blobs.ts. The asker
 * checks the bytes of a snapshot against its row.
 *
 * Only the holder can say that a blob no longer exists: a coordinator that has ended, or is starting, comes back to a
 * folder that has it.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../farm/clock.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import type { PeerSignature } from "./peer-signature.ts";
import type { Peers } from "./peers.ts";
import { PEER_BLOBS_PATH } from "./shared-blobs.ts";

/** How long connecting and the beginning of the answer may take. */
const ANSWER_LIMIT: Ms = seconds(15);
/** Either end gives up when nothing has moved for this long. */
const IDLE_LIMIT: Ms = seconds(60);

export interface PeerBlobsDeps {
  readonly peers: Pick<Peers, "self" | "all" | "connect">;
  readonly clock: Clock;
  readonly signature: PeerSignature;
}

export class PeerBlobs {
  readonly #deps: PeerBlobsDeps;

  constructor(deps: PeerBlobsDeps) {
    this.#deps = deps;
  }

  /**
   * The bytes of `key` from another coordinator. `holder` should have them, and is asked first. Throws `not-found` when
   * neither it nor any other has them, and `unavailable` when that cannot be known now.
   */
  async fetch(key: string, holder: CoordinatorId, signal: AbortSignal): Promise<Readable> {
    const { peers } = this.#deps;
    const others = await peers.all();
    let unreachable: unknown;
    let answered = holder === peers.self;
    for (const { id } of others.toSorted((a, b) => Number(b.id === holder) - Number(a.id === holder))) {
      try {
        const body = await this.#fetchFrom(id, key, signal);
        if (body) return body;
        answered ||= id === holder;
      } catch (error) {
        signal.throwIfAborted();
        unreachable = error;
      }
    }
    if (!answered) {
      unreachable ??= new FarmError("unavailable", `Coordinator ${holder}, which should have it, is not there`);
    }
    if (unreachable === undefined)
      throw new FarmError("not-found", `Cannot read ${JSON.stringify(key)}: no coordinator has it`);
    const why = messageOf(unreachable);
    throw new FarmError("unavailable", `Cannot read ${JSON.stringify(key)} now: ${why}`, { cause: unreachable });
  }

  /** The bytes of `key` from `id`; undefined when it has none. */
  async #fetchFrom(id: CoordinatorId, key: string, signal: AbortSignal): Promise<Readable | undefined> {
    const { peers, clock } = this.#deps;
    const limit = new AbortController();
    const done = new AbortController();
    clock.sleep(ANSWER_LIMIT, done.signal).then(
      () => limit.abort(new FarmError("timed-out", `Coordinator ${id} did not answer within ${ANSWER_LIMIT / 1000} s`)),
      () => {},
    );
    const either = AbortSignal.any([signal, limit.signal]);
    let socket: TLSSocket | undefined;
    try {
      socket = await peers.connect(id, either);
      const authorization = this.#deps.signature.authorization(key, id);
      const answer = await asked(socket, key, authorization, either);
      if (answer.statusCode === 200) {
        answer.setTimeout(IDLE_LIMIT, () =>
          answer.destroy(new FarmError("timed-out", `Coordinator ${id} fell silent`)),
        );
        return answer;
      }
      if (answer.statusCode !== CODES["not-found"].http) {
        throw new FarmError("unavailable", `Coordinator ${id} answered ${answer.statusCode}`);
      }
      socket.destroy();
      return undefined;
    } catch (error) {
      socket?.destroy();
      throw error;
    } finally {
      done.abort();
    }
  }
}

/** Sends the request on a connection of its own. Resolves at the head of the answer. */
function asked(socket: TLSSocket, key: string, authorization: string, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const headers = { authorization, host: "peer", connection: "close" };
  const request: ClientRequest = httpRequest({
    createConnection: () => socket,
    path: `${PEER_BLOBS_PATH}${key}`,
    headers,
    signal,
  });
  request.on("response", resolve);
  request.on("error", (error) =>
    reject(signal.aborted ? signal.reason : new FarmError("unavailable", messageOf(error))),
  );
  request.end();
  return promise;
}

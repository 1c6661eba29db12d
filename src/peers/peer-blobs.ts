/**
 * Blobs that another coordinator has: snapshots, which only the one whose machine made them has in its folder, and files on their way between
 * people and machines, which lie where they arrived.
 *
 *   GET /peer/blobs/KEY     Authorization: Barnraiser-Peer ASKER TIME MAC
 *
 * The authorization is of the key (peer-signature.ts). Nothing but these two kinds is given out, over TLS alone, at most AT_ONCE at a time.
 * Whoever asks checks the bytes of a snapshot against its row.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { TLSSocket } from "node:tls";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type Ms, seconds } from "../farm/ids.ts";
import type { PeerSignature } from "./peer-signature.ts";
import type { Peers } from "./peers.ts";

export const PEER_BLOBS_PATH = "/peer/blobs/";
/** Blobs given out at a time. */
export const AT_ONCE = 8;
/** To connect, and to begin to answer. */
const ANSWER_LIMIT: Ms = seconds(15);
/** Either end gives up when nothing has moved for so long. */
const IDLE_LIMIT: Ms = seconds(60);
const KEY = /^(snapshots|transfers)\/[A-Za-z0-9][A-Za-z0-9._-]{0,300}$/;

export interface PeerBlobsDeps {
  readonly peers: Pick<Peers, "all" | "connect">;
  readonly clock: Clock;
  readonly log: Log;
  readonly signature: PeerSignature;
  /** Throws FarmError `not-found`. */
  readonly get: (key: string) => Promise<Readable>;
}

/** A response of either kind of Node's servers. */
interface Out extends NodeJS.WritableStream {
  writeHead(status: number, headers: Readonly<Record<string, string>>): unknown;
}

export class PeerBlobs {
  readonly #deps: PeerBlobsDeps;
  #given = 0;

  constructor(deps: PeerBlobsDeps) {
    this.#deps = deps;
  }

  /** The bytes of `key` from whichever peer has them; `holder` should, and is asked first. Throws `not-found` when none has, `unavailable` when that cannot be told now. */
  async fetch(key: string, holder: CoordinatorId, signal: AbortSignal): Promise<Readable> {
    let unreachable: unknown;
    const peers = await this.#deps.peers.all();
    for (const { id } of peers.toSorted((a, b) => Number(b.id === holder) - Number(a.id === holder))) {
      try {
        return await this.#fetchFrom(id, key, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof FarmError && error.code === "not-found")) unreachable = error;
      }
    }
    if (unreachable === undefined)
      throw new FarmError("not-found", `Cannot read ${JSON.stringify(key)}: no coordinator has it`);
    const why = messageOf(unreachable);
    throw new FarmError("unavailable", `Cannot read ${JSON.stringify(key)} now: ${why}`, { cause: unreachable });
  }

  /** Answers a request for PEER_BLOBS_PATH. Never throws. */
  async serve(method: string, target: string, authorization: string, secure: boolean, out: Out): Promise<void> {
    const key = target.slice(PEER_BLOBS_PATH.length);
    const refusal = this.#refusal(method, key, authorization, secure);
    if (refusal) {
      refuse(out, refusal.status, refusal.text);
      return;
    }
    this.#given++;
    try {
      const body = await this.#deps.get(key);
      out.writeHead(200, { "content-type": "application/octet-stream", "cache-control": "no-store" });
      await pipeline(body, out);
    } catch (error) {
      const { code } = FarmError.from(error);
      if (code === "not-found") {
        refuse(out, 404, "no such blob\n");
        return;
      }
      // Whoever asked sees that it was cut off; pipeline() has ended the response.
      this.#deps.log.warn({ key, error: messageOf(error) }, "Could not give a blob to another coordinator");
    } finally {
      this.#given--;
    }
  }

  #refusal(method: string, key: string, authorization: string, secure: boolean) {
    if (!secure) return { status: 403, text: "over TLS only\n" };
    if (method !== "GET") return { status: 405, text: "only GET\n" };
    const why = this.#deps.signature.refusal(key, authorization);
    if (why !== undefined) return { status: 403, text: `${why}\n` };
    if (!KEY.test(key)) return { status: 404, text: "no such blob\n" };
    if (this.#given >= AT_ONCE) return { status: 503, text: "busy; try again\n" };
    return undefined;
  }

  async #fetchFrom(id: CoordinatorId, key: string, signal: AbortSignal): Promise<Readable> {
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
      const code = answer.statusCode === CODES["not-found"].http ? "not-found" : "unavailable";
      throw new FarmError(code, `Coordinator ${id} answered ${answer.statusCode}`);
    } catch (error) {
      socket?.destroy();
      throw error;
    } finally {
      done.abort();
    }
  }
}

function refuse(out: Out, status: number, text: string): void {
  out.writeHead(status, { "content-type": "text/plain; charset=utf-8", "content-length": String(text.length) });
  out.end(text);
}

/** The head of the answer on a connection of this request's own. */
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

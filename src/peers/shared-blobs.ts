/**
 * Blobs of ours that the farm's other coordinators may have (peer-blobs.ts): snapshots and files on their way.
 *
 *   GET /peer/blobs/KEY     Authorization: Barnraiser-Peer ASKER TIME MAC
 *
 * The authorization is for KEY (peer-signature.ts). Only these two kinds are given out, only over TLS, and at most
 * AT_ONCE at a time.
 */
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { PeerSignature } from "./peer-signature.ts";

export const PEER_BLOBS_PATH = "/peer/blobs/";
/** The most blobs that are given out at a time. */
const AT_ONCE = 8;
const KEY = /^(snapshots|transfers)\/[A-Za-z0-9][A-Za-z0-9._-]{0,300}$/;

export interface SharedBlobsDeps {
  readonly log: Log;
  readonly signature: PeerSignature;
  /** The bytes of `key`. Throws FarmError `not-found`. */
  readonly get: (key: string) => Promise<Readable>;
}

/** A response of either kind of Node's servers. */
interface Out extends NodeJS.WritableStream {
  writeHead(status: number, headers: Readonly<Record<string, string>>): unknown;
}

export class SharedBlobs {
  readonly #deps: SharedBlobsDeps;
  #given = 0;

  constructor(deps: SharedBlobsDeps) {
    this.#deps = deps;
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
      // The asker sees that the answer was cut off: pipeline() has ended the response.
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
}

function refuse(out: Out, status: number, text: string): void {
  out.writeHead(status, { "content-type": "text/plain; charset=utf-8", "content-length": String(text.length) });
  out.end(text);
}

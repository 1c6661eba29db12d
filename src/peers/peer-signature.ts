/**
 * How coordinators of one farm prove to one another who asks: `Authorization: Barnraiser-Peer ASKER TIME MAC`.
 *
 * MAC is an HMAC-SHA256 over what is asked for, who is asked, who asks and when. Its key is made from the farm's master
 * key, so only a coordinator of this farm can ask. A request is valid at one coordinator, for one thing, within DATED
 * of its time.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Clock } from "../farm/clock.ts";
import { type CoordinatorId, type Ms, minutes } from "../farm/ids.ts";

/** How far the clocks of two coordinators may be apart. */
const DATED: Ms = minutes(5);
const SCHEME = "Barnraiser-Peer";
const AUTHORIZATION = new RegExp(`^${SCHEME} (P[0-9a-f]{9}) (\\d{1,15}) ([0-9a-f]{64})$`);

export interface PeerSignatureDeps {
  readonly self: CoordinatorId;
  readonly clock: Clock;
  /** The farm's master key, from which the key of requests is made. It is never sent. */
  readonly masterKey: string;
}

export class PeerSignature {
  readonly #deps: PeerSignatureDeps;
  readonly #key: Buffer;

  constructor(deps: PeerSignatureDeps) {
    this.#deps = deps;
    this.#key = createHmac("sha256", deps.masterKey).update("barnraiser peer 1").digest();
  }

  /** The value of Authorization of a request to `asked` for `what`. */
  authorization(what: string, asked: CoordinatorId): string {
    const { self, clock } = this.#deps;
    const time = String(clock.now());
    return `${SCHEME} ${self} ${time} ${this.#mac(what, asked, self, time)}`;
  }

  /** The reason to refuse a request. Undefined: a coordinator of this farm asks us for `what`. */
  refusal(what: string, authorization: string): string | undefined {
    const [, asker = "", time = "", mac = ""] = AUTHORIZATION.exec(authorization) ?? [];
    const right = this.#mac(what, this.#deps.self, asker, time);
    if (mac.length !== right.length || !timingSafeEqual(Buffer.from(mac), Buffer.from(right)))
      return "not signed by a coordinator of this farm";
    if (Math.abs(Number(time) - this.#deps.clock.now()) > DATED)
      return "signed too long ago: are the clocks of the coordinators right?";
    return undefined;
  }

  #mac(what: string, asked: string, asker: string, time: string): string {
    return createHmac("sha256", this.#key).update([what, asked, asker, time].join("\n")).digest("hex");
  }
}

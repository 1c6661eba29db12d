/**
 * Pick-ups: connections that machines open because a session of theirs asked for one (../revdial/dialer.ts).
 *
 * The path of each names its owner: a coordinator, and there a dialer. A pick-up of another coordinator is passed on to
 * it. A pick-up that another coordinator passed on to us ends when that coordinator ends. `carrierEnded` then tells the
 * user of the connection that the machine is well.
 */
import type { Log } from "../../farm/deps.ts";
import { type CoordinatorId, coordinatorId } from "../../farm/ids.ts";
import type { PickUp, Refusal } from "../../peers/forwarder.ts";
import type { Peers } from "../../peers/peers.ts";
import { fieldValues, type RequestHead } from "../../wire/revdial/http-head.ts";
import { FORWARDED_HEADER, parseConnPath } from "../../wire/revdial/registration.ts";
import type { MachineSocket } from "../door.ts";
import type { Dialer } from "../revdial/dialer.ts";
import { answer } from "./answer.ts";

export interface PickUpsDeps {
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  /** Passes a pick-up on to its coordinator. Resolves with the answer to send when that is impossible. */
  readonly forward: (pickUp: PickUp) => Promise<Refusal | undefined>;
  readonly peers: Pick<Peers, "find" | "answers">;
}

export class PickUps {
  readonly #deps: PickUpsDeps;
  /** Random id → dialer. Looking one up shows nothing of another. */
  readonly #dialers = new Map<string, Dialer>();
  /** Connection → the coordinator that passed it on to us. Undefined: no living one, whatever the machine says. */
  readonly #carriers = new WeakMap<MachineSocket, Promise<CoordinatorId | undefined>>();

  constructor(deps: PickUpsDeps) {
    this.#deps = deps;
  }

  /** Gives connections for the dialer `id` to `dialer` from now on. */
  expect(id: string, dialer: Dialer): void {
    this.#dialers.set(id, dialer);
  }

  /** Notes that the dialer has ended. */
  forget(id: string): void {
    this.#dialers.delete(id);
  }

  /** Gives a connection to the dialer that waits for it. Resolves when that is done, or refused. */
  async take(socket: MachineSocket, head: RequestHead, rest: Uint8Array): Promise<void> {
    socket.on("error", () => {}); // the user of the connection sees its end
    if (head.method !== "GET") {
      answer(socket, 405, "Want GET.", [["Allow", "GET"]]);
      return;
    }
    const path = parseConnPath(head.target);
    if (path?.coordinator !== undefined && path.coordinator !== this.#deps.coordinator) {
      await this.#forward(socket, head, rest, coordinatorId(path.coordinator));
      return;
    }
    const dialer = path && this.#dialers.get(path.dialer);
    if (!path || !dialer?.is(path.dialer)) {
      answer(socket, 400, "Unknown dialer: the session that this connection is for has ended.");
      return;
    }
    if (rest.length > 0) socket.unshift(rest);
    const [carrier] = fieldValues(head, FORWARDED_HEADER);
    if (carrier !== undefined) this.#carriers.set(socket, this.#living(coordinatorId(carrier)));
    if (!dialer.deliver(path.dial, socket)) answer(socket, 400, "Nobody waits for this connection any more.");
  }

  /** The explanation, if `socket` broke because the coordinator ended that passed it on. */
  async carrierEnded(socket: MachineSocket): Promise<string | undefined> {
    const carrier = await this.#carriers.get(socket);
    if (carrier === undefined || (await this.#deps.peers.answers(carrier))) return undefined;
    return `Coordinator ${carrier}, which passed its connection on, ended`;
  }

  /** Passes on a pick-up of another coordinator: the farm's address leads to any of them. */
  async #forward(socket: MachineSocket, head: RequestHead, rest: Uint8Array, owner: CoordinatorId): Promise<void> {
    const refusal = await this.#deps.forward({ owner, head, socket, rest });
    if (!refusal) return;
    this.#deps.log.info({ coordinator: owner, reason: refusal.reason }, "Could not pass a pick-up on");
    answer(socket, refusal.status, refusal.reason);
  }

  async #living(coordinator: CoordinatorId): Promise<CoordinatorId | undefined> {
    return (await this.#deps.peers.find(coordinator)) && coordinator;
  }
}

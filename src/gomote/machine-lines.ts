/**
 * Connections to the machine of an instance, for shells, whichever coordinator the machine is connected to.
 *
 *   here        this coordinator asks the machine: our agent for a shell (wire/buildlet-api/shell-line.ts), an original
 *               buildlet for its ssh server
 *   elsewhere   POST /peer/shell?instance=ID, signed (peers/peer-signature.ts), to the coordinator that has the
 *               machine; that one does the same, and then carries bytes without looking at them
 *
 * Always: a connection ends with the instance, at the end that notices it first.
 */
import type { Duplex } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import type { Log } from "../farm/deps.ts";
import { CODES, FarmError } from "../farm/errors.ts";
import type { CoordinatorId, MachineId } from "../farm/ids.ts";
import { switched } from "../machines/buildlet/switched.ts";
import type { PeerSignature } from "../peers/peer-signature.ts";
import type { Peers } from "../peers/peers.ts";
import type { Instance } from "../store/gomote.ts";
import { SHELL_UPGRADE } from "../wire/buildlet-api/shell.ts";
import { encodeResponseHead, fieldValues, type RequestHead } from "../wire/revdial/http-head.ts";
import type { HeldInstance } from "./holdings.ts";
import { HeldElsewhere, type Instances } from "./instances.ts";

export const PEER_SHELL_PATH = "/peer/shell";
const SSH = "ssh";
/** The user name that the original's gateway gives at a buildlet. */
export const BUILDLET_USER = "swarming";
const NEVER = new AbortController().signal;

export interface MachineLine {
  /** The connection, which the caller has to end. */
  readonly duplex: Duplex;
  /** What is spoken on it: our shell's frames, or ssh with the original's own server. */
  readonly speaks: "frames" | "ssh";
}

export interface MachineLinesDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly peers: Pick<Peers, "connect">;
  readonly signature: PeerSignature;
  readonly instances: Pick<Instances, "held" | "here">;
  /** The gateway's own key for a machine with an ssh server: `TYPE BASE64`. */
  readonly clientKey: (machine: MachineId | null) => string;
}

export class MachineLines {
  readonly #deps: MachineLinesDeps;

  constructor(deps: MachineLinesDeps) {
    this.#deps = deps;
  }

  /**
   * Opens a connection. Throws the FarmErrors of Instances.held(), and one that says why the machine cannot be reached.
   */
  async open({ name, id, owner }: Pick<Instance, "name" | "id" | "owner">, signal: AbortSignal): Promise<MachineLine> {
    try {
      return await this.#here(await this.#deps.instances.held({ id: owner }, name), signal);
    } catch (error) {
      if (!(error instanceof HeldElsewhere)) throw error;
      return await this.#elsewhere(error.coordinator, id, signal);
    }
  }

  /** Answers another coordinator, on the connection on which it asked. Never throws. */
  async serve(socket: Duplex, head: RequestHead, rest: Uint8Array): Promise<void> {
    const { signature, instances, log } = this.#deps;
    socket.on("error", () => {}); // a close follows
    const target = targetOf(head.target);
    const why =
      head.method === "POST" && target !== undefined
        ? signature.refusal(head.target, fieldValues(head, "Authorization")[0] ?? "")
        : `want POST ${PEER_SHELL_PATH}?instance=ID`;
    if (why !== undefined || target === undefined) return refuse(socket, 403, why ?? "");
    const held = instances.here(target);
    if (!held) return refuse(socket, 404, "its machine is not connected here, or no more");
    const left = new AbortController();
    const leave = () => left.abort(new FarmError("canceled", "whoever asked left"));
    socket.once("close", leave);
    if (socket.destroyed) leave();
    try {
      const { duplex, speaks } = await this.#here(held, left.signal);
      const protocol = speaks === "frames" ? SHELL_UPGRADE : SSH;
      socket.write(
        encodeResponseHead(101, "Switching Protocols", [
          ["Upgrade", protocol],
          ["Connection", "Upgrade"],
        ]),
      );
      if (rest.length > 0) socket.unshift(rest);
      joined(socket, duplex);
    } catch (error) {
      const { code, message } = FarmError.from(error);
      if (code === "internal") log.error({ error: message }, "Could not open a shell for another coordinator");
      refuse(socket, CODES[code].http, message);
    }
  }

  async #here({ instance, machine, over }: HeldInstance, signal: AbortSignal): Promise<MachineLine> {
    const either = AbortSignal.any([signal, over]);
    const original = machine.agent === "original";
    const duplex = original
      ? await machine.client.connectSsh(BUILDLET_USER, this.#deps.clientKey(instance.machineId), either)
      : await machine.client.openShell(either);
    duplex.on("error", () => {}); // a close follows
    const end = () => duplex.destroy(over.reason);
    over.addEventListener("abort", end, { once: true });
    duplex.once("close", () => over.removeEventListener("abort", end));
    if (over.aborted) end();
    return { duplex, speaks: original ? "ssh" : "frames" };
  }

  async #elsewhere(coordinator: CoordinatorId, instance: number, signal: AbortSignal): Promise<MachineLine> {
    const { clock, log, peers, signature } = this.#deps;
    const target = `${PEER_SHELL_PATH}?instance=${instance}`;
    const name = `Coordinator ${coordinator}`;
    const dial = (stop: AbortSignal) => peers.connect(coordinator, stop);
    const fields = [["Authorization", signature.authorization(target, coordinator)]] as const;
    const request = { target, doing: "open a shell", protocol: SHELL_UPGRADE, fields };
    const { socket, protocol } = await switched({ name, clock, log, dial, gone: NEVER }, request, signal);
    return { duplex: socket, speaks: protocol === SSH ? "ssh" : "frames" };
  }
}

function targetOf(target: string): number | undefined {
  const [, id] = /^\/peer\/shell\?instance=(\d{1,15})$/.exec(target) ?? [];
  return id === undefined ? undefined : Number(id);
}

function refuse(socket: Duplex, status: number, reason: string): void {
  const body = Buffer.from(`${reason}\n`);
  socket.write(
    encodeResponseHead(status, "Refused", [
      ["Content-Type", "text/plain; charset=utf-8"],
      ["Content-Length", String(body.length)],
      ["Connection", "close"],
    ]),
  );
  socket.end(body);
}

/** Carries bytes both ways until either side is gone. The other side then ends, too, once it has what was sent. */
function joined(one: Duplex, other: Duplex): void {
  for (const [from, to] of [
    [one, other],
    [other, one],
  ] as const) {
    from.on("error", () => {}); // a close follows
    from.once("close", () => (from.readableEnded ? to.end() : to.destroy()));
    from.pipe(to);
  }
}

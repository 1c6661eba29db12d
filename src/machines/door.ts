/**
 * Where the front door hands over connections of machines: raw sockets whose first request head it has read.
 *
 * From then on this room owns the socket: it answers, keeps, or closes it.
 */
import type { Duplex } from "node:stream";
import type { RequestHead } from "../wire/revdial/http-head.ts";

/** A socket with its peer's address; TLSSocket is one. */
export interface MachineSocket extends Duplex {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  /** Calls `onIdle` when nothing happened on the socket for this long. */
  setTimeout?(milliseconds: number, onIdle: () => void): unknown;
}

export interface MachineDoor {
  /** Takes a machine that registers. `rest` came behind the head. */
  reverse(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void;
  /** Takes a connection that a machine opened because we asked for it. */
  revdial(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void;
}

/**
 * Where the front door hands over connections of machines: raw sockets whose first request head it has read.
 *
 * From then on the socket belongs here: answered, kept, or closed.
 */
import type { Duplex } from "node:stream";
import type { RequestHead } from "../wire/revdial/http-head.ts";

/** A socket with its peer's address; TLSSocket is one. */
export interface MachineSocket extends Duplex {
  readonly remoteAddress?: string | undefined;
  readonly remotePort?: number | undefined;
  /** Calls `onIdle` when nothing happened on the socket for so long. */
  setTimeout?(milliseconds: number, onIdle: () => void): unknown;
}

export interface MachineDoor {
  /** A machine registers. `rest` came behind the head. */
  reverse(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void;
  /** A machine hands us a connection that we asked for. */
  revdial(socket: MachineSocket, head: RequestHead, rest: Uint8Array): void;
}

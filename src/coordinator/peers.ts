/** The farm's other coordinators: who they are, connections to them, and what they have that we do not. */
import { Forwarder } from "../peers/forwarder.ts";
import { PeerBlobs } from "../peers/peer-blobs.ts";
import { PeerSignature } from "../peers/peer-signature.ts";
import { Peers } from "../peers/peers.ts";
import type { Common } from "./storage.ts";

export interface Neighbours {
  readonly peers: Peers;
  readonly forwarder: Forwarder;
  /** By which they know that it is we who ask. */
  readonly signature: PeerSignature;
  readonly blobs: PeerBlobs;
}

/** `sql` should not wait long: whoever asks for a peer would rather do without. */
export function openPeers(
  stack: AsyncDisposableStack,
  { sql, clock, log, coordinator: self }: Common,
  masterKey: string,
): Neighbours {
  const peers = new Peers({ sql, clock, log, self });
  const forwarder = stack.use(new Forwarder({ peers, clock, log }));
  const signature = new PeerSignature({ self, clock, masterKey });
  const blobs = new PeerBlobs({ peers, clock, signature });
  return { peers, forwarder, signature, blobs };
}

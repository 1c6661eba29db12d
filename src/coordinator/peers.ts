/** The farm's other coordinators: who they are, connections to them, and what they have that we lack. */
import { Forwarder } from "../peers/forwarder.ts";
import { PeerBlobs } from "../peers/peer-blobs.ts";
import { PeerSignature } from "../peers/peer-signature.ts";
import { Peers } from "../peers/peers.ts";
import type { Common } from "./storage.ts";

export interface Neighbours {
  readonly peers: Peers;
  readonly forwarder: Forwarder;
  /** The signature by which they know that we are the caller. */
  readonly signature: PeerSignature;
  readonly blobs: PeerBlobs;
}

/** Opens the connections to peers. `sql` should not wait long, since its callers can do without a peer. */
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

/** Machines that people borrow: opens gomote.ts with the parts of this coordinator. */
import type { FarmConfig } from "../config/effective.ts";
import { openGatewayKeys } from "../gomote/ssh/keys.ts";
import type { ReversePool } from "../machines/reverse/reverse-pool.ts";
import type { People } from "../people/people.ts";
import { type Gomote, type GomoteDeps, openGomote } from "./gomote.ts";
import type { Neighbours } from "./peers.ts";
import type { Storage } from "./storage.ts";

export interface LendingDeps extends Pick<GomoteDeps, "tarball" | "stopping"> {
  readonly storage: Storage;
  readonly config: () => FarmConfig;
  readonly neighbours: Neighbours;
  readonly pool: ReversePool;
  readonly people: People;
  /** Whether people reach their instances by ssh. */
  readonly hasSsh: boolean;
}

export async function openLending(stack: AsyncDisposableStack, deps: LendingDeps): Promise<Gomote> {
  const { config, pool, people, hasSsh, tarball, stopping } = deps;
  const { common, secrets, startedAt, blobs } = deps.storage;
  const { peers, signature, blobs: peerBlobs } = deps.neighbours;
  const shells = hasSsh ? { keys: await openGatewayKeys(common.sql, secrets.master, startedAt) } : undefined;
  return stack.use(
    openGomote({
      ...common,
      config,
      people,
      peers,
      signature,
      machine: (session) => pool.take(session),
      inUse: (session) => pool.inUse(session),
      release: (session, how) => pool.release(session, how),
      tarball,
      ...(shells && { shells }),
      stopping,
      blobs,
      elsewhere: (key, holder, signal) => peerBlobs.fetch(key, holder, signal),
      masterKey: secrets.master,
    }),
  );
}

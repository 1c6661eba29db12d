/**
 * Builds: the parts that drive them on machines, keep their trees, take back what nobody drives any more, and look for
 * what broke them.
 */
import { Builds, type BuildsDeps } from "../builds/builds.ts";
import { Narrowing } from "../builds/narrowing.ts";
import { Recovery } from "../builds/recovery.ts";
import { Snapshots } from "../builds/snapshots.ts";
import type { FarmConfig } from "../config/effective.ts";
import type { Instances } from "../gomote/instances.ts";
import type { ReversePool } from "../machines/reverse/reverse-pool.ts";
import type { PeerBlobs } from "../peers/peer-blobs.ts";
import type { Storage } from "./storage.ts";

export interface BuildingDeps extends Pick<BuildsDeps, "tarball"> {
  readonly storage: Storage;
  readonly config: () => FarmConfig;
  readonly pool: ReversePool;
  readonly peerBlobs: PeerBlobs;
  readonly instances: Instances;
  /** Called when others have declared this coordinator dead. */
  readonly lost: () => void;
}

/** Opens these parts. Resolves when the leases that earlier coordinators left have been looked after. */
export async function openBuilding(stack: AsyncDisposableStack, deps: BuildingDeps): Promise<Builds> {
  const { config, pool, peerBlobs, instances, tarball, lost } = deps;
  const { common, database, logs, blobs, alone } = deps.storage;
  const snapshots = stack.use(
    new Snapshots({
      ...common,
      blobs,
      elsewhere: ({ blob, holder }, signal) => peerBlobs.fetch(blob, holder, signal),
    }),
  );
  snapshots.start();
  const builds = stack.use(
    new Builds({
      ...common,
      logs,
      snapshots,
      machine: (session) => pool.take(session),
      release: (session, how) => pool.release(session, how),
      tarball,
    }),
  );
  const recovery = stack.use(
    new Recovery({
      ...common,
      heart: database.heart,
      alone,
      endInstance: (id, reason, held) => instances.endByFarm(id, reason, held),
      lost,
    }),
  );
  await recovery.start();
  stack.use(new Narrowing({ ...common, config }));
  return builds;
}

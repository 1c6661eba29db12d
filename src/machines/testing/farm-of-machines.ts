/** A reverse pool behind a real front door, with a real database, into which a test lets machines dial. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../farm/clock.ts";
import { type CoordinatorId, coordinatorId, epochMs, type SessionId } from "../../farm/ids.ts";
import { RECONNECT_WITHIN } from "../../farm/lease.ts";
import { until } from "../../farm/testing/until.ts";
import { certificateDigest } from "../../peers/peers.ts";
import { coordinatorReachable, coordinatorStarted } from "../../store/coordinators.ts";
import { systemClock } from "../../store/system-clock.ts";
import { freshDatabase, quiet, type TestDatabase } from "../../store/testing/database.ts";
import { certificate } from "../../web/certificate.ts";
import { FrontDoor, type RequestListener } from "../../web/front-door.ts";
import { builderKey } from "../../wire/builder-key/builder-key.ts";
import { Keys, type KeysDeps } from "../keys.ts";
import type { MachineSession } from "../machine-session.ts";
import { ReversePool, type ReversePoolDeps } from "../reverse/reverse-pool.ts";
import { type OriginalBuildlet, type OriginalBuildletOptions, startOriginalBuildlet } from "./original-buildlet.ts";

export const MASTER_KEY = "test master";
export const HOST_TYPE = "host-linux-amd64-test";
export const COORDINATOR = coordinatorId("P0000000aa");

export interface FarmOfMachinesOptions {
  readonly clock?: Clock;
  /** The database of another farm of the test: then this is one more coordinator of that farm. */
  readonly database?: TestDatabase;
  readonly coordinator?: CoordinatorId;
  readonly keys?: Partial<KeysDeps>;
  readonly pool?: Partial<ReversePoolDeps>;
  /** Answers the requests of people. */
  readonly pages?: RequestListener;
}

export class FarmOfMachines implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly pool: ReversePool;
  readonly door: FrontDoor;
  /** The sessions in the order in which they were offered, each time. */
  readonly offered: MachineSession[];
  readonly gone: SessionId[];
  readonly #stack: AsyncDisposableStack;

  constructor(
    parts: Pick<FarmOfMachines, "database" | "pool" | "door" | "offered" | "gone">,
    stack: AsyncDisposableStack,
  ) {
    this.database = parts.database;
    this.pool = parts.pool;
    this.door = parts.door;
    this.offered = parts.offered;
    this.gone = parts.gone;
    this.#stack = stack;
  }

  get port(): number {
    return this.door.ports.tls;
  }

  /** A machine, by default with the shared key of HOST_TYPE. */
  machine(options: Partial<OriginalBuildletOptions> = {}): Promise<OriginalBuildlet> {
    const hostType = options.hostType ?? HOST_TYPE;
    return startOriginalBuildlet({
      port: this.port,
      hostType,
      name: "m1",
      key: builderKey(MASTER_KEY, hostType),
      ...options,
    });
  }

  /** The session that is offered as number `count`, once it is. */
  async session(count = 1): Promise<MachineSession> {
    await until(() => this.offered.length >= count, `${count} sessions offered`);
    const session = this.offered[count - 1];
    if (!session) throw new Error("Cannot happen: it was just counted");
    return session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export async function farmOfMachines(options: FarmOfMachinesOptions = {}): Promise<FarmOfMachines> {
  const { clock = systemClock } = options;
  await using stack = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "barnraiser-machines-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  const database = options.database ?? stack.use(await freshDatabase());
  const coordinator = options.coordinator ?? COORDINATOR;
  const { sql, bus } = database;
  await coordinatorStarted(sql, { id: coordinator, host: "test", pid: 1, version: "test" }, clock.now());
  const keys = new Keys({
    sql,
    clock,
    masterKey: MASTER_KEY,
    allowDevKey: false,
    sharedKey: () => true,
    ...options.keys,
  });
  const offered: MachineSession[] = [];
  const gone: SessionId[] = [];
  const pool = stack.use(
    new ReversePool({
      sql,
      bus,
      clock,
      log: quiet,
      coordinator,
      random: () => 0.5,
      check: (claimant) => keys.check(claimant),
      owner: () => null,
      agentDigest: () => undefined,
      aloneFor: () => RECONNECT_WITHIN,
      forward: async () => ({ status: 503, reason: "There are no others." }),
      peers: { find: async () => undefined, answers: async () => false },
      idle: (session) => offered.push(session),
      gone: (session) => gone.push(session),
      ...options.pool,
    }),
  );
  const { cert, key } = await certificate({ folder, names: [], now: epochMs(Date.now()) });
  const local = { host: "127.0.0.1", port: 0 };
  const door = stack.use(new FrontDoor({ listen: local, http: local, cert, key, clock: systemClock, log: quiet }));
  await door.open({ machines: pool, pages: options.pages ?? (() => {}) });
  const address = `127.0.0.1:${door.ports.tls}`;
  await coordinatorReachable(sql, { id: coordinator, address, certificate: certificateDigest(cert) });
  return new FarmOfMachines({ database, pool, door, offered, gone }, stack.move());
}

/** A farm of machines in memory on a real database: claims, builds and logs wired as a coordinator wires them. */
import { Readable } from "node:stream";
import type { Clock } from "../../farm/clock.ts";
import type { Log } from "../../farm/deps.ts";
import type { CoordinatorId, Ms, SessionId } from "../../farm/ids.ts";
import type { Lease } from "../../farm/lease.ts";
import { Logs } from "../../logs/logs.ts";
import { Claims } from "../../schedule/claims.ts";
import type { RetryPolicy } from "../../store/attempts.ts";
import { claimLease } from "../../store/leases.ts";
import type { Sql } from "../../store/sql.ts";
import { systemClock } from "../../store/system-clock.ts";
import { quiet, type TestDatabase } from "../../store/testing/database.ts";
import { addCoordinator, addMachine, closeSession } from "../../store/testing/farm.ts";
import { Builds, type BuildsDeps, RETRY_POLICY } from "../builds.ts";
import { FakeMachine, type FakeMachineOptions } from "./fake-machine.ts";

export interface TestFarmOptions {
  readonly coordinator?: string;
  readonly clock?: Clock;
  /** Stands in for the database's own, to break it. */
  readonly sql?: Sql;
  readonly log?: Log;
  readonly policy?: Partial<RetryPolicy>;
  /** Stands in for snapshots. By default none is kept. */
  readonly snapshots?: BuildsDeps["snapshots"];
  readonly elsewhereFirst?: Ms;
  readonly tarball?: (repo: string, hash: string, signal: AbortSignal) => Promise<Readable>;
}

const NO_SNAPSHOTS: BuildsDeps["snapshots"] = {
  keep: () => ({ kept: Promise.resolve(false), finish: () => Promise.resolve() }),
  find: async () => undefined,
  about: () => "",
  restore: async () => ({ skippedLinks: 0 }),
  writeOther: async () => undefined,
};

export class TestFarm implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly coordinator: CoordinatorId;
  readonly logs: Logs;
  readonly builds: Builds;
  readonly claims: Claims;
  /** How each session was given back, in order. */
  readonly released: { readonly name: string; readonly how: "clean" | "broken" | "kept" | "elsewhere" }[] = [];
  /** The leases of machines that people borrowed. */
  readonly lent: Lease[] = [];
  readonly #clock: Clock;
  readonly #machines = new Map<SessionId, { readonly machine: FakeMachine; readonly queue: string }>();
  readonly #stop = new AbortController();

  constructor(database: TestDatabase, coordinator: CoordinatorId, options: TestFarmOptions) {
    this.database = database;
    this.coordinator = coordinator;
    const { bus } = database;
    const sql = options.sql ?? database.sql;
    const clock = options.clock ?? systemClock;
    this.#clock = clock;
    this.logs = new Logs({ sql, bus, clock, stopping: this.#stop.signal });
    this.builds = new Builds({
      sql,
      bus,
      clock,
      log: options.log ?? quiet,
      logs: this.logs,
      coordinator,
      machine: (id) => this.#machines.get(id)?.machine,
      release: async (id, how) => this.#release(id, how),
      tarball: options.tarball ?? (async () => Readable.from([Buffer.alloc(1000)])),
      snapshots: options.snapshots ?? NO_SNAPSHOTS,
      ...(options.elsewhereFirst !== undefined && { elsewhereFirst: options.elsewhereFirst }),
      policy: { ...RETRY_POLICY, ...options.policy },
    });
    const claim = (session: SessionId) => claimLease(sql, session, clock.now());
    this.claims = new Claims({ clock, log: quiet, claim }, this.#stop.signal);
    this.claims.begin((lease) => (lease.kind === "gomote" ? this.lent.push(lease) : this.builds.start(lease)));
    bus.subscribe("queue:", (topic) => this.claims.wake(topic.slice("queue:".length) || undefined), this.#stop.signal);
  }

  static async open(database: TestDatabase, options: TestFarmOptions = {}): Promise<TestFarm> {
    const clock = options.clock ?? systemClock;
    return new TestFarm(database, await addCoordinator(database.sql, options.coordinator, clock.now()), options);
  }

  /** A machine dials in, and is offered for work. */
  async connect(
    hostType: string,
    name: string,
    options: Omit<FakeMachineOptions, "id" | "machineId" | "name"> = {},
  ): Promise<FakeMachine> {
    const { process } = options;
    const instance = process?.instance ?? null;
    const row = await addMachine(this.database.sql, hostType, name, this.coordinator, instance, this.#clock.now());
    const machine = new FakeMachine({ ...options, ...row });
    this.#machines.set(machine.id, { machine, queue: hostType });
    machine.gone.addEventListener("abort", () => this.claims.withdraw(machine.id), { once: true });
    this.claims.offer({ id: machine.id, queue: hostType, holds: process !== undefined });
    return machine;
  }

  async disconnect(machine: FakeMachine): Promise<void> {
    machine.hangUp();
    this.claims.withdraw(machine.id);
    this.#machines.delete(machine.id);
    await closeSession(this.database.sql, machine.id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Error("the farm was stopped"));
    await this.builds[Symbol.asyncDispose]();
    await this.logs[Symbol.asyncDispose]();
  }

  #release(id: SessionId, how: "clean" | "broken" | "kept" | "elsewhere"): void {
    const entry = this.#machines.get(id);
    if (!entry) return;
    this.released.push({ name: entry.machine.name, how });
    const again =
      (how === "clean" || how === "kept") && !entry.machine.gone.aborted && entry.machine.agent === "barnraiser";
    if (again) this.claims.offer({ id, queue: entry.queue });
    else void this.disconnect(entry.machine).catch(() => {}); // the test's database may be gone by then
  }
}

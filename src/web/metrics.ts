/**
 * `/metrics`: the farm as it is now, and what this coordinator has done since it started.
 *
 * The present is read from the database, so a gauge of something that is gone says 0 and not its last value. The past
 * is counted from builds that ended, at each scrape.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { CoordinatorId, EpochMs } from "../farm/ids.ts";
import { connected, hostTypes } from "../store/pages-pools.ts";
import { endedSince, openBuilds } from "../store/pages-search.ts";
import { queueLengths } from "../store/queue-line.ts";
import type { Sql } from "../store/sql.ts";
import { expectedMachines } from "../store/troubles.ts";

const AT_ONCE = 10_000;

export interface MetricsDeps {
  readonly sql: Sql;
  readonly coordinator: CoordinatorId;
  readonly startedAt: EpochMs;
  readonly version: string;
}

export class Metrics {
  readonly #registry = new Registry();
  readonly #deps: MetricsDeps;
  readonly #machines: Gauge<"host_type" | "state">;
  readonly #reverse: Gauge<"host_type">;
  readonly #missing: Gauge<"host_type">;
  readonly #builds: Gauge<"state">;
  readonly #waiting: Gauge<"queue">;
  readonly #oldest: Gauge<"queue">;
  readonly #ended: Counter<"outcome" | "host_type">;
  readonly #took: Histogram<"builder" | "outcome">;
  readonly #waited: Histogram<"host_type">;
  #from: { at: Date; id: number };
  #scrape: Promise<string> | undefined;

  constructor(deps: MetricsDeps) {
    this.#deps = deps;
    this.#from = { at: new Date(deps.startedAt), id: 0 };
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
    const gauge = <L extends string>(name: string, help: string, labelNames: L[]): Gauge<L> =>
      new Gauge({ name, help, labelNames, registers });
    this.#machines = gauge("barnraiser_machines", "Connected machines by what they do", ["host_type", "state"]);
    this.#reverse = gauge(
      "go_build_coordinator_reverse_buildlets_count",
      "Connected reverse buildlets, under upstream's name",
      ["host_type"],
    );
    this.#missing = gauge(
      "barnraiser_machines_missing",
      "Machines that should be connected and are not, without those that are drained",
      ["host_type"],
    );
    this.#builds = gauge("barnraiser_builds_open", "Builds that have not ended", ["state"]);
    this.#waiting = gauge("barnraiser_queue_waiting", "Leases wanted", ["queue"]);
    this.#oldest = gauge("barnraiser_queue_oldest_seconds", "How long the oldest wanted lease has waited", ["queue"]);
    this.#ended = new Counter({
      name: "barnraiser_builds_ended_total",
      help: "Builds that ended on machines of this coordinator",
      labelNames: ["outcome", "host_type"],
      registers,
    });
    this.#took = new Histogram({
      name: "barnraiser_build_duration_seconds",
      help: "From a build's first command to its end",
      labelNames: ["builder", "outcome"],
      buckets: [0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200],
      registers,
    });
    this.#waited = new Histogram({
      name: "barnraiser_dispatch_seconds",
      help: "From a lease being wanted to a machine holding it",
      labelNames: ["host_type"],
      buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1200, 3600],
      registers,
    });
    gauge("barnraiser_info", "Always 1", ["version"]).set({ version: deps.version }, 1);
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The metrics as text. Scrapes at the same time share one answer, so nothing is counted twice. */
  text(now: EpochMs): Promise<string> {
    this.#scrape ??= this.#read(now).finally(() => {
      this.#scrape = undefined;
    });
    return this.#scrape;
  }

  async #read(now: EpochMs): Promise<string> {
    const { sql } = this.#deps;
    const [types, expected, sessions, open, queues] = await Promise.all([
      hostTypes(sql),
      expectedMachines(sql),
      connected(sql),
      openBuilds(sql),
      queueLengths(sql),
    ]);
    for (const gauge of [this.#machines, this.#reverse, this.#missing, this.#waiting, this.#oldest]) gauge.reset();
    for (const type of types) {
      const host_type = type.name;
      const mine = sessions.filter((s) => s.hostType === host_type);
      const busy = mine.filter((s) => s.heldAt !== null).length;
      this.#machines.set({ host_type, state: "busy" }, busy);
      this.#machines.set({ host_type, state: "idle" }, mine.length - busy);
      this.#reverse.set({ host_type }, mine.length);
      const wanted = expected.find((each) => each.hostType === host_type);
      this.#missing.set({ host_type }, wanted ? Math.max(0, wanted.expect - wanted.connected) : 0);
      const queue = queues.find((q) => q.queue === host_type);
      this.#waiting.set({ queue: host_type }, queue?.waiting ?? 0);
      this.#oldest.set({ queue: host_type }, queue ? Math.max(0, (now - queue.oldest) / 1000) : 0);
    }
    this.#builds.set({ state: "running" }, open.running);
    this.#builds.set({ state: "scheduled" }, open.scheduled);
    await this.#count();
    return this.#registry.metrics();
  }

  async #count(): Promise<void> {
    for (;;) {
      const rows = await endedSince(this.#deps.sql, this.#deps.coordinator, this.#from.at, this.#from.id, AT_ONCE);
      for (const row of rows) {
        this.#ended.inc({ outcome: row.outcome, host_type: row.hostType });
        if (row.tookMs !== null) this.#took.observe({ builder: row.builder, outcome: row.outcome }, row.tookMs / 1000);
        if (row.waitMs !== null) this.#waited.observe({ host_type: row.hostType }, row.waitMs / 1000);
        this.#from = { at: new Date(row.endedAt), id: row.id };
      }
      if (rows.length < AT_ONCE) return;
    }
  }
}

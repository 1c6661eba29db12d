/**
 * The life of a build, from a held lease to a verdict.
 *
 *   start(lease)   begin in the database, or go on from where it stands there; drive the machine (drive.ts); end in the database, or
 *                  park the lease when the machine or this coordinator goes away; give the machine back
 *   cancel         ends the build in the database, then tells whoever runs it (topic `cancel:ID`) to stop
 *   rebuild        a further build of the same commit by the same recipe
 *
 * The database decides. Every write is conditional on the attempt still being open there and on the epoch of its lease, so whatever
 * this process still believes, nothing is counted twice. An infra failure is tried again INFRA_RETRIES times, elsewhere first; an attempt that the farm's own restart
 * ended is not charged, up to MAX_ATTEMPTS in all. While the database is away a command goes on, its log fills its buffers
 * and then holds the machine back, and the end is written when the database is there again.
 *
 * A machine is given back (`release`) after its lease ended in the database, always, and exactly once per lease. One whose lease is parked
 * is not: it is gone, or we are about to let it go, and nothing may touch what it runs.
 */
import type { Readable } from "node:stream";
import { INFRA_RETRIES } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import {
  type BuildId,
  type CoordinatorId,
  type LeaseId,
  type Ms,
  minutes,
  ms,
  plus,
  type SessionId,
  seconds,
} from "../farm/ids.ts";
import type { Lease, LeaseKind } from "../farm/lease.ts";
import type { Logs } from "../logs/logs.ts";
import type { LogWriter } from "../logs/writer.ts";
import { rankOf, starvesAt } from "../schedule/order.ts";
import {
  type Begun,
  beginAttempt,
  endAttempt,
  endLeftLog,
  type GiveUp,
  giveUpAttempt,
  nextStep,
  type RetryPolicy,
} from "../store/attempts.ts";
import { type BuildRef, cancelBuild, insertRebuild } from "../store/builds.ts";
import { endLease, goesOnElsewhere, heldLeases, lostLeases, parkLease } from "../store/leases.ts";
import { emptyLog, type OpenLog } from "../store/logs.ts";
import { patiently } from "../store/patience.ts";
import { layOutAttempt } from "../store/snapshots.ts";
import type { Sql } from "../store/sql.ts";
import type { HelperJob } from "../store/tests.ts";
import { drive, type Finished } from "./drive.ts";
import { help } from "./help.ts";
import type { BuildMachine } from "./machine.ts";
import type { Snapshots } from "./snapshots.ts";
import { clean } from "./source-step.ts";
import { type TestsOfDeps, testsDeps, testsOf } from "./tests-of.ts";

export const MAX_ATTEMPTS = 20;
/** How often the database is asked whether what runs here is still wanted, and whether a lease got lost on its way here. */
export const CHECK_EVERY: Ms = seconds(10);
const LOST_AFTER: Ms = seconds(20);
/** How long what a machine runs is waited for when its connection or its coordinator is gone. */
export const PARK_FOR: Ms = minutes(5);
/** What `start` works off. */
const KINDS: readonly LeaseKind[] = ["build", "helper"];

export const RETRY_POLICY: RetryPolicy = {
  retries: INFRA_RETRIES,
  attempts: MAX_ATTEMPTS,
  elsewhereFirst: seconds(60),
  pause: (failed) => seconds(2 ** failed),
};

export interface BuildsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly logs: Pick<Logs, "writer" | "read">;
  readonly coordinator: CoordinatorId;
  readonly machine: (session: SessionId) => BuildMachine | undefined;
  /** The machine is not used any more over this session: clean it for the next build, drop it, or only forget the session. */
  readonly release: (session: SessionId, how: "clean" | "broken" | "elsewhere") => Promise<void>;
  /** The tree of a commit as a gzipped tar. */
  readonly tarball: (repo: string, hash: string, signal: AbortSignal) => Promise<Readable>;
  /** The trees of builds with tests, for whoever helps with them. */
  readonly snapshots: Pick<Snapshots, "keep" | "find" | "about" | "restore" | "writeOther">;
  readonly policy?: RetryPolicy;
  /** How long a failed test waits for another machine. */
  readonly elsewhereFirst?: Ms;
  readonly parkFor?: Ms;
}

interface Running {
  readonly lease: Lease;
  readonly stop: AbortController;
  begun: Begun | undefined;
  /** The build that a helper helps, once that is known. */
  helps?: BuildId;
  done: Promise<void>;
}

export class Builds implements AsyncDisposable {
  readonly #deps: BuildsDeps;
  readonly #policy: RetryPolicy;
  readonly #running = new Map<LeaseId, Running>();
  readonly #stop = new AbortController();
  readonly #checks: Promise<void>;

  constructor(deps: BuildsDeps) {
    this.#deps = deps;
    this.#policy = deps.policy ?? RETRY_POLICY;
    deps.bus.subscribe("cancel:", (topic) => this.#canceled(topic), this.#stop.signal);
    this.#checks = this.#check();
  }

  /** How many attempts run here. */
  get running(): number {
    return this.#running.size;
  }

  /**
   * Works off a lease that was just claimed or adopted. A second call for the same epoch of a lease changes nothing; one for a later
   * epoch (the machine came back before we knew that it was gone) ends the work of the earlier first.
   */
  start(lease: Lease): void {
    const earlier = this.#running.get(lease.id);
    if (earlier && earlier.lease.epoch >= lease.epoch) return;
    const running: Running = { lease, stop: new AbortController(), begun: undefined, done: Promise.resolve() };
    this.#running.set(lease.id, running);
    if (this.#stop.signal.aborted) running.stop.abort(stopping());
    earlier?.stop.abort(new FarmError("lease-lost", "its machine came back over another connection"));
    running.done = (earlier ? earlier.done.then(() => this.#run(running)) : this.#run(running))
      .catch((error: unknown) => {
        this.#deps.log.error(
          { lease: lease.id, error: messageOf(error) },
          "Could not end an attempt; it is left to recovery",
        );
      })
      .finally(() => {
        if (this.#running.get(lease.id) === running) this.#running.delete(lease.id);
      });
  }

  /** A further build of the same commit, asked for by `who`; the one that is open already when there is one. Throws `not-found`. */
  async rebuild(of: BuildId, who: string): Promise<BuildId> {
    const now = this.#deps.clock.now();
    const rank = rankOf("try", now, now);
    const rebuild = { of, who, class: "try", rank, starvesAt: starvesAt("try", now) } as const;
    const { build, made } = await insertRebuild(this.#deps.sql, rebuild, now);
    if (made) this.#publish(build, true);
    return build.id;
  }

  /**
   * Ends a build that is open, for `who`; a command that runs is stopped and its machine freed. False: it had ended already. Throws
   * `not-found`.
   */
  async cancel(id: BuildId, who: string): Promise<boolean> {
    const { build, changed } = await cancelBuild(this.#deps.sql, id, who, this.#deps.clock.now());
    if (!changed) return false;
    this.#deps.bus.publish(`cancel:${id}`);
    this.#publish(build, false);
    return true;
  }

  /** Stops driving everything that runs: parked where the machine resumes, else wanted again at once, by whichever coordinator. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(stopping());
    const running = [...this.#running.values()];
    for (const each of running) each.stop.abort(stopping());
    await Promise.all([this.#checks, ...running.map((each) => each.done)]);
  }

  async #run(running: Running): Promise<void> {
    if (running.lease.kind === "helper") return this.#help(running);
    const { clock, sql, log, logs, tarball, snapshots } = this.#deps;
    const { lease, stop } = running;
    const machine = this.#deps.machine(lease.sessionId);
    // What an adopted machine runs must go on; a machine just claimed is emptied while the database is told.
    const cleaned = machine && lease.epoch === 1 ? clean(clock, machine, stop.signal) : undefined;
    let how: "clean" | "broken" | "elsewhere" | "parked" = "clean";
    try {
      const begun = await this.#patiently(() => beginAttempt(sql, lease, clock.now()));
      if (!begun) {
        if (await this.#isElsewhere(lease)) {
          how = "elsewhere";
          return;
        }
        await this.#patiently(() => endLease(sql, lease, clock.now(), "nobody needs it any more"));
        await (cleaned ?? (machine && clean(clock, machine, stop.signal)))?.catch(() => {
          how = "broken";
        });
        return;
      }
      running.begun = begun;
      this.#publish(begun.build, false);
      if (!machine) {
        const reason = "machine gone: it hung up before the build began";
        const none = { reason, counts: true, machineFault: false, end: undefined };
        if (!(await this.#park(lease, begun, reason))) await this.#giveUp(lease, begun, none);
        return;
      }
      this.#deps.bus.publish(`machine:${machine.machineId}`);
      const deps = {
        clock,
        tarball,
        writeOther: this.#deps.snapshots.writeOther.bind(this.#deps.snapshots),
        writer: logs.writer.bind(logs),
        tests: (number: number, own: OpenLog, writer: LogWriter, signal: AbortSignal) =>
          testsOf(this.#testsDeps(), lease, begun, machine, { number, log: own, writer }, signal),
        snapshots: {
          find: (of: Begun) => this.#patiently(() => snapshots.find(of)),
          about: snapshots.about.bind(snapshots),
          restore: snapshots.restore.bind(snapshots),
        },
        layOut: async (from: "source" | "snapshot") => {
          const at = { attempt: begun.attempt, epoch: lease.epoch };
          const steps = begun.recipe.steps.map(({ name }) => name);
          const live = await this.#patiently(() => layOutAttempt(sql, at, from, steps));
          if (!live) throw new FarmError("lease-lost", "the build was taken back");
          this.#deps.bus.publish(`build:${begun.build.id}`);
        },
        next: async (number: number, status: string, end: Parameters<typeof nextStep>[2]) => {
          const step = { attempt: begun.attempt, epoch: lease.epoch, number, status, outcome: "success" } as const;
          const next = await this.#patiently(() => nextStep(sql, step, end, clock.now()));
          if (next === undefined) {
            if (end) await this.#patiently(() => endLeftLog(sql, begun.attempt, end));
            throw new FarmError("lease-lost", "the build was taken back");
          }
          this.#deps.bus.publish(`build:${begun.build.id}`);
          return emptyLog(next, lease.epoch);
        },
      };
      const driven = await drive(deps, begun, machine, cleaned, stop.signal);
      if (driven.outcome === "parked") {
        how = "parked";
        await this.#park(lease, begun, driven.reason);
      } else {
        how = driven.machineFine ? "clean" : "broken";
        const live = await this.#end(lease, begun, driven, stop.signal);
        if (!live && (await this.#isElsewhere(lease))) how = "elsewhere";
      }
      this.#deps.bus.publish(`machine:${machine.machineId}`);
    } finally {
      if (how !== "parked") {
        await this.#deps.release(lease.sessionId, how).catch((error: unknown) => {
          log.warn({ session: lease.sessionId, error: messageOf(error) }, "Could not give a machine back");
        });
      }
    }
  }

  /** A further machine for the tests of a build that another lease is for. */
  async #help(running: Running): Promise<void> {
    const { clock, sql, bus, log, snapshots, parkFor = PARK_FOR } = this.#deps;
    const { lease, stop } = running;
    const machine = this.#deps.machine(lease.sessionId);
    let how: "clean" | "broken" | "elsewhere" | "parked" = "broken";
    const told = ({ build }: HelperJob): void => {
      running.helps = build.id;
      bus.publish(`build:${build.id}`);
      if (machine) bus.publish(`machine:${machine.machineId}`);
    };
    try {
      const gone = { reason: "machine gone: it hung up before it could help", parked: true } as const;
      const deps = { ...testsDeps(this.#testsDeps()), snapshots };
      const helped = machine ? await help(deps, lease, machine, told, stop.signal) : gone;
      if (!helped.parked) how = helped.machineFine ? "clean" : "broken";
      const parked = helped.parked && (await this.#patiently(() => parkLease(sql, lease, plus(clock.now(), parkFor))));
      if (parked) how = "parked";
      else if (await this.#isElsewhere(lease)) how = "elsewhere";
      else await this.#patiently(() => endLease(sql, lease, clock.now(), helped.reason));
      log.info({ build: running.helps, machine: machine?.name, reason: helped.reason, parked }, "A helper ended");
      if (running.helps) bus.publish(`tests:${running.helps}`);
      if (machine) bus.publish(`machine:${machine.machineId}`);
    } finally {
      if (how !== "parked") {
        await this.#deps.release(lease.sessionId, how).catch((error: unknown) => {
          log.warn({ session: lease.sessionId, error: messageOf(error) }, "Could not give a machine back");
        });
      }
    }
  }

  #testsDeps(): TestsOfDeps {
    return { ...this.#deps, patiently: (call) => this.#patiently(call) };
  }

  /** False: its machine is none that comes back with what it ran. */
  async #park(lease: Lease, { build, attempt }: Begun, reason: string): Promise<boolean> {
    const { sql, clock, log, parkFor = PARK_FOR } = this.#deps;
    const parked = await this.#patiently(() => parkLease(sql, lease, plus(clock.now(), parkFor)));
    if (!parked) return false;
    log.info({ build: build.id, attempt, reason }, "An attempt waits for its machine to come back");
    this.#publish(build, false);
    return true;
  }

  /** The machine came back with what it runs over another session: nothing may be done to it over ours, which is dead. */
  #isElsewhere(lease: Lease): Promise<boolean> {
    return this.#patiently(() => goesOnElsewhere(this.#deps.sql, lease));
  }

  /** Returns whether the attempt was still ours. */
  async #end(lease: Lease, begun: Begun, driven: Finished, stopped: AbortSignal): Promise<boolean> {
    const { sql, clock } = this.#deps;
    const { outcome, reason, sealed, step } = driven;
    // If the attempt was ended by somebody else, the bytes still belong to its log; if it goes on elsewhere, they are fetched there.
    const store = async (live: boolean): Promise<boolean> => {
      const left = live ? undefined : sealed;
      if (live || (left && (await this.#patiently(() => endLeftLog(sql, begun.attempt, left.end))))) sealed?.stored();
      return live;
    };
    if (driven.settled) return await store(false);
    if (outcome === "infra_failure") {
      const counts = !(stopped.aborted && stopped.reason instanceof FarmError && stopped.reason.code === "unavailable");
      const machineFault = counts && !driven.machineFine;
      const given = { reason: reason ?? "", counts, machineFault, end: sealed?.end };
      return await store(await this.#giveUp(lease, begun, given));
    }
    const verdict = { outcome, reason, failedStep: outcome === "failure" ? step.name : null };
    const { attempt } = begun;
    const end = { attempt, epoch: lease.epoch, number: step.number, status: step.status, outcome };
    const now = clock.now();
    const live = await this.#patiently(() => endAttempt(sql, end, sealed?.end, verdict, now));
    if (live) this.#publish(begun.build, false);
    return await store(live);
  }

  /** Returns whether the attempt was still open. */
  async #giveUp(
    { epoch }: Lease,
    { build, attempt }: Begun,
    why: Pick<GiveUp, "reason" | "counts" | "machineFault" | "end">,
  ): Promise<boolean> {
    const { sql, clock } = this.#deps;
    const now = clock.now();
    const giveUp = { attempt, epoch, by: "driver", ...why } as const;
    const given = await this.#patiently(() => giveUpAttempt(sql, giveUp, this.#policy, now));
    if (!given) return false;
    this.#deps.log.info(
      { build: build.id, attempt: giveUp.attempt, reason: giveUp.reason, again: given.again },
      "An attempt failed for the farm's own reasons",
    );
    this.#publish(build, given.again);
    return true;
  }

  /** Tells all who look at a build that it changed, and with `wanted` the machines that may take it. */
  #publish(build: BuildRef, wanted: boolean): void {
    publishBuild(this.#deps.bus, build, wanted);
  }

  #canceled(topic: string): void {
    const id = topic.slice("cancel:".length);
    for (const { begun, helps, stop } of this.#running.values()) {
      if (String(begun?.build.id ?? helps) === id) stop.abort(new FarmError("canceled", "canceled"));
    }
  }

  /** A word may get lost, and so may the answer to a claim: look by ourselves now and then. */
  async #check(): Promise<void> {
    const { sql, clock, log, coordinator } = this.#deps;
    while (!this.#stop.signal.aborted) {
      await clock.sleep(CHECK_EVERY, this.#stop.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        const running = [...this.#running.values()];
        const lost = new Set(
          running.length === 0
            ? []
            : await lostLeases(
                sql,
                running.map((each) => each.lease),
              ),
        );
        for (const { lease, stop } of running) {
          if (lost.has(lease.id)) stop.abort(new FarmError("lease-lost", "the build was taken back"));
        }
        const before = plus(clock.now(), ms(-LOST_AFTER));
        for (const lease of await heldLeases(sql, coordinator, KINDS, before)) this.start(lease);
      } catch (error) {
        log.warn({ error: messageOf(error) }, "Could not check what runs here");
      }
    }
  }

  /** The database may be away for longer than one call waits; what happened is not forgotten meanwhile. */
  #patiently<T>(call: () => Promise<T>): Promise<T> {
    return patiently(call, this.#deps.clock, this.#stop.signal);
  }
}

function stopping(): FarmError {
  return new FarmError("unavailable", "the coordinator was stopped");
}

/** The topics of a build that changed; with `wanted` also its queue. */
export function publishBuild(bus: Pick<Bus, "publish">, build: BuildRef, wanted: boolean): void {
  bus.publish(`build:${build.id}`);
  bus.publish(`grid:${build.repo}`);
  if (wanted) bus.publish(`queue:${build.hostType}`);
}

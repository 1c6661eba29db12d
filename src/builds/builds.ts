/**
 * The life of a build, from a held lease to a verdict.
 *
 *   start(lease)   begins in the database, or goes on from where it stands there; drives the machine (attempt.ts,
 *                  drive.ts); ends in the database, or parks the lease when the machine or this coordinator goes away;
 *                  gives the machine back
 *   cancel         ends the build in the database, then tells the coordinator that runs it to stop (topic `cancel:ID`)
 *   rebuild        makes a further build of the same commit by the same recipe
 *
 * The database decides. Every write requires that the attempt is still open there, and under the same epoch of its
 * lease. So nothing is counted twice, whatever this process still believes.
 *
 * An infra failure is tried again INFRA_RETRIES times, elsewhere first. An attempt is not charged if the farm's own
 * restart ended it, or its machine was unfit for more tests. A build has MAX_ATTEMPTS in all.
 *
 * While the database is away a command goes on. Its log fills its buffers, and then holds the machine back. The end is
 * written when the database is there again.
 *
 * A machine is given back (`release`) exactly once per epoch of a lease: after the lease ended in the database or, when
 * that could not be stored, by closing the machine's session. A machine whose lease is parked is not given back. It is
 * gone, or we are about to let it go, and nothing may touch what it runs.
 */
import { INFRA_RETRIES } from "../farm/build.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { every } from "../farm/every.ts";
import { type BuildId, type CoordinatorId, type Ms, ms, plus, type SessionId, seconds } from "../farm/ids.ts";
import type { Lease, LeaseKind } from "../farm/lease.ts";
import { type LeaseWork, LeaseWorks } from "../schedule/lease-works.ts";
import { rankOf, starvesAt } from "../schedule/order.ts";
import type { RetryPolicy } from "../store/attempts.ts";
import { cancelBuild, insertRebuild } from "../store/builds.ts";
import type { HelperJob } from "../store/helper-leases.ts";
import { goesOnElsewhere, heldLeases, lostLeases } from "../store/leases.ts";
import { parkLease } from "../store/parked-leases.ts";
import { patiently } from "../store/patience.ts";
import { endHelper } from "../store/set-aside.ts";
import { type AttemptDeps, type Back, emptied, workOnAttempt } from "./attempt.ts";
import { takenBack } from "./broken-off.ts";
import { help, wantHelper } from "./help.ts";
import type { BuildMachine } from "./machine.ts";
import { CANCEL, publishBuild, publishEnded } from "./publish.ts";
import { testsDeps } from "./tests-of.ts";
import { Turns } from "./turns.ts";

const MAX_ATTEMPTS = 20;
/** How often we ask the database whether what runs here is still wanted, and whether a lease got lost on its way. */
export const CHECK_EVERY: Ms = seconds(10);
const LOST_AFTER: Ms = seconds(20);
/** The kinds of leases that `start` works off. */
const KINDS: readonly LeaseKind[] = ["build", "helper"];

export const RETRY_POLICY: RetryPolicy = {
  retries: INFRA_RETRIES,
  attempts: MAX_ATTEMPTS,
  elsewhereFirst: seconds(60),
  pause: (failed) => seconds(2 ** failed),
};

export interface BuildsDeps extends Omit<AttemptDeps, "policy" | "patiently" | "turns" | "stopping"> {
  readonly coordinator: CoordinatorId;
  readonly machine: (session: SessionId) => BuildMachine | undefined;
  /** Called when the machine is not used any more over this session, with what is to be done with it. */
  readonly release: (session: SessionId, how: Exclude<Back, "parked">) => Promise<void>;
  readonly policy?: RetryPolicy;
}

export interface Rebuilt {
  readonly build: BuildId;
  readonly made: boolean;
}

/** Work on a lease, about its build once that is known. */
type Work = LeaseWork<BuildId>;

export class Builds implements AsyncDisposable {
  readonly #deps: BuildsDeps & AttemptDeps;
  readonly #works: LeaseWorks<BuildId>;
  readonly #checks: Promise<void>;

  constructor(deps: BuildsDeps) {
    this.#works = new LeaseWorks({
      run: (work) => this.#run(work),
      failed: ({ id }, error) =>
        deps.log.error({ lease: id, error: messageOf(error) }, "Could not end an attempt; it is left to recovery"),
      stopping: () => new FarmError("unavailable", "the coordinator was stopped"),
    });
    const { stopping } = this.#works;
    this.#deps = {
      policy: RETRY_POLICY,
      ...deps,
      // The database may be away for longer than one call waits. What happened must not be lost then.
      patiently: (call) => patiently(call, deps.clock, stopping),
      turns: new Turns(),
      stopping,
    };
    deps.bus.subscribe(CANCEL, (topic) => this.#canceled(topic), stopping);
    this.#checks = every(CHECK_EVERY, () => this.#check(), "Could not check what runs here", deps, stopping);
  }

  /** How many attempts run here. */
  get running(): number {
    return this.#works.all.length;
  }

  /**
   * Works off a lease that was just claimed or adopted. A second call for the same epoch of a lease changes nothing.
   * One for a later epoch ends the work of the earlier first: the machine came back before we knew that it was gone.
   */
  start(lease: Lease): void {
    this.#works.start(lease);
  }

  /** Makes a further build of the same commit, for `who`. Not `made`: one is open already. Throws `not-found`. */
  async rebuild(of: BuildId, who: string): Promise<Rebuilt> {
    const now = this.#deps.clock.now();
    const rank = rankOf("try", now, now);
    const rebuild = { of, who, class: "try", rank, starvesAt: starvesAt("try", now) } as const;
    const { build, made } = await insertRebuild(this.#deps.sql, rebuild, now);
    if (made) publishBuild(this.#deps.bus, build, true);
    return { build: build.id, made };
  }

  /**
   * Ends an open build, for `who`. A command of it that runs is stopped, and its machine is freed. False: the build had
   * ended already. Throws `not-found`.
   */
  async cancel(id: BuildId, who: string): Promise<boolean> {
    const { build, changed } = await cancelBuild(this.#deps.sql, id, who, this.#deps.clock.now());
    if (!changed) return false;
    this.#deps.log.info({ build: id, builder: build.builder, who }, "A build was canceled");
    publishEnded(this.#deps.bus, build);
    return true;
  }

  /** Stops driving all that runs: parked where the machine resumes, else wanted again at once, by any coordinator. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#works[Symbol.asyncDispose]();
    await this.#checks;
  }

  async #run(work: Work): Promise<void> {
    const { log, machine, release } = this.#deps;
    const { sessionId, kind } = work.lease;
    // Unless all goes well, the session is closed: the machine comes back with what it runs, and gets its lease again.
    let back: Back = "elsewhere";
    try {
      const taken = machine(sessionId);
      back = await (kind === "helper" ? this.#help(work, taken) : this.#attempt(work, taken));
    } finally {
      if (back !== "parked") {
        await release(sessionId, back).catch((error: unknown) => {
          log.warn({ session: sessionId, error: messageOf(error) }, "Could not give a machine back");
        });
      }
    }
  }

  #attempt(work: Work, machine: BuildMachine | undefined): Promise<Back> {
    const began = ({ build }: { readonly build: { readonly id: BuildId } }): void => {
      work.about = build.id;
    };
    return workOnAttempt(this.#deps, work.lease, machine, began, work.stop.signal);
  }

  /** Works off the lease of a helper: a further machine for the tests of a build that has a lease of its own. */
  async #help(work: Work, machine: BuildMachine | undefined): Promise<Back> {
    const { clock, sql, bus, log, snapshots, patiently } = this.#deps;
    const { lease, stop } = work;
    let job: HelperJob | undefined;
    const told = (known: HelperJob): void => {
      const { build } = known;
      job = known;
      work.about = build.id;
      bus.publish(`build:${build.id}`);
      if (machine) bus.publish(`machine:${machine.machineId}`);
    };
    const gone = { reason: "machine gone: it closed the connection before it could help", parked: true } as const;
    const deps = { ...testsDeps(this.#deps), snapshots };
    const helped = machine ? await help(deps, lease, machine, told, stop.signal) : gone;
    let back: Back = helped.parked || !helped.machineFine ? "broken" : "clean";
    const parked = helped.parked && (await patiently(() => parkLease(sql, lease, clock.now())));
    if (parked) back = "parked";
    else if (await patiently(() => goesOnElsewhere(sql, lease))) back = "elsewhere";
    else {
      const fault = helped.parked ? undefined : helped.fault;
      await patiently(() => endHelper(sql, lease, fault, helped.reason, clock.now()));
      const failed = fault === undefined ? undefined : job;
      if (failed) await patiently(() => wantHelper(deps, failed, lease));
    }
    log.info({ build: work.about, machine: machine?.name, reason: helped.reason, parked }, "A helper ended");
    if (!helped.parked && helped.verdict) {
      log.info(
        { build: work.about, builder: job?.build.builder, machine: machine?.name, ...helped.verdict },
        "A build ended",
      );
    }
    if (machine && back === "clean" && !helped.parked && helped.mayRun) back = await emptied(this.#deps, machine);
    if (work.about) bus.publish(`tests:${work.about}`);
    if (machine) bus.publish(`machine:${machine.machineId}`);
    return back;
  }

  #canceled(topic: string): void {
    const id = topic.slice(CANCEL.length);
    for (const { about: build, stop } of this.#works.all) {
      if (String(build) === id) stop.abort(new FarmError("canceled", "canceled"));
    }
  }

  /** A word from another coordinator may get lost, and so may the answer to a claim: so we look now and then. */
  async #check(): Promise<void> {
    const { sql, clock, coordinator } = this.#deps;
    const works = this.#works.all;
    const leases = works.map((each) => each.lease);
    const lost = new Set(leases.length === 0 ? [] : await lostLeases(sql, leases));
    for (const { lease, stop } of works) {
      if (lost.has(lease.id)) stop.abort(takenBack());
    }
    const before = plus(clock.now(), ms(-LOST_AFTER));
    for (const lease of await heldLeases(sql, coordinator, KINDS, before)) this.start(lease);
  }
}

/**
 * Works off the lease of one attempt: reads where the attempt stands, drives the machine, stores the result, decides
 * what happens to the machine.
 *
 *   held -nobody needs it any more-> ended           canceled before it began; the machine is emptied
 *   held -no machine, nothing had begun-> given up   while the lease was on its way here, the machine hung up or left
 *                                                    for a newer program; not charged to the budget of tries
 *   held -no machine-> parked                        until the machine comes back with what it runs
 *   held -driven (drive.ts)-> ended, given up or parked
 *
 * Whether the machine is emptied first depends on where the attempt stands in the database, never on how the lease came
 * here: an attempt that goes on needs what is there. Only under a lease that was just wanted nothing can have begun.
 * Then the machine is emptied while the beginning is still being stored.
 *
 * What may still run on the machine for nobody is ended before the machine is given back: emptying it ends all.
 */
import type { Readable } from "node:stream";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import type { Ms } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import type { Logs } from "../logs/logs.ts";
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
import { endLease, goesOnElsewhere, sessionHolds } from "../store/leases.ts";
import { emptyLog } from "../store/logs.ts";
import { parkLease } from "../store/parked-leases.ts";
import { layOutAttempt } from "../store/snapshots.ts";
import type { Sql } from "../store/sql.ts";
import { abortedWith, takenBack } from "./broken-off.ts";
import { type DriveDeps, drive, type Finished } from "./drive.ts";
import type { BuildMachine } from "./machine.ts";
import { publishBuild, publishTestsOver } from "./publish.ts";
import type { Snapshots } from "./snapshots.ts";
import { clean } from "./source-step.ts";
import { testsOf } from "./tests-of.ts";
import type { Turns } from "./turns.ts";

export interface AttemptDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly logs: Pick<Logs, "writer" | "read">;
  /** The tree of a commit as a gzipped tar. */
  readonly tarball: (repo: string, hash: string, signal: AbortSignal) => Promise<Readable>;
  /** The kept trees of builds with tests, from which helpers start. */
  readonly snapshots: Pick<Snapshots, "keep" | "find" | "about" | "restore" | "writeOther">;
  readonly policy: RetryPolicy;
  /** How long a failed test waits for another machine. */
  readonly elsewhereFirst?: Ms;
  /** Calls until the database is there, or this coordinator stops. */
  readonly patiently: <T>(call: () => Promise<T>) => Promise<T>;
  readonly turns: Turns;
  readonly stopping: AbortSignal;
}

/**
 * What is to be done with a machine after its lease:
 *
 *   clean       clean it for the next build
 *   broken      drop it
 *   kept        leave it as it is, for the person who keeps it
 *   elsewhere   only forget its session
 *   parked      nothing: it may come back with what it runs
 */
export type Back = "clean" | "broken" | "kept" | "elsewhere" | "parked";

/** `began` is called once it is known which build it is. Rejects when the result could not be stored. */
export async function workOnAttempt(
  deps: AttemptDeps,
  lease: Lease,
  machine: BuildMachine | undefined,
  began: (begun: Begun) => void,
  signal: AbortSignal,
): Promise<Back> {
  const { sql, bus, clock, log, patiently } = deps;
  const cleaning = lease.anew && machine ? clean(clock, machine, signal) : undefined;
  cleaning?.catch(() => {}); // step 0 waits for it, and fails with it
  const begun = await patiently(() => beginAttempt(sql, lease, clock.now()));
  if (!begun) {
    if (await isElsewhere(deps, lease)) return "elsewhere";
    await patiently(() => endLease(sql, lease, clock.now(), "nobody needs it any more"));
    return machine ? await emptied(deps, machine) : "clean";
  }
  began(begun);
  publishBuild(bus, begun.build, false);
  if (!machine) return await withoutMachine(deps, lease, begun);
  bus.publish(`machine:${machine.machineId}`);
  const first = begun.at === 0 && begun.log?.length === 0;
  log.info(about(begun, machine), first ? "A build began" : "A build goes on");
  const driven = await drive(driveDeps(deps, lease, begun, machine, cleaning), begun, machine, signal);
  if (driven.outcome === "parked") await park(deps, lease, begun, machine, driven.reason);
  const back = driven.outcome === "parked" ? "parked" : await ended(deps, lease, begun, machine, driven, signal);
  bus.publish(`machine:${machine.machineId}`);
  return back;
}

async function withoutMachine(deps: AttemptDeps, lease: Lease, begun: Begun): Promise<Back> {
  const reason = "machine gone: it closed the connection before the build began";
  const anything = begun.at > 0 || begun.log === undefined || begun.log.length > 0;
  if (anything && (await park(deps, lease, begun, undefined, reason))) return "parked";
  await giveUp(deps, lease, begun, undefined, { reason, counts: anything, machineFault: false, end: undefined });
  return "clean";
}

function driveDeps(
  deps: AttemptDeps,
  lease: Lease,
  begun: Begun,
  machine: BuildMachine,
  cleaning: Promise<void> | undefined,
): DriveDeps {
  const { sql, bus, clock, logs, snapshots, tarball, patiently } = deps;
  const { epoch } = lease;
  const { attempt, build, recipe } = begun;
  return {
    clock,
    cleaning,
    tarball,
    writeOther: snapshots.writeOther.bind(snapshots),
    writer: logs.writer.bind(logs),
    tests: (at, stop) => testsOf(deps, lease, begun, machine, at, stop),
    snapshots: {
      find: (of) => patiently(() => snapshots.find(of)),
      about: snapshots.about.bind(snapshots),
      restore: snapshots.restore.bind(snapshots),
    },
    layOut: async (from) => {
      const steps = recipe.steps.map(({ name }) => name);
      const live = await patiently(() => layOutAttempt(sql, { attempt, epoch }, from, steps));
      if (!live) throw takenBack();
      bus.publish(`build:${build.id}`);
    },
    next: async (number, status, end) => {
      const step = { attempt, epoch, number, status, outcome: "success" } as const;
      const next = await patiently(() => nextStep(sql, step, end, clock.now()));
      if (next === undefined) {
        await patiently(() => endLeftLog(sql, attempt, end));
        throw takenBack();
      }
      bus.publish(`build:${build.id}`);
      return emptyLog(next, epoch);
    },
  };
}

/** Stores how the attempt went, and decides what happens to the machine. */
async function ended(
  deps: AttemptDeps,
  lease: Lease,
  begun: Begun,
  machine: BuildMachine,
  driven: Finished,
  signal: AbortSignal,
): Promise<Back> {
  const { sealed } = driven;
  const live = !driven.settled && (await stored(deps, lease, begun, machine, driven));
  // If others have ended the attempt, its log still needs these bytes. If it goes on elsewhere, they are read there.
  const left = live ? undefined : sealed;
  if (live || driven.settled) logEnd(deps, begun, machine, driven);
  if (live || (left && (await deps.patiently(() => endLeftLog(deps.sql, begun.attempt, left.end))))) sealed?.stored();
  if (!live && (await isElsewhere(deps, lease))) return "elsewhere";
  if (!driven.machineFine) return "broken";
  if (driven.outcome === "failure" && (await deps.patiently(() => sessionHolds(deps.sql, lease.sessionId))))
    return "kept";
  // A command that is canceled is killed at once (command-run.ts). One that we only stopped following is not.
  const mayRun = driven.outcome === "infra_failure" && machine.resumes && !abortedWith(signal, "canceled");
  return mayRun ? await emptied(deps, machine) : "clean";
}

/** Logs the end of an attempt. One that failed for the farm's own reasons is logged by giveUp(). */
function logEnd({ clock, log }: AttemptDeps, begun: Begun, machine: BuildMachine, { outcome, reason }: Finished): void {
  if (outcome === "infra_failure") return;
  const tookMs = clock.now() - begun.startedAt;
  log.info({ ...about(begun, machine), outcome, ...(reason !== null && { reason }), tookMs }, "A build ended");
}

/** Which build the attempt is for, and on which machine, for our own log. */
function about({ build, number }: Begun, machine: BuildMachine | undefined): object {
  return { build: build.id, builder: build.builder, attempt: number, machine: machine?.name };
}

/** Returns whether the attempt was still ours. */
async function stored(
  deps: AttemptDeps,
  lease: Lease,
  begun: Begun,
  machine: BuildMachine,
  { outcome, reason, sealed, step, machineFine, uncharged }: Finished,
): Promise<boolean> {
  const { sql, bus, clock, patiently } = deps;
  if (outcome === "infra_failure") {
    const counts = !uncharged;
    const machineFault = counts && !machineFine;
    return await giveUp(deps, lease, begun, machine, { reason: reason ?? "", counts, machineFault, end: sealed?.end });
  }
  const verdict = { outcome, reason, failedStep: outcome === "failure" ? step.name : null };
  const end = { attempt: begun.attempt, epoch: lease.epoch, number: step.number, status: step.status, outcome };
  const now = clock.now();
  const hasTests = begun.recipe.tests !== undefined;
  const live = await patiently(() => endAttempt(sql, end, sealed?.end, verdict, hasTests, now));
  if (live) publishBuild(bus, begun.build, false);
  if (live && hasTests) publishTestsOver(bus, begun.build.id);
  return live;
}

/** Returns whether the attempt was still open. */
async function giveUp(
  { sql, bus, clock, log, policy, patiently }: AttemptDeps,
  { epoch }: Lease,
  begun: Begun,
  machine: BuildMachine | undefined,
  why: Pick<GiveUp, "reason" | "counts" | "machineFault" | "end">,
): Promise<boolean> {
  const { build, attempt, recipe } = begun;
  const now = clock.now();
  const given = await patiently(() => giveUpAttempt(sql, { attempt, epoch, by: "driver", ...why }, policy, now));
  if (!given) return false;
  const { again } = given;
  const how = { reason: why.reason, again, tookMs: now - begun.startedAt };
  log.info({ ...about(begun, machine), ...how }, "An attempt failed for the farm's own reasons");
  publishBuild(bus, build, again);
  if (!again && recipe.tests !== undefined) publishTestsOver(bus, build.id);
  return true;
}

/** False: its machine does not come back with what it ran, or the lease is not ours any more. */
async function park(
  { sql, bus, clock, log, patiently }: AttemptDeps,
  lease: Lease,
  begun: Begun,
  machine: BuildMachine | undefined,
  reason: string,
): Promise<boolean> {
  const parked = await patiently(() => parkLease(sql, lease, clock.now()));
  if (!parked) return false;
  log.info({ ...about(begun, machine), reason }, "An attempt waits for its machine to come back");
  publishBuild(bus, begun.build, false);
  return true;
}

/** Whether the machine came back with what it runs over another session: nothing may be done over ours. */
function isElsewhere({ sql, patiently }: AttemptDeps, lease: Lease): Promise<boolean> {
  return patiently(() => goesOnElsewhere(sql, lease));
}

/** Cleans a machine on which something may still run for nobody. */
export async function emptied(
  { clock, log, stopping }: Pick<AttemptDeps, "clock" | "log" | "stopping">,
  machine: BuildMachine,
): Promise<"clean" | "broken"> {
  try {
    await clean(clock, machine, stopping);
    return "clean";
  } catch (error) {
    log.warn({ machine: machine.name, error: messageOf(error) }, "Could not clean a machine; letting it go");
    return "broken";
  }
}

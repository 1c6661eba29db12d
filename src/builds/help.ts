/**
 * A helper: a further machine for the tests of a build, from a held lease to the lease's end.
 *
 *   claimed -nobody needs it-> ended                 the tests have ended meanwhile
 *   claimed -no tree, no time-> ended                the tree is not kept any more, or the build has used up its time;
 *                                                    no other helper comes in its place
 *   claimed -tree unpacked-> working
 *   adopted -> working                               with the group that it had
 *   working -nothing left that it could do-> ended   the machine is given back (work-tests.ts)
 *   working -machine or coordinator gone-> parked    if the machine resumes, and so comes back with what it runs
 *   working -machine or coordinator gone-> ended     otherwise
 *
 * A helper may fail without harm to the build: its tests are taken back, and other machines run them.
 */
import type { Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { EpochMs, LeaseId } from "../farm/ids.ts";
import type { Lease } from "../farm/lease.ts";
import { within } from "../farm/within.ts";
import { slowAfter } from "../schedule/test-groups.ts";
import {
  type HelperJob,
  helperJob,
  helpersMayNotCome,
  type LeftAlone,
  testsLeftAlone,
  wantHelpers,
} from "../store/helper-leases.ts";
import type { HelperFault } from "../store/set-aside.ts";
import { heldGroup } from "../store/test-groups.ts";
import { abortedWith, isMachineFine, mayGoOn } from "./broken-off.ts";
import { type BuildLimit, buildLimit, outOfTimeText, timeLeft } from "./command-limits.ts";
import type { BuildMachine } from "./machine.ts";
import type { Snapshots } from "./snapshots.ts";
import { clean } from "./source-step.ts";
import { type TestsDeps, type Worked, workOff } from "./work-tests.ts";

/** Only the build's own machine writes the log of the tests. */
const NO_LOG = { tell: async () => {}, say: async () => {} };

export interface HelpDeps extends TestsDeps {
  readonly snapshots: Pick<Snapshots, "find" | "restore">;
}

/** How a helper's lease goes on: parked, since its machine may come back with what it runs, or to its end. */
export type Helped = { readonly parked: true; readonly reason: string } | HelpEnd;

interface HelpEnd {
  readonly parked: false;
  readonly reason: string;
  /** The machine may be used again after it was cleaned. */
  readonly machineFine: boolean;
  /** What the machine ran may still run there, for nobody. */
  readonly mayRun?: true;
  /** Who is at fault that the machine could not help. */
  readonly fault?: HelperFault;
  /** The build ended with its last test, while nobody drove the build's own machine. */
  readonly verdict?: { readonly outcome: "success" | "failure"; readonly tookMs: number };
}

/** `told` is called once it is known which build needs help. Never throws. */
export async function help(
  deps: HelpDeps,
  lease: Lease,
  machine: BuildMachine,
  told: (job: HelperJob) => void,
  signal: AbortSignal,
): Promise<Helped> {
  const { sql, clock, patiently } = deps;
  try {
    const job = await patiently(() => helperJob(sql, lease.id));
    const spec = job?.recipe.tests;
    if (!job || !spec) {
      await clean(clock, machine, signal);
      return ended("nobody needs it any more");
    }
    told(job);
    const { build, recipe } = job;
    const worker = { build: build.id, lease: lease.id, epoch: lease.epoch, machine: lease.machineId };
    const limit = buildLimit(clock, recipe, job.commandsFrom);
    if ((await patiently(() => heldGroup(sql, worker))) === undefined) {
      const missing = await putTree(deps, job, machine, limit, signal);
      if (missing !== undefined) return ended(missing);
    }
    const helpers = helpersOf(spec, lease);
    const work = { build, recipe, spec, worker, machine, limit, role: "helper", helpers, ...NO_LOG } as const;
    const worked = await workOff(deps, work, signal);
    return endOf(worked, job, limit, clock.now());
  } catch (error) {
    return brokenOff(machine, signal, error);
  }
}

/** Empties the machine and unpacks the tree of the build there. Returns why the tree is not there; undefined: it is. */
async function putTree(
  deps: HelpDeps,
  job: HelperJob,
  machine: BuildMachine,
  limit: BuildLimit,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { clock } = deps;
  const late = new FarmError("timed-out", "the time of its build was over before it had the tree");
  try {
    const there = await within(clock, timeLeft(clock, limit), [signal], late, async (limited) => {
      await clean(clock, machine, limited);
      return await restored(deps, job, machine, limited);
    });
    return there ? undefined : "the tree of the build is not kept any more";
  } catch (error) {
    if (error !== late) throw error;
    return late.message;
  }
}

/** The end of a helper that worked for as long as it could. */
function endOf(worked: Worked, { commandsFrom }: HelperJob, limit: BuildLimit, now: EpochMs): HelpEnd {
  switch (worked.why) {
    case "unfit":
      return { ...ended("a test was stopped on it"), machineFine: false };
    case "out-of-time":
      return ended(outOfTimeText(limit));
    case "left":
      return ended("there was nothing left to help with");
    case "lost":
      return ended("the tests have ended");
    case "over": {
      const outcome = worked.counts.failed === 0 ? "success" : "failure";
      const verdict = { outcome, tookMs: now - commandsFrom } as const;
      return { ...ended("the tests have ended"), ...(worked.unattended && { verdict }) };
    }
  }
}

/** What happens to a helper whose work broke off. */
function brokenOff(machine: BuildMachine, signal: AbortSignal, error: unknown): Helped {
  const reason = messageOf(machine.gone.aborted ? machine.gone.reason : error);
  if (mayGoOn(machine, signal)) return { parked: true, reason };
  const machineFine = isMachineFine(machine, signal, error);
  if (signal.aborted) {
    // A command that is canceled is killed at once (command-run.ts). One that we only stopped following is not.
    const mayRun = machineFine && !abortedWith(signal, "canceled");
    return { parked: false, reason, machineFine, ...(mayRun && { mayRun }) };
  }
  const mayRun = machineFine && machine.resumes;
  return { parked: false, reason, machineFine, fault: machineFine ? "farm" : "machine", ...(mayRun && { mayRun }) };
}

function ended(reason: string): HelpEnd {
  return { parked: false, reason, machineFine: true };
}

/**
 * Wants a helper for each build that waits for its machine, while no other machine works at its tests: for the tests
 * that wait, and for those that are slow on that machine. Machines that work at tests want helpers themselves, in their
 * turns.
 *
 * `isLong` tells whether a machine has been waited for so long that it may well stay away, which one that only dials
 * again has not. A build that cannot be helped does not keep help from the others.
 */
export async function helpThoseLeftAlone(
  deps: Pick<HelpDeps, "sql" | "bus" | "clock"> & { readonly log: Pick<Log, "warn"> },
  isLong: (lease: LeaseId) => boolean,
): Promise<void> {
  for (const left of await testsLeftAlone(deps.sql)) {
    if (!isLong(left.lease) || !needsHelp(left, deps.clock.now())) continue;
    try {
      await wantHelper(deps, left, left);
    } catch (error) {
      const { id } = left.build;
      deps.log.warn(
        { build: id, error: messageOf(error) },
        "Could not find help for tests that are left alone; trying again",
      );
    }
  }
}

/** Whether tests wait, or are slow where they run. */
function needsHelp({ recipe: { tests }, waiting, groups }: LeftAlone, now: EpochMs): boolean {
  if (tests === undefined) return false;
  return (
    waiting > 0 ||
    groups.some(({ startedAt, expectedMs }) => startedAt + slowAfter(expectedMs, tests.groupTargetMs) <= now)
  );
}

/** Wants one more machine for the tests of a build, if the time for its commands is not over. */
export async function wantHelper(
  { sql, bus, clock }: Pick<HelpDeps, "sql" | "bus" | "clock">,
  { build, recipe, commandsFrom }: Pick<HelperJob, "build" | "recipe" | "commandsFrom">,
  lease: Pick<Lease, "class">,
): Promise<void> {
  const { tests } = recipe;
  if (tests === undefined || timeLeft(clock, buildLimit(clock, recipe, commandsFrom)) === 0) return;
  const rules = { spec: tests, helpers: helpersOf(tests, lease) };
  if (await wantHelpers(sql, build.id, rules, clock.now())) bus.publish(`queue:${build.hostType}`);
}

/** Unpacks the tree of the build on an empty machine. False: the tree is not kept any more, for any helper. */
async function restored(deps: HelpDeps, job: HelperJob, machine: BuildMachine, signal: AbortSignal): Promise<boolean> {
  const { sql, clock, patiently, snapshots } = deps;
  const snapshot = await snapshots.find(job);
  const result = snapshot && (await snapshots.restore(snapshot, job.recipe, machine, signal));
  if (result && !("bad" in result)) return true;
  if (result && (await snapshots.find(job))) {
    throw new FarmError("unavailable", `the tree of the build could not be had: ${result.bad}`);
  }
  const { build, treeFrom } = job;
  if (treeFrom !== null) await patiently(() => helpersMayNotCome(sql, build.id, treeFrom, clock.now()));
  return false;
}

/** How many further machines a build may have. One that a person asked for may have another number of them. */
export function helpersOf(
  spec: { readonly helpers: number; readonly tryHelpers: number },
  lease: Pick<Lease, "class">,
): number {
  return lease.class === "try" || lease.class === "gomote" ? spec.tryHelpers : spec.helpers;
}

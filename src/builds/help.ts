/**
 * A helper: a further machine for the tests of a build, from a held lease to the lease's end.
 *
 *   claimed -nobody needs it-> ended           the tests have ended meanwhile
 *   claimed -no tree, no time-> ended           the tree is not kept any more, or the build has used up its time: nobody comes in its place
 *   claimed -tree unpacked-> working -> ended   work-tests.ts; when there is nothing left that it could do, it is given back
 *   working -machine or coordinator gone-> parked, where the machine comes back with what it runs; else ended
 *   adopted -> working                          with the group that it had
 *
 * Whatever becomes of a helper is no matter for the build: what it was running is taken back and run by others.
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
import { buildLimit, outOfTimeText, timeLeft } from "./command-limits.ts";
import { type BuildMachine, isAgainstMachine } from "./machine.ts";
import type { Snapshots } from "./snapshots.ts";
import { clean } from "./source-step.ts";
import { type TestsDeps, workOff } from "./work-tests.ts";

export interface HelpDeps extends TestsDeps {
  readonly snapshots: Pick<Snapshots, "find" | "restore">;
}

/** `parked`: the machine may come back with what it runs. */
export type Helped = { readonly reason: string } & (
  | { readonly parked: true }
  /**
   * `machineFine`: it may be used again after it was cleaned; `mayRun`: what it ran may still run there, for nobody. `fault`: whose it is
   * that it could not help. `verdict`: the build ended with its last test, and nobody drives the build's own machine.
   */
  | {
      readonly parked: false;
      readonly machineFine: boolean;
      readonly mayRun?: true;
      readonly fault?: HelperFault;
      readonly verdict?: { readonly outcome: "success" | "failure"; readonly tookMs: number };
    }
);

/** `told` is called once it is known which build it is. Never throws. */
export async function help(
  deps: HelpDeps,
  lease: Lease,
  machine: BuildMachine,
  told: (job: HelperJob) => void,
  signal: AbortSignal,
): Promise<Helped> {
  const { sql, clock, patiently } = deps;
  const late = new FarmError("timed-out", "the time of its build was over before it had the tree");
  try {
    const job = await patiently(() => helperJob(sql, lease.id));
    const spec = job?.recipe.tests;
    if (!job || !spec) {
      await clean(clock, machine, signal);
      return ended("nobody needs it any more");
    }
    told(job);
    const worker = { build: job.build.id, lease: lease.id, epoch: lease.epoch, machine: lease.machineId };
    const { build, recipe } = job;
    const helpers = helpersOf(spec, lease);
    const limit = buildLimit(clock, recipe, job.commandsFrom);
    if ((await patiently(() => heldGroup(sql, worker))) === undefined) {
      const there = await within(clock, timeLeft(clock, limit), [signal], late, async (limited) => {
        await clean(clock, machine, limited);
        return await restored(deps, job, machine, limited);
      });
      if (!there) return ended("the tree of the build is not kept any more");
    }
    const work = {
      build,
      recipe,
      spec,
      worker,
      machine,
      limit,
      role: "helper",
      helpers,
      tell: async () => {},
      say: async () => {},
    } as const;
    const worked = await workOff(deps, work, signal);
    const { why } = worked;
    if (why === "unfit") return { ...ended("a test was stopped on it"), machineFine: false };
    if (why === "out-of-time") return ended(outOfTimeText(limit));
    if (why === "left") return ended("there was nothing left to help with");
    if (why !== "over" || !worked.unattended) return ended("the tests have ended");
    const outcome = worked.counts.failed === 0 ? "success" : "failure";
    return { ...ended("the tests have ended"), verdict: { outcome, tookMs: clock.now() - job.commandsFrom } };
  } catch (error) {
    if (error === late) return ended(late.message);
    const stopped = signal.aborted && signal.reason instanceof FarmError && signal.reason.code === "unavailable";
    const reason = messageOf(machine.gone.aborted ? machine.gone.reason : error);
    if (machine.resumes && (stopped || (machine.gone.aborted && !signal.aborted))) return { reason, parked: true };
    const ours = signal.aborted || !isAgainstMachine(error);
    const machineFine = ours && !machine.gone.aborted && (!signal.aborted || machine.agent === "barnraiser");
    // A command that is canceled is killed at once (command-run.ts); one that we only stopped following is not.
    const killed = signal.reason instanceof FarmError && signal.reason.code === "canceled";
    if (signal.aborted) return { reason, parked: false, machineFine, ...(machineFine && !killed && { mayRun: true }) };
    const fault = machineFine ? "farm" : "machine";
    return { reason, parked: false, machineFine, fault, ...(machineFine && machine.resumes && { mayRun: true }) };
  }
}

function ended(reason: string): Helped & { readonly parked: false } {
  return { reason, parked: false, machineFine: true };
}

/**
 * A machine that a build waits for keeps its tests from nobody: where nobody else works at them, a helper is wanted for what waits, and for what
 * is slow there. Those who work want helpers by themselves, in their turns. `isLong`: whether the machine has been waited for so long that it
 * may well stay away, which one that only dials again does not. A build that cannot be helped keeps help from no other.
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

/** Tests wait, or are slow where they run. */
function needsHelp({ recipe: { tests }, waiting, groups }: LeftAlone, now: EpochMs): boolean {
  if (tests === undefined) return false;
  return (
    waiting > 0 ||
    groups.some(({ startedAt, expectedMs }) => startedAt + slowAfter(expectedMs, tests.groupTargetMs) <= now)
  );
}

/** One more machine for the tests of `job`, if it may have one: its commands have time left. */
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

/** The tree of the build on a machine whose folder is empty. False: it is not kept any more, for any helper. */
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

/** Further machines of a build that a person asked for, and of one that nobody did. */
export function helpersOf(
  spec: { readonly helpers: number; readonly tryHelpers: number },
  lease: Pick<Lease, "class">,
): number {
  return lease.class === "try" || lease.class === "gomote" ? spec.tryHelpers : spec.helpers;
}

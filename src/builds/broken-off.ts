/**
 * Work on a machine that broke off: what that means for the work, for the machine and for the build's budget of tries.
 *
 *   broken off by                      the work may go on   the machine is fine    our own restart
 *   this coordinator, which stops      if it resumes        if its agent is ours   yes
 *   a cancel, or the lease's loss      no                   if its agent is ours   no
 *   the machine, which is gone         if it resumes        no                     no
 *   the machine, which did wrong       no                   no                     no
 *   another coordinator, which ended   no                   yes                    yes
 *   our own database, disk or code     no                   yes                    no
 *
 * The first two abort `signal`; what was thrown then tells nothing more. A machine that is gone is never fine, whatever
 * else happened. The other coordinator is the one that passed the machine's connection on to us.
 */
import { type Code, FarmError } from "../farm/errors.ts";
import type { BuildMachine } from "./machine.ts";

/** Codes of errors that do not speak against the machine. */
const NOT_AGAINST_MACHINE: ReadonlySet<Code> = new Set(["unavailable", "carrier-gone", "lease-lost", "bad-request"]);

/** Whether what the machine runs can be taken up later. */
export function mayGoOn({ resumes, gone }: Pick<BuildMachine, "resumes" | "gone">, signal: AbortSignal): boolean {
  return resumes && (signal.aborted ? abortedWith(signal, "unavailable") : gone.aborted);
}

/** Whether the machine may be used again once it has been cleaned. */
export function isMachineFine(
  { agent, gone }: Pick<BuildMachine, "agent" | "gone">,
  signal: AbortSignal,
  error: unknown,
): boolean {
  if (gone.aborted) return false;
  return signal.aborted ? agent === "barnraiser" : !isAgainstMachine(error);
}

/** Whether a coordinator broke the work off by ending: this one, or the one that passed the machine's connection on. */
export function isOwnRestart(signal: AbortSignal, error: unknown): boolean {
  if (signal.aborted) return abortedWith(signal, "unavailable");
  return error instanceof FarmError && error.code === "carrier-gone";
}

/** Whether `signal` has aborted, and for this reason. */
export function abortedWith({ aborted, reason }: AbortSignal, code: Code): boolean {
  return aborted && reason instanceof FarmError && reason.code === code;
}

/** What stops a driver when another one has its build by now. */
export function takenBack(): FarmError {
  return new FarmError("lease-lost", "the build was taken back");
}

/** A machine's client throws a FarmError for what went wrong on the machine. Any other error is our own. */
function isAgainstMachine(error: unknown): boolean {
  return error instanceof FarmError && !NOT_AGAINST_MACHINE.has(error.code);
}

/**
 * Sessions one after the other, in one process, so that what it runs for the farm outlives a link that broke or a coordinator that
 * was started again.
 *
 *   first session -refused, farm not there-> ends with the reason, as before the first there is nothing to lose
 *   session lost -farm is ours-> away -registered again-> session
 *   away -refused for good, or LIMIT since the loss-> ends;  told to leave, or a farm that is not ours -> ends with the session
 *
 * No answer is a refusal for good unless the coordinator says that it does not want this machine (RefusedError.isFinal): a machine that was paused
 * in the middle of its request is told that it was too slow, and what it runs must not die of that.
 * An idle agent does the same: a farm has its machines back within moments, however slow their supervisors are; and what a supervisor is
 * for (a newer program, a machine that must be rebooted) begins with being told to leave.
 */
import type { Clock } from "../../farm/clock.ts";
import { messageOf } from "../../farm/errors.ts";
import { type Ms, ms, seconds } from "../../farm/ids.ts";
import type { HeaderField } from "../../wire/revdial/http-head.ts";
import { type ReverseSessionDeps, runReverseSession } from "./reverse-session.ts";
import { RefusedError } from "./switch-protocol.ts";

const FIRST_PAUSE: Ms = ms(200);
const LONGEST_PAUSE: Ms = seconds(5);
const GROWTH = 1.5;
/** A session that was this long was none that broke at once. */
const STEADY: Ms = seconds(20);

export interface StayRegisteredDeps extends Omit<ReverseSessionDeps, "registered"> {
  readonly clock: Clock;
  /** From 0 to 1. */
  readonly random: () => number;
  /** How long to try to come back; 0: not at all. */
  readonly limit: Ms;
  /** Whether the farm told us to leave. */
  readonly leaving: () => boolean;
  /** A session is over: nothing that only it could end may go on. */
  readonly lost: () => Promise<void>;
}

/** Registers, and again whenever that is lost; resolves with why it was the last time. Rejects when the first was not accepted. */
export async function stayRegistered(
  deps: StayRegisteredDeps,
  registration: readonly HeaderField[],
  signal: AbortSignal,
): Promise<string> {
  const { clock, log, limit } = deps;
  let lostAt: number | undefined;
  for (let failures = 0; ; ) {
    let ours = false;
    const registered = (theirs: boolean): void => {
      ours = theirs;
    };
    const began = clock.monotonic();
    let why: string;
    try {
      why = await runReverseSession({ ...deps, registered }, registration, signal);
      await deps.lost();
      if (!ours || limit === 0 || signal.aborted || deps.leaving()) return why;
      lostAt = clock.monotonic();
      if (lostAt - began >= STEADY) failures = 0;
      log(`The session is over: ${why}; coming back`);
    } catch (error) {
      if (lostAt === undefined || signal.aborted) throw error;
      why = messageOf(error);
      if (error instanceof RefusedError && error.isFinal) return why;
    }
    const pause = ms(Math.min(FIRST_PAUSE * GROWTH ** failures++, LONGEST_PAUSE) * (0.5 + deps.random()));
    if (clock.monotonic() + pause - lostAt > limit) return `could not come back: ${why}`;
    await clock.sleep(pause, signal).catch(() => {});
    if (signal.aborted) return "told to stop";
  }
}

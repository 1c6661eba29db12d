/**
 * Sessions one after the other, in one process. What runs here for the farm thus outlives a link that broke, or a
 * coordinator that was restarted.
 *
 *   first session -refused, or no farm answers-> ends with the reason, since nothing can be lost yet
 *   session lost -the farm is ours-> away -registered again-> session
 *   away -refused for good, or LIMIT since the loss-> ends
 *   told to leave, or a farm that is not ours -> ends with the session
 *
 * An answer is a refusal for good only when the coordinator says that it does not want this machine
 * (RefusedError.isFinal). A machine that was paused in the middle of its request hears that it was too slow, and its
 * commands must not die of that. An idle agent does the same, so that a farm has its machines back within moments,
 * however slow their supervisors are. When a supervisor is needed (for a newer program or a reboot), the farm tells the
 * machine to leave first.
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
/** A session of this length counts as steady. A shorter one broke at once. */
const STEADY: Ms = seconds(20);

export interface StayRegisteredDeps extends Omit<ReverseSessionDeps, "registered"> {
  readonly clock: Clock;
  /** A random number from 0 to 1. */
  readonly random: () => number;
  /** For how long to try to come back; 0: not at all. */
  readonly limit: Ms;
  /** Whether the farm has told us to leave. */
  readonly leaving: () => boolean;
  /** Called when a session is over: ends everything that only this session could have ended. */
  readonly lost: () => Promise<void>;
}

/**
 * Registers, and registers again whenever the session is lost. Resolves with the reason why it stops. Rejects when the
 * first session was not accepted.
 */
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

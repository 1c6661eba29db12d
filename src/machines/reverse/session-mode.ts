/**
 * What a session of the reverse pool should do next: the decisions, without the sockets.
 *
 *   joining   answered with 101; not offered before it has shown that it lives and the database knows it
 *   idle      offered for work
 *   busy      one build has it
 *   leaving   its last call is made; not offered any more
 *
 *   joining -alive and known-> idle -take-> busy -release clean, our own agent-> idle
 *   busy -release otherwise-> leaving;  idle -its agent program is outdated-> leaving
 *   any -close-> gone (no mode: forgotten)
 *
 * How a lost machine is noticed. Our own agent answers on the control channel (../revdial/dialer.ts). The original is
 * asked for its status. When it is idle, it is asked every 10 to 14 s, and one missing answer is enough. When it is
 * busy, it is asked 10 s after the last answer, and the third missing answer in a row counts. An answer may take 20 s,
 * so an idle machine that fell silent is out within 35 s.
 */
import { type Ms, ms, seconds } from "../../farm/ids.ts";

export type Mode = "joining" | "idle" | "busy" | "leaving";

const IDLE_CHECK_FROM: Ms = seconds(10);
const IDLE_CHECK_TO: Ms = seconds(14);
const BUSY_CHECK: Ms = seconds(10);
export const CHECK_LIMIT: Ms = seconds(20);
export const BUSY_MISSES = 3;

export interface Situation {
  readonly mode: Mode;
  readonly agent: "barnraiser" | "original";
  /** When to ask for its status next, on the monotonic clock; undefined while it is being asked. */
  readonly checkAt: number | undefined;
  /** Until when nothing is done to it, on the monotonic clock: it may be given back the work that it runs. */
  readonly holdsUntil: number;
  /** The digest of the agent program that it runs; "" when it does not say. */
  readonly digest: string;
  /** The digest of the agent program that the coordinator serves. */
  readonly served: string | undefined;
  /** The digest of the program that this machine was last sent to fetch. */
  readonly sentFor: string | undefined;
}

export type Step = "check" | "renew" | "none";

/** What to do at `now` (monotonic milliseconds). */
export function nextStep(situation: Situation, now: number): Step {
  const { mode, agent, checkAt, holdsUntil } = situation;
  if (mode === "idle" && now >= holdsUntil && isOutdated(situation)) return "renew";
  if (agent === "original" && (mode === "idle" || mode === "busy") && checkAt !== undefined && checkAt <= now)
    return "check";
  return "none";
}

/** Whether the machine should fetch its program again: once for each program, even if it comes back unchanged. */
function isOutdated({ agent, digest, served, sentFor }: Situation): boolean {
  return agent === "barnraiser" && digest !== "" && served !== undefined && digest !== served && sentFor !== served;
}

/** The mode that follows busy. */
export function afterBuild(situation: Situation, how: "clean" | "broken"): "idle" | "halt" | "renew" | "broken" {
  if (how === "broken") return "broken";
  if (situation.agent === "original") return "halt";
  return isOutdated(situation) ? "renew" : "idle";
}

/** When to ask for the status next. `random` is a number from 0 to below 1. */
export function nextCheck(mode: Mode, now: number, random: number): number {
  if (mode === "busy") return now + BUSY_CHECK;
  return now + IDLE_CHECK_FROM + random * ms(IDLE_CHECK_TO - IDLE_CHECK_FROM);
}

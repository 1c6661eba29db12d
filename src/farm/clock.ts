/**
 * The one way the farm reads the time or waits. Tests pass a FakeClock (testing/fake-clock.ts) and move it by hand.
 *
 * Programs pass `systemClock` (store/, agent/ and cmd/ have timers; this room has none), so only main wires real time.
 */
import type { EpochMs, Ms } from "./ids.ts";

export interface Clock {
  /** Wall time. It may jump, so measure spans that decide something with `monotonic`. */
  now(): EpochMs;
  /** Milliseconds since an arbitrary start, with fractions. Never goes back. */
  monotonic(): number;
  /** Resolves after `span`; rejects with `signal.reason` when aborted first. */
  sleep(span: Ms, signal?: AbortSignal): Promise<void>;
}

/**
 * The reason for ending a wait that nobody needs any more. An abort without a reason makes an error with a stack, which
 * is expensive beside a short wait.
 */
export const ENOUGH = "nobody waits for this any more";

/** Waits with an end: every call to a machine has a limit, and its caller learns at once when the limit is over. */
import { type Clock, ENOUGH } from "./clock.ts";
import { durationText } from "./duration-text.ts";
import { FarmError } from "./errors.ts";
import type { Ms } from "./ids.ts";

/**
 * Waits for `work` until it settles, one of `signals` aborts, or `limit` has passed. In the last two cases the signal
 * of `work` aborts and the call rejects with the reason at once, even if `work` goes on.
 *
 * `what` names the work, or is the reason for rejecting when the time is up, or is a function that finds that reason
 * then.
 */
export async function within<T>(
  clock: Pick<Clock, "sleep">,
  limit: Ms,
  signals: readonly AbortSignal[],
  what: string | FarmError | (() => FarmError),
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const done = new AbortController();
  clock.sleep(limit, done.signal).then(
    () => stop.abort(typeof what === "function" ? what() : typeof what === "string" ? tookLonger(what, limit) : what),
    () => {},
  );
  try {
    return await unless(AbortSignal.any([...signals, stop.signal]), work);
  } finally {
    done.abort(ENOUGH);
  }
}

export function tookLonger(what: string, limit: Ms): FarmError {
  return new FarmError("timed-out", `${what} took longer than ${durationText(limit)}`);
}

/**
 * Waits for `work` until it settles or `signal` aborts. The call then rejects with the reason of `signal` at once.
 *
 * Afterwards nothing listens to `signal`. A signal made of others that still has a listener lives as long as they do,
 * with everything its listeners refer to, and a machine may stay connected for weeks.
 */
export async function unless<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {});
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work(signal), promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

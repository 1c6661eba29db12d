/** Waiting with an end: every call to a machine has a limit, and whoever waits hears at once when it is over. */
import { type Clock, ENOUGH } from "./clock.ts";
import { durationText } from "./duration-text.ts";
import { FarmError } from "./errors.ts";
import type { Ms } from "./ids.ts";

/**
 * `work` until it settles, or one of `signals` aborts, or `limit` has passed: then its signal aborts and the call rejects with the reason
 * at once, whether or not `work` heard. `what` says what was going on, or is what to reject with when the time is up, or finds that out then.
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
 * `work` until it settles, or `signal` aborts: then the call rejects with its reason at once. Nothing listens to `signal` afterwards: one that is
 * made of others is kept, with all that its listeners know, for as long as the others live, and a machine may stay connected for weeks.
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

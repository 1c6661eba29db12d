/** Real time. Only the main of a program uses it; everything below takes a Clock. */
import type { Clock } from "../farm/clock.ts";
import { epochMs } from "../farm/ids.ts";

export const systemClock: Clock = {
  now: () => epochMs(Date.now()),
  monotonic: () => performance.now(),
  // Not the one of node:timers, which makes an error with a stack for each of the many waits that end early.
  sleep: (span, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const abort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", abort);
        resolve();
      }, span);
      signal?.addEventListener("abort", abort, { once: true });
    }),
};

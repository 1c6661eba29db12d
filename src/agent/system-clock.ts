/** Real time for the programs on machines; tests pass a FakeClock instead. */
import type { Clock } from "../farm/clock.ts";
import { epochMs } from "../farm/ids.ts";

export const systemClock: Clock = {
  now: () => epochMs(Date.now()),
  monotonic: () => Number(process.hrtime.bigint()) / 1e6, // `performance` would load a good part of Node
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

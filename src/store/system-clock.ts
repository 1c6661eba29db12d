/** Real time. Only programs' main wires it; everything below takes a Clock. */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../farm/clock.ts";
import { epochMs, type Ms } from "../farm/ids.ts";

export const systemClock: Clock = {
  now: () => epochMs(Date.now()),
  monotonic: () => performance.now(),
  async sleep(span: Ms, signal?: AbortSignal) {
    try {
      await delay(span, undefined, signal ? { signal } : undefined);
    } catch (error) {
      signal?.throwIfAborted(); // the caller's reason, not Node's AbortError around it
      throw error;
    }
  },
};

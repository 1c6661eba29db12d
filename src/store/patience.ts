/**
 * Writing that must succeed is tried for as long as it takes: the database may be away for longer than one call waits.
 */
import type { Clock } from "../farm/clock.ts";
import { FarmError } from "../farm/errors.ts";
import { type Ms, seconds } from "../farm/ids.ts";

const PAUSE: Ms = seconds(1);

/**
 * Repeats `call` while the database is away. Returns when it succeeds, and throws when it fails for another reason or
 * `signal` aborts (then the last error).
 */
export async function patiently<T>(call: () => Promise<T>, clock: Clock, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const away = error instanceof FarmError && error.code === "unavailable";
      if (!away || signal.aborted) throw error;
      await clock.sleep(PAUSE, signal).catch(() => {});
    }
  }
}

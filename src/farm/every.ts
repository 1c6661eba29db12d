/** The loop of whatever looks after something now and then, because a word may get lost or nobody says one. */
import type { Clock } from "./clock.ts";
import type { Log } from "./deps.ts";
import { messageOf } from "./errors.ts";
import type { Ms } from "./ids.ts";

export interface EveryDeps {
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Calls `look` each time that `span` has passed since the last one ended; resolves once `stop` is aborted and a look that was under way
 * has ended. A look that fails is logged as `failed`, and the next one comes all the same.
 */
export async function every(
  span: Ms,
  look: () => Promise<unknown>,
  failed: string,
  { clock, log }: EveryDeps,
  stop: AbortSignal,
): Promise<void> {
  for (;;) {
    await clock.sleep(span, stop).catch(() => {}); // stopped
    if (stop.aborted) return;
    try {
      await look();
    } catch (error) {
      log.warn({ error: messageOf(error) }, failed);
    }
  }
}

/** The loop of a part that checks something regularly, because a notification may get lost or nobody sends one. */
import type { Clock } from "./clock.ts";
import type { Log } from "./deps.ts";
import { messageOf } from "./errors.ts";
import type { Ms } from "./ids.ts";

export interface EveryDeps {
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Calls `look` each time that `span` has passed since the last call ended. Resolves once `stop` is aborted and a call
 * that was under way has ended. A call that fails is logged as `failed` and does not end the loop.
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

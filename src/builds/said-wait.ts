/** A wait that the log tells of when it is long, so that nobody has to guess why a build is silent. */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { type Ms, ms, seconds } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";

/**
 * The log's first line about a wait comes after so long. Each further line comes when the wait is twice as long as at
 * the line before.
 */
export const LONG_WAIT: Ms = seconds(10);

/**
 * Settles as `work` does. While that takes long, lines in the log say that `what` is waited for, and how long already.
 */
export async function saidWait<T>(
  clock: Clock,
  writer: Pick<LogWriter, "write">,
  what: string,
  work: Promise<T>,
): Promise<T> {
  const done = new AbortController();
  const began = clock.monotonic();
  const tell = async (): Promise<void> => {
    for (let due = LONG_WAIT; !done.signal.aborted; due = ms(due * 2)) {
      await clock.sleep(ms(Math.max(0, began + due - clock.monotonic())), done.signal);
      await writer.write(Buffer.from(`waiting for ${what}, ${durationText(due)} so far\n`));
    }
  };
  tell().catch(() => {}); // over, or the log takes no more: the next write to it fails and says so
  try {
    return await work;
  } finally {
    done.abort(ENOUGH);
  }
}

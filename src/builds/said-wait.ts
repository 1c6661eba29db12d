/** A wait that a log tells of when it is long, so that silence never has to be guessed at. */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { type Ms, ms, seconds } from "../farm/ids.ts";
import type { LogWriter } from "../logs/writer.ts";

/** The first line comes after so long; each further one when it has taken twice as long as at the one before. */
export const LONG_WAIT: Ms = seconds(10);

/** `work` as it settles; while it takes long, lines in the log say that it is `what` that is waited for, and since when. */
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
  tell().catch(() => {}); // over, or the log takes no more: whoever writes to it next hears of that
  try {
    return await work;
  } finally {
    done.abort(ENOUGH);
  }
}

/**
 * `/b/ID/STEP/follow?from=N`: the lines of a log from N on, as they are written, as server-sent events, for pages that
 * have the log open.
 *
 * `event: lines` carries the same data as `/lines`. The event's id is the next line to ask for, so a browser whose
 * connection broke goes on by itself. A line without its end is sent again when more of it is there.
 *
 * The lines themselves are sent, not a hint to ask for them: a hundred people who watch one build would ask a hundred
 * times for each line. One message is made for all readers that have come as far. A reader pulls at most one message
 * per GATHER, so a slow reader holds one. A reader that is a block behind gets the last block, and asks for earlier
 * lines when they come into sight. The stream ends with the log.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { type LogId, type Ms, ms, seconds } from "../farm/ids.ts";
import { BLOCK } from "../ui/log-source.ts";
import type { LogReader } from "./deps.ts";
import { countOf, linesFrom } from "./log-lines.ts";
import type { SharedAnswers } from "./shared-answers.ts";

const GATHER: Ms = ms(50);
/**
 * How often a silent log sends a comment, so that no proxy hangs up, and is read without a notice, in case one was
 * lost.
 */
const BEAT: Ms = seconds(15);

export interface FollowDeps {
  readonly logs: LogReader;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly messages: SharedAnswers<LinesMessage>;
}

export interface LinesMessage {
  readonly bytes: Buffer;
  /** The length of the log in bytes when the message was made. */
  readonly length: number;
  readonly ended: boolean;
  /** The number of the first line that is still missing or incomplete. */
  readonly next: number;
}

export async function* follow(
  deps: FollowDeps,
  id: LogId,
  from: number,
  gone: AbortSignal,
): AsyncGenerator<Buffer, void, undefined> {
  const topic = `log:${id}`;
  const left = new AbortController();
  let news = Promise.withResolvers<void>();
  const wake = (): void => news.resolve();
  deps.bus.subscribe(topic, (published) => published === topic && wake(), left.signal); // `log:1` does not mean `log:12`
  gone.addEventListener("abort", wake, { once: true });
  try {
    yield Buffer.from("retry: 2000\n\n");
    for (let next = from, length = -1; !gone.aborted; ) {
      news = Promise.withResolvers(); // before looking, so that nothing is missed between looking and waiting
      const line = next;
      const message = await deps.messages.get(topic, String(line), () => messageFrom(deps.logs, id, line));
      if (message.length > length || message.ended) yield message.bytes;
      else yield Buffer.from(": still here\n\n");
      if (message.ended) return;
      ({ next, length } = message);
      await deps.clock.sleep(GATHER, gone).catch(() => {});
      await orBeat(deps.clock, news.promise);
    }
  } finally {
    left.abort();
    gone.removeEventListener("abort", wake);
  }
}

async function messageFrom(logs: LogReader, id: LogId, line: number): Promise<LinesMessage> {
  const { total } = await countOf(logs, id);
  const from = total - line < BLOCK ? line : Math.floor((total - 1) / BLOCK) * BLOCK + 1;
  const lines = await linesFrom(logs, id, from, BLOCK);
  const { length, ended } = lines;
  const next = from + Math.max(0, lines.lines.length - (lines.open ? 1 : 0));
  const bytes = Buffer.from(`id: ${next}\nevent: lines\ndata: ${JSON.stringify(lines)}\n\n`);
  return { bytes, length, ended: ended && from + lines.lines.length > lines.total, next };
}

async function orBeat(clock: Clock, news: Promise<void>): Promise<void> {
  const heard = new AbortController();
  await Promise.race([news, clock.sleep(BEAT, heard.signal).catch(() => {})]);
  heard.abort();
}

/**
 * `/events?t=TOPIC&t=TOPIC...&since=INSTANT`: what changed, as server-sent events, for open pages.
 *
 * A topic that ends in `:` stands for all topics of its kind. `event: change` carries the topics that were published,
 * each once. The first is sent at once. Further ones are gathered for GATHER_MS, so a build that writes a thousand
 * lines a second causes ten messages a second. A comment every BEAT keeps proxies from hanging up.
 *
 * Topics are hints, so nothing is replayed. The first connection of a page says when the page was asked for, and is
 * told at once what changed since then (recent-topics.ts). After each further connection the page loads its data once
 * by itself.
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, ms, seconds } from "../farm/ids.ts";
import type { RecentTopics } from "./recent-topics.ts";

const GATHER_MS = 50;
const BEAT = seconds(15);
const TOPICS = 64;
const TOPIC = /^[a-z]+:[^\n\r]{0,300}$/;

export interface EventsDeps {
  readonly bus: Bus;
  readonly clock: Clock;
  readonly recent: RecentTopics;
}

/** Answers with the stream of events. `since` is when the page was asked for; undefined: only later changes matter. */
export function events(
  deps: EventsDeps,
  topics: readonly string[],
  since: EpochMs | undefined,
  gone: AbortSignal,
): Response {
  if (topics.length === 0 || topics.length > TOPICS || !topics.every((topic) => TOPIC.test(topic))) {
    throw new FarmError(
      "bad-request",
      `Cannot listen to ${JSON.stringify(topics.slice(0, 5))}: want 1 to ${TOPICS} topics such as t=build:12`,
    );
  }
  const stop = new AbortController();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const heard = new Set<string>();
      let gathering = false;
      let count = 0;
      const write = (text: string): void => {
        // A reader that does not read is sent nothing more. The first message after it reads again is enough.
        if (!stop.signal.aborted && (controller.desiredSize ?? 0) > -1000) controller.enqueue(encoder.encode(text));
      };
      const flush = (): void => {
        if (heard.size === 0) return;
        write(`id: ${++count}\nevent: change\ndata: ${JSON.stringify([...heard])}\n\n`);
        heard.clear();
      };
      const gather = (): void => {
        gathering = heard.size > 0;
        if (!gathering) return;
        flush();
        deps.clock.sleep(ms(GATHER_MS), stop.signal).then(gather, () => {});
      };
      const hear = (topic: string): void => {
        heard.add(topic);
        if (!gathering) gather();
      };
      for (const topic of new Set(topics)) {
        deps.bus.subscribe(
          topic,
          (published) => {
            if (topic.endsWith(":") || published === topic) hear(topic); // `build:1` does not mean `build:12`
          },
          stop.signal,
        );
      }
      const end = (): void => {
        if (stop.signal.aborted) return; // the reader left, and took the stream with it
        stop.abort();
        controller.close();
      };
      gone.addEventListener("abort", end, { once: true });
      write("retry: 2000\n\n");
      for (const topic of since === undefined ? [] : deps.recent.since(topics, since)) hear(topic);
      void beat(deps.clock, write, stop.signal);
      if (gone.aborted) end();
    },
    cancel: () => stop.abort(),
  });
  return new Response(body, {
    headers: {
      "Content-Type": "text/event-stream; charset=utf-8",
      "Cache-Control": "no-store",
      "X-Accel-Buffering": "no",
    },
  });
}

async function beat(clock: Clock, write: (text: string) => void, signal: AbortSignal): Promise<void> {
  try {
    for (;;) {
      await clock.sleep(BEAT, signal);
      write(": still here\n\n");
    }
  } catch {
    // the reader left
  }
}

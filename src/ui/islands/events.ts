/**
 * The one connection of an open page to `/events`, shared by all that listens in it.
 *
 * A topic that was published is a hint to look again, so nothing is lost when the connection breaks: after each new connection every
 * listener looks once. Before the first one that is done only for what the farm says was published since the page was asked for. What is
 * followed (a log) has a connection of its own. A hidden page hangs up all, since a browser has only six connections to an HTTP/1.1 server
 * and people keep many tabs.
 */
import type { Live } from "../live.ts";

/** After an error answer; a connection that broke is opened again by the browser itself. */
const RETRY_MS = 3000;

export class Events implements Live {
  readonly #heard = new Map<string, Set<() => void>>();
  #source: EventSource | undefined;
  #opening = false;
  #wasOpen = false;
  readonly #since: number;

  /** `since`: when the page was asked for. */
  constructor(since: number) {
    this.#since = since;
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#hangUp();
      else this.#open();
    });
  }

  listen(topic: string, heard: () => void): () => void {
    const all = this.#heard.get(topic) ?? new Set();
    this.#heard.set(topic, all.add(heard));
    if (all.size === 1) this.#reopen();
    return () => {
      all.delete(heard);
      if (all.size > 0) return;
      this.#heard.delete(topic);
      this.#reopen();
    };
  }

  follow(url: () => string, name: string, take: (data: string) => "more" | "last"): () => void {
    let source: EventSource | undefined;
    let over = false;
    const hangUp = (): void => {
      source?.close();
      source = undefined;
    };
    const end = (): void => {
      over = true;
      hangUp();
      document.removeEventListener("visibilitychange", turn);
    };
    const turn = (): void => {
      if (document.hidden) hangUp();
      else if (!source && !over) source = open();
    };
    const open = (): EventSource => {
      const opened = new EventSource(url());
      opened.addEventListener(name, (event) => {
        if (take(event.data as string) === "last") end();
      });
      opened.addEventListener("error", () => {
        if (opened.readyState === EventSource.CLOSED && source === opened) {
          source = undefined;
          setTimeout(turn, RETRY_MS);
        }
      });
      return opened;
    };
    document.addEventListener("visibilitychange", turn);
    turn();
    return end;
  }

  /** Topics come and go in groups while a page is drawn; one connection follows at the end of them. */
  #reopen(): void {
    if (this.#opening) return;
    this.#opening = true;
    queueMicrotask(() => {
      this.#opening = false;
      this.#hangUp();
      this.#open();
    });
  }

  #hangUp(): void {
    this.#source?.close();
    this.#source = undefined;
  }

  #open(): void {
    if (this.#source || this.#heard.size === 0 || document.hidden) return;
    const query = new URLSearchParams([...this.#heard.keys()].map((topic) => ["t", topic]));
    if (!this.#wasOpen) query.set("since", String(this.#since));
    const source = new EventSource(`/events?${query}`);
    this.#source = source;
    source.addEventListener("open", () => {
      document.documentElement.dataset.live = "yes";
      if (this.#wasOpen) for (const topic of this.#heard.keys()) this.#tell(topic);
      this.#wasOpen = true;
    });
    source.addEventListener("change", (event) => {
      for (const topic of JSON.parse(event.data) as string[]) this.#tell(topic);
    });
    source.addEventListener("error", () => {
      document.documentElement.dataset.live = "no";
      // Closed for good (an error answer): try again later, as it does by itself for a broken connection.
      if (source.readyState === EventSource.CLOSED && this.#source === source) {
        this.#source = undefined;
        setTimeout(() => this.#open(), RETRY_MS);
      }
    });
  }

  /** The server names a topic as it was asked for, so that `machine:` hears of every machine. */
  #tell(topic: string): void {
    for (const heard of this.#heard.get(topic) ?? []) heard();
  }
}

/** Between two questions of one page: a farm that builds a hundred things a second does not ask a hundred times. */
const PAUSE_MS = 250;

/** Runs `work` when told, at once if it rested; never twice at a time, and once more if it was told meanwhile. */
export function oneAtATime(work: () => Promise<void>): () => void {
  let busy = false;
  let again = false;
  const run = async (): Promise<void> => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    await work().catch(() => undefined); // the previous answer stays; the next change asks again
    await new Promise((rested) => setTimeout(rested, PAUSE_MS));
    busy = false;
    if (!again) return;
    again = false;
    await run();
  };
  return () => void run();
}

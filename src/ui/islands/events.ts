/**
 * The one connection of an open page to `/events`, shared by all its listeners.
 *
 * A published topic is a hint to load again, so nothing is lost when the connection breaks: after each new connection
 * every listener loads once. After the first connection, only the listeners of topics that were published since the
 * page was asked for do that. A followed log has a connection of its own. A hidden page closes its connections: a
 * browser has only six to an HTTP/1.1 server, and people keep many tabs open.
 */
import type { Live } from "../live.ts";

/** How long to wait after an error answer. The browser itself opens a broken connection again. */
const RETRY_MS = 3000;

export class Events implements Live {
  readonly #heard = new Map<string, Set<() => void>>();
  #source: EventSource | undefined;
  #opening = false;
  #wasOpen = false;
  readonly #since: number;

  /** Listens for a page that was asked for at `since`. */
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

  /**
   * Connects with the present topics. They come and go in groups while a page is drawn, so it waits for the end of a
   * group.
   */
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
      // An error answer closed it for good. Tries again later, as the browser itself does for a broken connection.
      if (source.readyState === EventSource.CLOSED && this.#source === source) {
        this.#source = undefined;
        setTimeout(() => this.#open(), RETRY_MS);
      }
    });
  }

  /**
   * Tells the listeners of a topic. The server names a topic as it was asked for, so `machine:` is told of every
   * machine.
   */
  #tell(topic: string): void {
    for (const heard of this.#heard.get(topic) ?? []) heard();
  }
}

/** The shortest time between two requests of one page, however often its topics are published. */
const PAUSE_MS = 250;

/**
 * Returns a function that runs `work`: at once if it is not running, never twice at a time, and once more if it was
 * called meanwhile.
 */
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

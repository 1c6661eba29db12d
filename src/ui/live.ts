/** How a component hears of changes while it is open. The server renders with `deaf`; islands/farm.tsx gives the real one. */
import { createContext } from "preact";

export interface Live {
  /** Calls `heard` whenever `topic` was published, until the returned function is called. */
  listen(topic: string, heard: () => void): () => void;
  /**
   * Gives the data of each event `name` at `url()` to `take` until it answers that this was the last, or the returned function is called.
   * The address is asked for anew whenever the page is seen again.
   */
  follow(url: () => string, name: string, take: (data: string) => "more" | "last"): () => void;
}

export const deaf: Live = { listen: () => () => {}, follow: () => () => {} };

export const LiveContext: ReturnType<typeof createContext<Live>> = createContext<Live>(deaf);

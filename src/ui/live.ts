/** How an open component learns of changes. The server renders with `deaf`; islands/farm.tsx provides the real one. */
import { createContext } from "preact";

export interface Live {
  /** Calls `heard` whenever `topic` is published, until the returned function is called. */
  listen(topic: string, heard: () => void): () => void;
  /**
   * Gives the data of each event `name` at `url()` to `take`, until `take` returns "last" or the returned function is
   * called. A page that was hidden asks `url` again when it is shown.
   */
  follow(url: () => string, name: string, take: (data: string) => "more" | "last"): () => void;
}

const deaf: Live = { listen: () => () => {}, follow: () => () => {} };

export const LiveContext: ReturnType<typeof createContext<Live>> = createContext<Live>(deaf);

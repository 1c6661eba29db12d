/** How a component hears of changes while it is open. The server renders with `deaf`; islands/farm.tsx gives the real one. */
import { createContext } from "preact";

export interface Live {
  /** Calls `heard` whenever `topic` was published, until the returned function is called. */
  listen(topic: string, heard: () => void): () => void;
}

export const deaf: Live = { listen: () => () => {} };

export const LiveContext: ReturnType<typeof createContext<Live>> = createContext<Live>(deaf);

/**
 * Time inside components. On the server it stands still at the frame's `now`, so that hydration finds what was
 * rendered. In the browser islands/farm.tsx makes it move. Components ask for a text made from the time, and are drawn
 * again only when that text changes.
 */
import { createContext } from "preact";
import { useContext, useEffect, useState } from "preact/hooks";

export interface Ticker {
  now(): number;
  /** Calls `tick` about once a second until the returned function is called. */
  subscribe(tick: () => void): () => void;
}

export function still(now: number): Ticker {
  return { now: () => now, subscribe: () => () => {} };
}

export const NowContext: ReturnType<typeof createContext<Ticker>> = createContext<Ticker>(still(0));

/** The text that `say` makes of the present, kept up to date. */
export function useNow(say: (now: number) => string): string {
  const ticker = useContext(NowContext);
  const [, redraw] = useState("");
  useEffect(() => ticker.subscribe(() => redraw(say(ticker.now()))));
  return say(ticker.now());
}

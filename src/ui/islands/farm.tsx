/**
 * The script of every page: it hydrates what the server rendered, and keeps it up to date.
 *
 * The page's data stands in the document as JSON. When one of the page's topics is published, the script asks the same
 * address for its JSON again, and the same components show it. When the farm cannot be reached, the last answer stays
 * on the page.
 */
import { hydrate, type JSX, render } from "preact";
import { repoHref } from "../data.ts";
import { Footer, Top } from "../frame.tsx";
import { LiveContext } from "../live.ts";
import { NowContext, type Ticker } from "../now.ts";
import { Body, type Envelope } from "../page.tsx";
import { Events, oneAtATime } from "./events.ts";
import { grid } from "./grid.ts";
import { keys } from "./keys.ts";

/** Starts at the server's time and advances with this computer's clock, so that a wrong clock does not show. */
class PageTicker implements Ticker {
  readonly #subscribers = new Set<() => void>();
  #offset: number;
  #still: number | undefined;

  constructor(now: number) {
    this.#still = now;
    this.#offset = now - Date.now();
    setInterval(() => {
      for (const tick of this.#subscribers) tick();
    }, 1000);
  }
  /** Starts the time, after hydration, which needs the server's time. */
  start(): void {
    this.#still = undefined;
  }
  adjust(now: number): void {
    this.#offset = now - Date.now();
  }
  now(): number {
    return this.#still ?? Date.now() + this.#offset;
  }
  subscribe(tick: () => void): () => void {
    this.#subscribers.add(tick);
    return () => this.#subscribers.delete(tick);
  }
}

function App(props: {
  envelope: Envelope;
  events: Events;
  ticker: PageTicker;
  part: (envelope: Envelope) => JSX.Element;
}): JSX.Element {
  return (
    <NowContext.Provider value={props.ticker}>
      <LiveContext.Provider value={props.events}>{props.part(props.envelope)}</LiveContext.Provider>
    </NowContext.Provider>
  );
}

function start(): void {
  const data = document.getElementById("data")?.textContent;
  const [top, main, foot] = ["top", "main", "foot"].map((id) => document.getElementById(id));
  if (!data || !top || !main || !foot) return;
  const first = JSON.parse(data) as Envelope;
  const events = new Events(first.askedAt);
  const ticker = new PageTicker(first.frame.now);
  const parts: [HTMLElement, (envelope: Envelope) => JSX.Element][] = [
    [top, (envelope) => <Top frame={envelope.frame} />],
    [foot, (envelope) => <Footer frame={envelope.frame} />],
  ];
  // The grid is HTML text that changes in its own way. No component owns its table.
  const box = document.getElementById("grid");
  if (box) grid(box, events, first.topics);
  else parts.push([main, (envelope) => <Body envelope={envelope} />]);
  for (const [root, part] of parts) hydrate(<App envelope={first} events={events} ticker={ticker} part={part} />, root);
  ticker.start();
  const show = oneAtATime(async () => {
    const address = new URL(location.href);
    address.searchParams.set("format", "json");
    const response = await fetch(address);
    if (!response.ok) return;
    const envelope = (await response.json()) as Envelope;
    if (envelope.page.name !== first.page.name) return;
    ticker.adjust(envelope.frame.now);
    for (const [root, part] of parts)
      render(<App envelope={envelope} events={events} ticker={ticker} part={part} />, root);
  });
  if (!box) for (const topic of first.topics) events.listen(topic, show);
  events.listen("config:", box ? () => location.reload() : show);
  const [repo] = first.frame.repos;
  keys(repo === undefined ? undefined : repoHref(repo));
  document.documentElement.dataset.ready = "yes";
}

start();

/**
 * An asciicast (version 2), read whole and played on a terminal of its own size. A longer rest is played as REST
 * seconds.
 */
import { openScreen } from "./screen.ts";

const REST = 2;
/** How often the events that are due are written. */
const TICK_MS = 50;

export interface Cast {
  readonly columns: number;
  readonly rows: number;
  /** The events. `at` is in seconds, with long rests shortened. */
  readonly events: readonly { readonly at: number; readonly kind: "o" | "r"; readonly data: string }[];
  readonly length: number;
}

/** Reads a recording. Lines that it does not know are left out: a part of a recording is better than nothing. */
export function readCast(text: string): Cast {
  const [head = "", ...lines] = text.split("\n");
  const { width = 80, height = 24 } = JSON.parse(head) as { readonly width?: number; readonly height?: number };
  const events: { at: number; kind: "o" | "r"; data: string }[] = [];
  let before = 0;
  let at = 0;
  for (const line of lines) {
    if (line === "") continue;
    const [seconds, kind, data] = JSON.parse(line) as [number, string, string];
    at += Math.min(REST, Math.max(0, seconds - before));
    before = seconds;
    if (kind === "o" || kind === "r") events.push({ at, kind, data });
  }
  return { columns: width, rows: height, events, length: at };
}

export interface Player extends Disposable {
  play(): void;
  pause(): void;
  /** Goes to `at` seconds. */
  seek(at: number): void;
  speed(times: number): void;
}

export function openPlayer(box: HTMLElement, cast: Cast, moved: (at: number, plays: boolean) => void): Player {
  const screen = openScreen(box, cast);
  const { terminal } = screen;
  let at = 0;
  let next = 0;
  let times = 1;
  let timer: ReturnType<typeof setInterval> | undefined;

  const show = (): void => {
    for (let event = cast.events[next]; event && event.at <= at; event = cast.events[++next]) {
      const [columns = 0, rows = 0] = event.kind === "r" ? event.data.split("x").map(Number) : [];
      if (event.kind === "o") terminal.write(event.data);
      else if (columns > 0 && rows > 0) terminal.resize(columns, rows);
    }
  };
  const pause = (): void => {
    clearInterval(timer);
    timer = undefined;
    moved(at, false);
  };
  const seek = (to: number): void => {
    if (to < at) {
      terminal.reset();
      terminal.resize(cast.columns, cast.rows);
      next = 0;
    }
    at = to;
    show();
    moved(at, timer !== undefined);
  };
  return {
    play() {
      if (at >= cast.length) seek(0);
      let last = performance.now();
      clearInterval(timer);
      timer = setInterval(() => {
        const now = performance.now();
        at = Math.min(cast.length, at + ((now - last) / 1000) * times);
        last = now;
        show();
        if (at >= cast.length) pause();
        else moved(at, true);
      }, TICK_MS);
    },
    pause,
    seek,
    speed: (to) => {
      times = to;
    },
    [Symbol.dispose]() {
      clearInterval(timer);
      screen[Symbol.dispose]();
    },
  };
}

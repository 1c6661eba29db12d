/**
 * Preloaded into a coordinator (`--import`), so that a test need not wait for what takes minutes: its wall clock is ahead by as many
 * minutes as the file HURRIED_CLOCK says at the moment, as after a jump, and a timer for LONG or more goes off after a quarter of that.
 */
import { readFileSync } from "node:fs";

const LONG_MS = 10_000;
const READ_EVERY_MS = 100;

const file = process.env.HURRIED_CLOCK ?? "";
const now = Date.now;
const timer = globalThis.setTimeout;
let aheadMs = 0;
let readAt = Number.NEGATIVE_INFINITY;

Date.now = () => {
  if (performance.now() - readAt >= READ_EVERY_MS) {
    readAt = performance.now();
    aheadMs = Number(readFileSync(file, "utf8")) * 60_000;
  }
  return now() + aheadMs;
};
globalThis.setTimeout = Object.assign(
  (callback: (...args: unknown[]) => void, delay = 0, ...args: unknown[]) =>
    timer(callback, delay >= LONG_MS ? delay / 4 : delay, ...args),
  timer,
);

/**
 * Preloaded into a coordinator (`--import`), so that a test need not wait for what takes minutes: its wall clock is ahead by as many minutes as the file
 * HURRIED_CLOCK says at the moment, as after a jump, and whoever wants to sleep for LONG or more sleeps for a quarter of it.
 */
import { readFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import timers from "node:timers/promises";

const LONG_MS = 20_000;
const READ_EVERY_MS = 100;

const file = process.env.HURRIED_CLOCK ?? "";
const now = Date.now;
const sleep = timers.setTimeout;
let aheadMs = 0;
let readAt = Number.NEGATIVE_INFINITY;

Date.now = () => {
  if (performance.now() - readAt >= READ_EVERY_MS) {
    readAt = performance.now();
    aheadMs = Number(readFileSync(file, "utf8")) * 60_000;
  }
  return now() + aheadMs;
};
timers.setTimeout = (delay = 1, value, options) => sleep(delay >= LONG_MS ? delay / 4 : delay, value, options);
syncBuiltinESMExports();

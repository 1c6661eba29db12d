/** Times as people say them. The exact instant, in UTC, is one hover away (parts.tsx, When). */

import { durationText } from "../farm/duration-text.ts";
import { plural } from "./text.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** A span that counts on the page, in whole seconds, so that it does not flicker. */
export function running(spanMs: number): string {
  const span = Math.max(0, spanMs);
  return span < MINUTE ? `${Math.floor(span / SECOND)} s` : durationText(Math.floor(span / SECOND) * SECOND);
}

/**
 * An age: `just now`, `40 s ago`, `4 min ago`, `3 h ago`, `5 days ago`, then the date. A future time is `in about 3
 * min`.
 */
export function ago(at: number, now: number): string {
  const span = now - at;
  if (span < -5 * SECOND) return `in ${about(-span)}`;
  if (span < 5 * SECOND) return "just now";
  if (span < MINUTE) return `${Math.floor(span / (5 * SECOND)) * 5} s ago`;
  if (span < HOUR) return `${Math.floor(span / MINUTE)} min ago`;
  if (span < DAY) return `${Math.floor(span / HOUR)} h ago`;
  if (span < 2 * DAY) return "yesterday";
  if (span < 30 * DAY) return `${Math.floor(span / DAY)} days ago`;
  return utc(at).slice(0, 10);
}

/**
 * A limit that somebody set: `30 minutes`, `12 hours`, `7 days`. A span that is no whole number of these is given
 * exactly.
 */
export function limit(spanMs: number): string {
  for (const [unit, name] of [
    [DAY, "day"],
    [HOUR, "hour"],
    [MINUTE, "minute"],
  ] as const)
    if (spanMs >= unit && spanMs % unit === 0) return plural(spanMs / unit, name);
  return durationText(spanMs);
}

/** An estimate: `about 20 s`, `about 3 min`. It is rounded, so that it does not look exact. */
export function about(spanMs: number): string {
  if (spanMs < 10 * SECOND) return "a few seconds";
  if (spanMs < 90 * SECOND) return `about ${Math.round(spanMs / (10 * SECOND)) * 10} s`;
  if (spanMs < 90 * MINUTE) return `about ${Math.round(spanMs / MINUTE)} min`;
  return `about ${Math.round(spanMs / HOUR)} h`;
}

/** The rest of a limit: `up to 4 more minutes`, `up to 40 more seconds`. It is rounded up. */
export function atMost(spanMs: number): string {
  if (spanMs <= 50 * SECOND) return `up to ${Math.max(1, Math.ceil(spanMs / (10 * SECOND))) * 10} more seconds`;
  const minutes = Math.ceil(spanMs / MINUTE);
  return `up to ${minutes} more ${minutes === 1 ? "minute" : "minutes"}`;
}

/** The range of an estimate: `3 to 8 min`, `40 s to 5 min`; `about 4 min` where both ends round to the same. */
export function range(fromMs: number, toMs: number): string {
  const [from, to] = [rounded(fromMs), rounded(toMs)];
  if (from.value === to.value && from.unit === to.unit) return about(toMs);
  return from.unit === to.unit || from.value === 0
    ? `${from.value} to ${to.value} ${to.unit}`
    : `${from.value} ${from.unit} to ${to.value} ${to.unit}`;
}

function rounded(spanMs: number): { readonly value: number; readonly unit: string } {
  if (spanMs < 90 * SECOND) return { value: Math.round(spanMs / (10 * SECOND)) * 10, unit: "s" };
  if (spanMs < 90 * MINUTE) return { value: Math.round(spanMs / MINUTE), unit: "min" };
  return { value: Math.round(spanMs / HOUR), unit: "h" };
}

/** An instant, as `2026-11-23 19:25:27 UTC`. */
export function utc(at: number): string {
  return new Date(at)
    .toISOString()
    .replace("T", " ")
    .replace(/\.\d+Z$/, " UTC");
}

/** A time of today or the next 24 hours, as `19:25 UTC`. */
export function hour(at: number): string {
  return `${utc(at).slice(11, 16)} UTC`;
}

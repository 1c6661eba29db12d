/** A span as people read it in a log: `850ms`, `12.4s`, `10m0s`, `1h5m0s`. */
import type { Ms } from "../farm/ids.ts";

export function durationText(span: Ms): string {
  if (span < 1000) return `${Math.round(span)}ms`;
  if (span < 60_000) return `${Number((span / 1000).toFixed(1))}s`;
  const total = Math.round(span / 1000);
  const hours = Math.floor(total / 3600);
  const rest = `${Math.floor((total % 3600) / 60)}m${total % 60}s`;
  return hours > 0 ? `${hours}h${rest}` : rest;
}

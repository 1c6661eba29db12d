const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/**
 * A span in logs and on pages: `250 ms`, `2.1 s`, `45 s`, `3m 02s`, `4h 10m`, `3d 4h`. A span that a jumping clock made
 * negative is shown as 0.
 */
export function durationText(spanMs: number): string {
  const span = Math.max(0, spanMs);
  if (span < 995) return `${Math.round(span)} ms`;
  if (span < 9_950) return `${(span / SECOND).toFixed(1)} s`;
  if (span < MINUTE - 500) return `${Math.round(span / SECOND)} s`;
  if (span < HOUR) {
    const whole = Math.round(span / SECOND);
    return `${Math.floor(whole / 60)}m ${pad(whole % 60)}s`;
  }
  if (span < DAY) return `${Math.floor(span / HOUR)}h ${pad(Math.floor((span % HOUR) / MINUTE))}m`;
  return `${Math.floor(span / DAY)}d ${Math.floor((span % DAY) / HOUR)}h`;
}

function pad(value: number): string {
  return String(value).padStart(2, "0");
}

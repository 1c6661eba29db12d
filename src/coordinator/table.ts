/** Lists on a terminal. */
import type { EpochMs } from "../farm/ids.ts";

/** Rows as lines, with their columns aligned. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((cells) => cells[column]?.length ?? 0))) ?? [];
  return rows
    .map((cells) => {
      const line = cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
      return `${line.trimEnd()}\n`;
    })
    .join("");
}

/** An instant to the minute, in UTC; `none` for null. */
export function minute(instant: EpochMs | null, none: string): string {
  return instant === null ? none : new Date(instant).toISOString().slice(0, 16).replace("T", " ");
}

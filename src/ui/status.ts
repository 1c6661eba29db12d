/**
 * The nine statuses that people see: glyph, colour and word, never one of them alone.
 *
 * Only `success` and `failure` speak about the code. `infra_failure` is the farm's own fault and says so.
 */
import type { Outcome, Status } from "../farm/build.ts";

export interface StatusLook {
  readonly glyph: string;
  readonly word: string;
  /** The class in style.css. It has one or two letters because the grid repeats it 20,000 times. */
  readonly css: string;
}

export const STATUS: Readonly<Record<Status, StatusLook>> = {
  success: { glyph: "✓", word: "success", css: "ok" },
  failure: { glyph: "✕", word: "failure", css: "no" },
  infra_failure: { glyph: "▲", word: "infra failure", css: "in" },
  flaky: { glyph: "≈", word: "flaky", css: "fl" },
  running: { glyph: "◐", word: "running", css: "ru" },
  waiting: { glyph: "○", word: "waiting", css: "wa" },
  canceled: { glyph: "⊘", word: "canceled", css: "ca" },
  skipped: { glyph: "·", word: "skipped", css: "sk" },
  known_issue: { glyph: "✕", word: "known issue", css: "ki" },
};

/**
 * The status of a build, an attempt or a step, from its row in the database. A success with tests that failed at first
 * is flaky.
 */
export function statusOf(
  state: "scheduled" | "waiting" | "running" | "ended",
  outcome: Outcome | null,
  flakyTests = 0,
): Status {
  if (state === "ended" && outcome === "success" && flakyTests > 0) return "flaky";
  if (state === "ended") return outcome ?? "skipped";
  return state === "running" ? "running" : "waiting";
}

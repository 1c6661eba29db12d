/**
 * What the other side answered instead of doing it, as whoever wanted it is told: its own words, without what was sent to it and the numbers that
 * came back. Those stand in the log, at `info` where the machine broke: what it refuses otherwise is often normal, as a folder of reports that is not
 * there yet.
 */
import type { Log } from "../../farm/deps.ts";
import { type Code, FarmError } from "../../farm/errors.ts";

export interface Refused {
  /** Who answered. */
  readonly name: string;
  /** What was sent: `POST /exec`. */
  readonly call: string;
  /** What it was for, behind "Cannot": `run "make"`. */
  readonly doing: string;
  readonly status: number;
  readonly words: string;
}

export function refusal(log: Log, code: Code, { name, call, doing, status, words }: Refused): FarmError {
  log[code === "machine-broken" ? "info" : "debug"]({ name, call, status, words }, "What was asked for was not done");
  // Of a system's error, its text says what its name does.
  const said = words.replace(/\bE[A-Z0-9]{3,}: (?=[a-z])/, "");
  if (said.startsWith("Cannot ")) return new FarmError(code, said);
  return new FarmError(code, `Cannot ${doing}: ${said || `${name} answered ${status} without a reason`}`);
}

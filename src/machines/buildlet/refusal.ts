/**
 * A refusal of the other side as an error for the caller: its own words, without the request and the status. Those
 * stand in the log, at `info` where the machine broke. Other refusals are often normal: a folder of reports that does
 * not exist yet, for example.
 */
import type { Log } from "../../farm/deps.ts";
import { type Code, FarmError } from "../../farm/errors.ts";

export interface Refused {
  /** The name of the side that answered. */
  readonly name: string;
  /** The request, as `POST /exec`. */
  readonly call: string;
  /** What the request was for, as words behind "Cannot": `run "make"`. */
  readonly doing: string;
  readonly status: number;
  readonly words: string;
}

export function refusal(log: Log, code: Code, { name, call, doing, status, words }: Refused): FarmError {
  log[code === "machine-broken" ? "info" : "debug"]({ name, call, status, words }, "What was asked for was not done");
  // The text of a system's error says the same as its name, which is left out.
  const said = words.replace(/\bE[A-Z0-9]{3,}: (?=[a-z])/, "");
  if (said.startsWith("Cannot ")) return new FarmError(code, said);
  return new FarmError(code, `Cannot ${doing}: ${said || `${name} answered ${status} without a reason`}`);
}

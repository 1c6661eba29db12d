/**
 * A machine that works on the tests of a build and has nothing to run now: how long it waits, and what the log says.
 *
 * The build's own machine waits until the tests are over. A helper that has had nothing for HELPER_IDLE_FOR is given
 * back, unless there may be a test for it within as long again.
 */
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { type EpochMs, type Ms, ms, seconds } from "../farm/ids.ts";
import { shown } from "../store/test-lines.ts";
import type { TurnResult } from "../store/test-turn.ts";
import { LONG_WAIT } from "./said-wait.ts";

const HELPER_IDLE_FOR: Ms = seconds(5);
/** How often a waiting machine looks at the database, since news from other machines may get lost. */
const LOOK_AGAIN: Ms = seconds(5);

/** What a turn says to a machine that has nothing to run now. */
export type NothingNow = Extract<TurnResult, { next: "wait" }>;

/** How long a machine has had nothing to do. */
export class IdleTime {
  readonly #clock: Clock;
  #began: number | undefined;
  #due: Ms = LONG_WAIT;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The time so far. It begins with the first call after `end`. */
  soFar(): Ms {
    this.#began ??= this.#clock.monotonic();
    return ms(this.#clock.monotonic() - this.#began);
  }

  /** The time so far, when the log should tell of it: after LONG_WAIT, and each time that it has doubled since. */
  dueToTell(): Ms | undefined {
    const soFar = this.soFar();
    if (soFar < this.#due) return undefined;
    this.#due = ms(this.#due * 2);
    return soFar;
  }

  /** The machine has something to do again. */
  end(): void {
    this.#began = undefined;
    this.#due = LONG_WAIT;
  }
}

export interface IdleTimes {
  /** How long the machine has had nothing to do. */
  readonly idle: Ms;
  /** When there may be a test for it without any news; null: never. */
  readonly again: EpochMs | null;
  /** How much of its build's time is left. */
  readonly timeLeft: Ms;
}

/** How long an idle machine waits for news before it takes its next turn. Undefined: a helper that is given back. */
export function waitLimit(role: "main" | "helper", { idle, again, timeLeft }: IdleTimes, now: EpochMs): Ms | undefined {
  const untilAgain = again === null ? Infinity : again - now;
  const untilGivenBack = role === "main" ? Infinity : HELPER_IDLE_FOR - idle;
  if (untilGivenBack <= 0 && untilAgain > HELPER_IDLE_FOR) return undefined;
  const limits = [LOOK_AGAIN, timeLeft, untilAgain, untilGivenBack > 0 ? untilGivenBack : Infinity];
  return ms(Math.max(1, Math.min(...limits)));
}

/** What an idle machine waits for, for the log. */
export function waitText({ running, kept }: Pick<NothingNow, "running" | "kept">, now: EpochMs): string {
  const others = running > 0 ? [`for ${running} ${running === 1 ? "test" : "tests"} on other machines`] : [];
  // Nothing runs and nothing is kept for others: the tests that wait are slow, or were stopped here.
  if (kept === null) return others[0] ?? "for other machines";
  const more = kept.count > 1 ? ` and ${kept.count - 1} more` : "";
  const most = durationText(ms(Math.max(0, kept.until - now)));
  return [...others, `up to ${most} for another machine to run "${shown(kept.name)}"${more} once more`].join(", and ");
}

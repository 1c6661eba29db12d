/**
 * The limits of a command: how long it may run, how long it may be silent, and how long all commands of its build may
 * take. The first limit that is reached stops it. The farm itself has as long again for its own work before the
 * commands (store/build-time.ts).
 *
 * Spans are measured on the monotonic clock, so a wall clock that is set kills no command. A command that another
 * coordinator started tells how long it has run already (`ran`). While the log takes no more bytes the command does not
 * count as silent, since then we do not listen (`hold`).
 */
import type { Recipe, Step } from "../farm/build.ts";
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import { CREDIBLE, timeOf } from "../store/build-time.ts";

/** A command that prints nothing for so long is stopped, unless its builder has a limit of its own. */
const SILENCE_LIMIT: Ms = minutes(30);

export interface CommandLimits {
  readonly time: Ms;
  /** How long the command may print nothing. */
  readonly silence: Ms;
  /** The limit of all commands of its build together. */
  readonly build?: BuildLimit;
}

/** When a part of a build must be over, on the monotonic clock, and how long it may take in all. */
export interface BuildLimit {
  readonly endsAt: number;
  readonly limit: Ms;
}

/**
 * The limit of work that began at `from`. The wall clock tells only how much earlier drivers and attempts used up. It
 * is ignored when that cannot be true.
 */
export function buildLimit(clock: Clock, recipe: Recipe, from: EpochMs): BuildLimit {
  const limit = timeOf(recipe);
  const used = clock.now() - from;
  const credible = used >= 0 && used <= limit + CREDIBLE;
  return { endsAt: clock.monotonic() + limit - (credible ? used : 0), limit };
}

/** How much of the limit is left. */
export function timeLeft(clock: Clock, { endsAt }: BuildLimit): Ms {
  return ms(Math.max(0, endsAt - clock.monotonic()));
}

/** The limits of a command of a recipe. */
export function limitsOf(
  { limits }: Recipe,
  { timeLimitMs }: Pick<Step, "timeLimitMs">,
  build: BuildLimit,
): CommandLimits {
  return { time: ms(timeLimitMs), silence: ms(limits?.silenceMs ?? SILENCE_LIMIT), build };
}

/** The reason for a build that used up its time, in words for the author of the builder. */
export function outOfTimeText({ limit }: BuildLimit): string {
  return `timed out: its build has ${durationText(limit)}`;
}

/**
 * A call of the farm's own among the commands of a build: it ends `within` its own limit and the build's. When the
 * build's limit ends it, that is the farm's failure, and not the machine's.
 */
export function withinBuild<T>(
  clock: Clock,
  limit: Ms,
  build: BuildLimit,
  signals: readonly AbortSignal[],
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const left = timeLeft(clock, build);
  const late = new FarmError("unavailable", `${outOfTimeText(build)}; it waited for ${what}`);
  return left < limit ? within(clock, left, signals, late, work) : within(clock, limit, signals, what, work);
}

export class LimitWatch implements Disposable {
  readonly #clock: Clock;
  readonly #limits: CommandLimits;
  readonly #outOfTime = new AbortController();
  readonly #over = new AbortController();
  #began: number;
  #heard: number;
  #held = 0;
  #timer = new AbortController();

  constructor(clock: Clock, limits: CommandLimits) {
    this.#clock = clock;
    this.#limits = limits;
    this.#began = clock.monotonic();
    this.#heard = this.#began;
    this.#arm();
  }

  /** Aborts with a FarmError `timed-out`, in words for the author of the command. */
  get signal(): AbortSignal {
    return this.#outOfTime.signal;
  }

  /** The command has been running for `span` by now. */
  ran(span: Ms): void {
    this.#heard = this.#clock.monotonic();
    this.#began = Math.min(this.#began, this.#heard - span);
    this.#timer.abort(ENOUGH);
    this.#arm();
  }

  /**
   * The command has printed something that the log has not taken yet. The caller calls the returned function when it
   * has.
   */
  hold(): () => void {
    this.#held++;
    return () => {
      this.#held--;
      this.#heard = this.#clock.monotonic();
    };
  }

  [Symbol.dispose](): void {
    this.#over.abort(ENOUGH);
    this.#timer.abort(ENOUGH);
  }

  #arm(): void {
    if (this.#over.signal.aborted) return;
    const now = this.#clock.monotonic();
    const { due, words } = this.#nearest(now);
    if (due <= now) {
      this.#outOfTime.abort(new FarmError("timed-out", words));
      return;
    }
    this.#timer = new AbortController();
    this.#clock.sleep(ms(due - now), this.#timer.signal).then(
      () => this.#arm(),
      () => {},
    );
  }

  /** The limit that is reached first, as things stand at `now`. */
  #nearest(now: number): { readonly due: number; readonly words: string } {
    const { time, silence, build } = this.#limits;
    const heard = this.#held > 0 ? now : this.#heard;
    const limits = [
      { due: this.#began + time, words: `timed out after ${durationText(time)}` },
      { due: heard + silence, words: `timed out: it printed nothing for ${durationText(silence)}` },
    ];
    if (build) limits.push({ due: build.endsAt, words: outOfTimeText(build) });
    return limits.reduce((first, other) => (other.due < first.due ? other : first));
  }
}

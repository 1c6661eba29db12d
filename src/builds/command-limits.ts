/**
 * How long a command may run, how long it may be silent, and how long all commands of its build may take: whichever ends first. The farm
 * itself has as long once more for what comes before them (store/build-time.ts).
 *
 * Spans are measured on the monotonic clock, so nobody's wall clock kills a command. A command that another coordinator started tells how
 * long it has run already (`ran`). While the log takes no more bytes the command is not silent: it is us who do not listen (`hold`).
 */
import type { Recipe, Step } from "../farm/build.ts";
import { type Clock, ENOUGH } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import { CREDIBLE, timeOf } from "../store/build-time.ts";

/** A command that prints nothing for so long is stopped, where the builder has no limit of its own. */
const SILENCE_LIMIT: Ms = minutes(30);

export interface CommandLimits {
  readonly time: Ms;
  /** Without any output. */
  readonly silence: Ms;
  /** Of the build that it belongs to. */
  readonly build?: BuildLimit;
}

/** When a part of a build must be over, on the monotonic clock, and what it was allowed. */
export interface BuildLimit {
  readonly endsAt: number;
  readonly limit: Ms;
}

/** When what began at `from` must be over. The wall clock tells only what earlier drivers and attempts used up, and only while that can be true. */
export function buildLimit(clock: Clock, recipe: Recipe, from: EpochMs): BuildLimit {
  const limit = timeOf(recipe);
  const used = clock.now() - from;
  const credible = used >= 0 && used <= limit + CREDIBLE;
  return { endsAt: clock.monotonic() + limit - (credible ? used : 0), limit };
}

/** What is left of it. */
export function timeLeft(clock: Clock, { endsAt }: BuildLimit): Ms {
  return ms(Math.max(0, endsAt - clock.monotonic()));
}

/** What stops a command of a recipe. */
export function limitsOf(
  { limits }: Recipe,
  { timeLimitMs }: Pick<Step, "timeLimitMs">,
  build: BuildLimit,
): CommandLimits {
  return { time: ms(timeLimitMs), silence: ms(limits?.silenceMs ?? SILENCE_LIMIT), build };
}

/** In words for whoever wrote the builder. */
export function outOfTimeText({ limit }: BuildLimit): string {
  return `timed out: its build has ${durationText(limit)}`;
}

/**
 * A call of the farm's own among the commands of a build: `within` its own limit, and for no longer than the build has. When that ends it, it
 * is the farm's failure, and not the machine's.
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

  /** Aborts with a FarmError `timed-out`, in words for whoever wrote the command. */
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

  /** Something was printed, and is on its way until the function given is called. */
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

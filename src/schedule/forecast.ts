/**
 * When waiting work may begin: the line of one host type played forward, many times, with durations drawn from recent
 * ones.
 *
 * A busy machine becomes free when its work has taken as long as some recent run of the same builder that took longer
 * than the work has taken so far. Work that has taken longer than all recent runs is assumed to need up to half as long
 * again. The first in the line takes the machine that is free first, and holds it for a recent duration of its builder.
 *
 * Durations are machine time: of a build with helpers, what its own machine and these spent on it together. The more
 * machines work for it now, the sooner it ends. What waits gets no helper while something waits behind it, since whole
 * builds go first.
 *
 * Machines that help with the tests of a build become free when that build ends, all at one moment. So does one that
 * is only wanted for that: a build that has ended has no use for it.
 *
 * RUNS such futures give the range. One in ten begins earlier than `earliestMs`, one in ten later than `latestMs`, half
 * of them by `aboutMs`.
 *
 * The unknown is not guessed. Work of a builder that never ran keeps its machine for ever here. If that leaves no
 * machine, there is no forecast. The forecast does not foresee work that comes later and goes first (a newer commit, a
 * person), nor machines that leave or join: it is for "if nothing else happens". The draws are the same each time, so
 * that a page does not flicker.
 */
const RUNS = 100;
/** Recent durations of one builder in ms of machine time, ascending; empty when it never ran. */
export type Durations = readonly number[];

/** A build that goes on. All machines that work for it have the same object. */
export interface Work {
  /** What the machines that work for it have spent on it so far, together. */
  readonly spentMs: number;
  /** How many they are. */
  readonly machines: number;
  readonly durations: Durations;
}

export interface Serving {
  /** Null: the machine is free. */
  readonly work: Work | null;
}

/** What waits: a build, or a machine's help with a build that goes on. */
export type Wanted = { readonly durations: Durations } | { readonly helps: Work };

export interface Forecast {
  readonly earliestMs: number;
  readonly aboutMs: number;
  readonly latestMs: number;
}

/** For each of `queue`, in its order, how long from now until it may begin. Null where that is unknown. */
export function forecast(machines: readonly Serving[], queue: readonly Wanted[]): (Forecast | null)[] {
  const begins = queue.map(() => new Float64Array(RUNS));
  const random = generator(1);
  for (let run = 0; run < RUNS; run++) {
    const ends = new Map<Work, number>();
    const endOf = (work: Work): number => {
      const end = ends.get(work) ?? remaining(work, random());
      ends.set(work, end);
      return end;
    };
    const free = new Heap(machines.map(({ work }) => (work === null ? 0 : endOf(work))));
    for (const [place, wanted] of queue.entries()) {
      const at = free.least;
      (begins[place] as Float64Array)[run] = at;
      free.replaceLeast("helps" in wanted ? Math.max(at, endOf(wanted.helps)) : at + drawn(wanted.durations, random()));
    }
  }
  return begins.map((runs) => {
    runs.sort();
    const [earliestMs, aboutMs, latestMs] = [10, 50, 90].map(
      (percent) => runs[(percent * RUNS) / 100 - 1] ?? Number.POSITIVE_INFINITY,
    ) as [number, number, number];
    return latestMs === Number.POSITIVE_INFINITY ? null : { earliestMs, aboutMs, latestMs };
  });
}

function remaining(work: Work, dice: number): number {
  if (work.durations.length === 0) return Number.POSITIVE_INFINITY;
  const past = Math.max(0, work.spentMs);
  const longer = work.durations.filter((duration) => duration > past);
  const left = longer.length === 0 ? (past / 2) * dice : Math.max(0, drawn(longer, dice) - past);
  return left / work.machines;
}

/** A random one of the durations: longer than the share `dice` of them, interpolated between two recent ones. */
function drawn(durations: Durations, dice: number): number {
  const [first, last] = [durations[0], durations.at(-1)];
  if (first === undefined || last === undefined) return Number.POSITIVE_INFINITY;
  // The fewer runs there were, the less their longest and shortest say.
  const tail = 1 + 1 / Math.sqrt(durations.length);
  const place = dice * (durations.length + 1) - 1;
  const below = place < 0 ? first / tail : (durations[Math.floor(place)] ?? last);
  const above = durations[Math.floor(place) + 1] ?? last * tail;
  return below + (above - below) * (place - Math.floor(place));
}

/** A generator of numbers from 0 to 1, the same ones for the same seed. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The instants at which machines become free, the earliest on top. */
class Heap {
  readonly #values: Float64Array;

  constructor(values: readonly number[]) {
    this.#values = Float64Array.from(values).sort();
  }

  /** Infinity when there is no machine. */
  get least(): number {
    return this.#values[0] ?? Number.POSITIVE_INFINITY;
  }

  replaceLeast(value: number): void {
    const values = this.#values;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= values.length) break;
      if ((values[child + 1] ?? Number.POSITIVE_INFINITY) < (values[child] as number)) child++;
      if ((values[child] as number) >= value) break;
      values[place] = values[child] as number;
      place = child;
    }
    if (values.length > 0) values[place] = value;
  }
}

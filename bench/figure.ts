/**
 * Figures: what a bench says, one JSON line each on stdout.
 *
 *   {"bench":"dispatch","figure":"p50","unit":"ms","value":7.1,"spread":[6.8,7.9],"runs":5,"goal":15}
 *
 * A bench measures the same thing in several runs; `value` is the median over them and `spread` the least and the
 * greatest. `goal` is missing where a figure is for information only. Whether a goal is a ceiling or a floor is not part of the
 * line: ratios and rates are to be at least their goal, everything else at most.
 */

export interface Goal {
  readonly value: number;
  readonly is: "at-most" | "at-least";
}

export interface Figure {
  readonly bench: string;
  readonly figure: string;
  readonly unit: string;
  readonly value: number;
  readonly spread: readonly [least: number, greatest: number];
  readonly runs: number;
  readonly goal?: Goal;
}

export interface Measured {
  readonly bench: string;
  readonly figure: string;
  readonly unit: string;
  /** One value per run, at least one. */
  readonly values: readonly number[];
  readonly goal?: Goal;
}

export function atMost(value: number): Goal {
  return { value, is: "at-most" };
}

export function atLeast(value: number): Goal {
  return { value, is: "at-least" };
}

/** Sums up the runs of one figure. Throws RangeError when there are none, or one is not a number. */
export function figureOf({ values, ...rest }: Measured): Figure {
  if (values.length === 0 || values.some((value) => !Number.isFinite(value))) {
    throw new RangeError(`Cannot sum up ${rest.bench} ${rest.figure}: the runs gave [${values.join(", ")}]`);
  }
  return {
    ...rest,
    value: rounded(median(values)),
    spread: [rounded(Math.min(...values)), rounded(Math.max(...values))],
    runs: values.length,
  };
}

/** The line for stdout, without its line feed. */
export function formatFigure(figure: Figure): string {
  const { bench, figure: name, unit, value, spread, runs, goal } = figure;
  return JSON.stringify({ bench, figure: name, unit, value, spread, runs, ...(goal && { goal: goal.value }) });
}

/** Undefined when the figure has no goal. */
export function isReached({ value, goal }: Figure): boolean | undefined {
  if (!goal) return undefined;
  return goal.is === "at-most" ? value <= goal.value : value >= goal.value;
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/**
 * The value that `percent` of `values` do not exceed, interpolated between neighbours, so that the median of an even
 * number is the middle of the two in the middle. NaN for no values.
 */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = Float64Array.from(values).sort();
  const place = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(place)] ?? Number.NaN;
  const above = sorted[Math.ceil(place)] ?? Number.NaN;
  return below + (above - below) * (place - Math.floor(place));
}

/** Three significant digits, and never fewer than all those before the point. */
function rounded(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

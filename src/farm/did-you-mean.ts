/**
 * A suggestion for a mistyped name: of a field, a flag, a host type, a machine. Every message that refuses a name ends
 * with it.
 */

/** The name of `known` that `given` was probably meant to be, as the end of a sentence. "" when none is similar. */
export function didYouMean(given: string, known: Iterable<string>): string {
  let best: { readonly name: string; readonly away: number } | undefined;
  for (const name of known) {
    const away = distance(given.toLowerCase(), name.toLowerCase());
    if (away <= Math.max(1, Math.floor(name.length / 4)) && away < (best?.away ?? Infinity)) best = { name, away };
  }
  return best ? `; did you mean ${JSON.stringify(best.name)}?` : "";
}

/** How many letters to add, drop, change or swap with their neighbour to get from `a` to `b`. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      next[j] = Math.min(
        change,
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        swapped ? (before[j - 2] ?? 0) + 1 : Infinity,
      );
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}

/** The random numbers of simulated farms. Figures of different days compare because these numbers never change. */

/** The same numbers between 0 and 1 for the same seed, so that a change of what is measured can be told from luck. */
export function generator(seed: number): () => number {
  let state = (seed * 2654435761) % 2147483647;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

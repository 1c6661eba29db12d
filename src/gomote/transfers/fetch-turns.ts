/**
 * Fetches of people from elsewhere. AT_A_TIME of each person go on; the others wait, first come, first served, for one
 * to end. Every fetch ends, by the limits of meter.ts.
 */
import type { PersonId } from "../../farm/ids.ts";

export const AT_A_TIME = 4;

interface Row {
  going: number;
  readonly waiting: Set<() => void>;
}

export class FetchTurns {
  readonly #rows = new Map<PersonId, Row>();

  /**
   * Resolves when `person` may fetch. The result is to be called once, when the fetch is over. Rejects with the reason
   * of `signal`.
   */
  async take(person: PersonId, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const row = this.#rows.get(person) ?? { going: 0, waiting: new Set() };
    this.#rows.set(person, row);
    if (row.going < AT_A_TIME) row.going++;
    else await turnIn(row, signal);
    return () => {
      const [next] = row.waiting;
      if (next) next();
      else if (--row.going === 0) this.#rows.delete(person);
    };
  }
}

function turnIn({ waiting }: Row, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settled = () => {
      waiting.delete(begin);
      signal.removeEventListener("abort", leave);
    };
    const begin = () => {
      settled();
      resolve();
    };
    const leave = () => {
      settled();
      reject(signal.reason);
    };
    waiting.add(begin);
    signal.addEventListener("abort", leave, { once: true });
  });
}

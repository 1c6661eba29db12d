/**
 * Fetches of people from elsewhere: AT_A_TIME of each go on, and the others wait for one to end, which each does (meter.ts). First come
 * first served.
 */
import type { PersonId } from "../../farm/ids.ts";

export const AT_A_TIME = 4;

interface Row {
  going: number;
  readonly waiting: Set<() => void>;
}

export class FetchTurns {
  readonly #rows = new Map<PersonId, Row>();

  /** Resolves when `person` may fetch; the answer is to be called once, when that is over. Rejects with the reason of `signal`. */
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

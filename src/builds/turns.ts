/**
 * The turns of this coordinator's machines at the tests of their builds (store/test-turn.ts), a few of each build at a
 * time.
 *
 * All turns of a build follow one another in the database, and each turn that waits there holds a connection. Any
 * number of machines may work on a build, so all but AT_ONCE of their turns wait here: one is at work, and the next is
 * behind it. So the other connections stay free for other builds and machines.
 */
import type { BuildId } from "../farm/ids.ts";

export const AT_ONCE = 2;

interface Row {
  begun: number;
  readonly waiting: (() => void)[];
}

export class Turns {
  readonly #rows = new Map<BuildId, Row>();

  /** Takes a turn at `build`, after the turns that were asked for before it. */
  async take<T>(build: BuildId, turn: () => Promise<T>): Promise<T> {
    const row = this.#rows.get(build) ?? { begun: 0, waiting: [] };
    this.#rows.set(build, row);
    if (row.begun < AT_ONCE) row.begun++;
    else await new Promise<void>((resolve) => row.waiting.push(resolve));
    try {
      return await turn();
    } finally {
      const next = row.waiting.shift();
      if (next) next();
      else if (--row.begun === 0) this.#rows.delete(build);
    }
  }
}

/**
 * What somebody does in a shell, over ssh or in a browser, as a command of their instance: the machine's owner sees it, and it can be killed.
 *
 *   begun -its shell is over-> ended, with how
 *   begun -`gomote kill`-> `killed` aborts, upon which whoever serves the shell ends it
 *
 * It is written down, with its entry in the audit, before anything runs. Who kills it may have come to another coordinator than who opened it: what
 * the database says of its end counts (rpc/commands.ts writes that), and a topic says only that somebody should look.
 */
import { type Clock, ENOUGH } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import type { Instance } from "../store/gomote.ts";
import { commandBegan, commandEnded, commandOfInstance } from "../store/gomote-commands.ts";
import type { Sql } from "../store/sql.ts";

/** How a command ended that its owner killed. */
export const KILLED = "it was killed by whoever ran it";

/** The topic of a command that was killed. */
export function killedTopic(instance: number, number: number): string {
  return `gomote-killed:${instance}.${number}`;
}

/** What is written down of one that begins. */
export interface Beginning {
  readonly who: string;
  /** Among the commands of the instance. */
  readonly command: string;
  /** In the audit. */
  readonly action: string;
  readonly detail: string;
}

export interface ShellCommand {
  readonly number: number;
  /** With a sentence for whoever is at the shell. */
  readonly killed: AbortSignal;
  /** To be called once. A database that fails at this moment forgets how it ended, and no more. */
  ended(state: string): Promise<void>;
}

export interface ShellCommandsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
}

export class ShellCommands {
  readonly #deps: ShellCommandsDeps;

  constructor(deps: ShellCommandsDeps) {
    this.#deps = deps;
  }

  async begin({ id, name }: Pick<Instance, "id" | "name">, beginning: Beginning): Promise<ShellCommand> {
    const { sql, bus, clock, log } = this.#deps;
    const { who, command, action, detail } = beginning;
    const now = clock.now();
    const entry = { at: now, who, action, subject: `gomote:${name}`, detail };
    const number = await commandBegan(sql, { instance: id, who, command, dir: "" }, now, entry);
    bus.publish(`gomote:${id}`);
    const killed = new AbortController();
    const over = new AbortController();
    const look = async () => {
      const ran = await commandOfInstance(sql, id, String(number));
      if (ran?.state === KILLED && !over.signal.aborted)
        killed.abort(new FarmError("canceled", "It was killed with gomote kill."));
    };
    const called = () => {
      look().catch((error: unknown) =>
        log.warn({ instance: name, error: messageOf(error) }, "Could not look whether a shell was killed"),
      );
    };
    bus.subscribe(killedTopic(id, number), called, over.signal);
    return {
      number,
      killed: killed.signal,
      ended: async (state) => {
        over.abort(ENOUGH);
        await commandEnded(sql, number, state, clock.now()).catch((error: unknown) =>
          log.warn({ instance: name, error: messageOf(error) }, "Could not write down how a shell ended"),
        );
        bus.publish(`gomote:${id}`);
      },
    };
  }
}

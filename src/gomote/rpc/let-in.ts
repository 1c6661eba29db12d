/**
 * Calls that go on, and the tokens that let them in.
 *
 *   let in -answered, or its caller leaves-> gone
 *   let in -its token expires or is revoked-> ended, with the reason
 *
 * A token is checked again when something about its person is published, and every LOOK_EVERY: a token expires without
 * a topic, and a topic may get lost. While the check itself fails, calls go on.
 */
import type { FarmConfig } from "../../config/effective.ts";
import type { Clock } from "../../farm/clock.ts";
import type { Bus, Log } from "../../farm/deps.ts";
import { FarmError } from "../../farm/errors.ts";
import { every } from "../../farm/every.ts";
import { type Ms, minutes, type PersonId } from "../../farm/ids.ts";
import type { Caller, Identify } from "./faces.ts";

export const LOOK_EVERY: Ms = minutes(1);
/** Calls at a time that every person may have; those who may have many instances get more. */
const MOST_CALLS = 1024;
/** Calls at a time for each instance that a person may have. */
const CALLS_OF_INSTANCE = 50;

/** Calls at a time of a person who may have `perPerson` instances. */
export function mostCalls(perPerson: number): number {
  return Math.max(MOST_CALLS, perPerson * CALLS_OF_INSTANCE);
}

interface Call {
  readonly bearer: string;
  readonly person: PersonId;
  readonly end: AbortController;
}

export interface Admitted {
  readonly caller: Caller;
  /** Aborts when their token expires or is revoked; the reason is a FarmError that says which. */
  readonly ended: AbortSignal;
}

export interface LetInDeps {
  readonly people: Identify;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => Pick<FarmConfig, "gomote">;
}

export class LetIn implements AsyncDisposable {
  readonly #people: Identify;
  readonly #config: LetInDeps["config"];
  readonly #calls = new Set<Call>();
  readonly #stop = new AbortController();
  readonly #looks: Promise<void>;

  constructor(deps: LetInDeps) {
    this.#people = deps.people;
    this.#config = deps.config;
    const { signal } = this.#stop;
    deps.bus.subscribe("person:", (topic) => void this.#look(topic.slice("person:".length)), signal);
    this.#looks = every(LOOK_EVERY, () => this.#look(""), "Could not look whose calls go on", deps, signal);
  }

  /**
   * Lets in a call of the person who shows `bearer`. It goes on until `over` aborts. Throws FarmError
   * `unauthenticated`, or `too-large` when the person has `mostCalls` already.
   */
  async admit(bearer: string, over: AbortSignal): Promise<Admitted> {
    const caller = await this.#people.identify(bearer);
    const going = [...this.#calls].filter(({ person }) => person === caller.id).length;
    const most = mostCalls(this.#config().gomote.perPerson);
    if (going >= most)
      throw new FarmError(
        "too-large",
        `Cannot take another call of yours: ${going} go on, and ${most} may at a time; wait until one has ended.`,
      );
    const end = new AbortController();
    const call = { bearer, person: caller.id, end };
    if (!over.aborted) {
      this.#calls.add(call);
      over.addEventListener("abort", () => this.#calls.delete(call), { once: true });
    }
    return { caller, ended: end.signal };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#looks;
  }

  /** Ends calls whose token no longer lets in: those of one person, or of everybody for "". */
  async #look(person: string): Promise<void> {
    const calls = [...this.#calls].filter((call) => person === "" || call.person === person);
    const byBearer = Map.groupBy(calls, ({ bearer }) => bearer);
    await Promise.all(
      [...byBearer].map(async ([bearer, theirs]) => {
        try {
          await this.#people.identify(bearer);
        } catch (error) {
          if (!(error instanceof FarmError && error.code === "unauthenticated")) return;
          for (const { end } of theirs) end.abort(error);
        }
      }),
    );
  }
}

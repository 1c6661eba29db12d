/**
 * What people run on their instances, commands and shells, from when it is written down until it is known to be over.
 *
 *   attended   by the coordinator that began it, which hears how it ends, and writes that down
 *   left       that coordinator ended, lost the machine, or could not write the end down: nobody attends to it, and it may run still. Whoever has
 *              its machine ends it there and writes that down; once its instance has ended, anybody does
 *   over       it says how it ended
 *
 *   attended -ends, is killed-> over;  attended -> left -> over
 *
 * Always: nothing runs before it is written down, together with its entry in the audit; and what may run is not over, so that whoever ran it and
 * whoever looks after the machine see it, and can kill it. Who kills may have come to another coordinator than who attends: the wish is in the
 * database, a topic says only that somebody should look, and every CHECK_EVERY each coordinator looks by itself.
 */
import { CHECK_EVERY } from "../builds/builds.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type CoordinatorId, type EpochMs, epochMs, type Ms, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { within } from "../farm/within.ts";
import { newAct } from "../store/audit.ts";
import type { Instance } from "../store/gomote.ts";
import {
  commandBegan,
  commandEnded,
  commandOfInstance,
  killAsked,
  killsAsked,
  type LeftCommand,
  leaveCommands,
  leftCommands,
} from "../store/gomote-commands.ts";
import type { Sql } from "../store/sql.ts";
import type { Rights } from "./access.ts";
import type { Instances } from "./instances.ts";
import { auditText } from "./rpc/requests.ts";

/** For a machine to kill a command, and somebody who wants that to wait for it. */
const KILL_LIMIT: Ms = seconds(20);
/** Whoever waits for an end looks by themselves so often. */
const END_LOOK_EVERY: Ms = seconds(1);
const KILL_TOPIC = "gomote-kill:";
/** How something ended whose end nobody heard of. */
const LEFT = "nobody attended to it any more";

/** What is written down of one that begins. */
export interface Beginning {
  readonly who: string;
  /** Among the commands of the instance. */
  readonly command: string;
  readonly dir: string;
  /** In the audit. */
  readonly action: string;
  readonly detail: string;
}

export interface RunningCommand {
  readonly number: number;
  /** Somebody wants it killed; the reason says who, and is how it then ends. */
  readonly killed: AbortSignal;
  /** To be called once, by whoever attends to it: how it ended; undefined: it may run still. */
  ended(state: string | undefined): Promise<void>;
}

/** Who wants something killed. */
export interface Killer {
  readonly who: string;
  readonly as: Rights["as"];
}

export interface RunningCommandsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly instances: Pick<Instances, "here">;
}

export class RunningCommands implements AsyncDisposable {
  readonly #deps: RunningCommandsDeps;
  /** What is attended to here, by its number. */
  readonly #attended = new Map<number, AbortController>();
  /** Since when something is being written down that begins. */
  readonly #beginning = new Set<{ readonly at: EpochMs }>();
  /** What was left and is being ended here. */
  readonly #ending = new Map<number, Promise<void>>();
  readonly #stop = new AbortController();
  readonly #wake: Wake;
  readonly #looks: Promise<void>;

  constructor(deps: RunningCommandsDeps) {
    const { signal } = this.#stop;
    this.#deps = deps;
    this.#wake = new Wake(deps.clock, signal);
    deps.bus.subscribe(KILL_TOPIC, () => this.#wake.call(), signal);
    this.#looks = this.#run();
  }

  async begin({ id, name }: Pick<Instance, "id" | "name">, beginning: Beginning): Promise<RunningCommand> {
    const { sql, bus, clock, coordinator } = this.#deps;
    const { who, command, dir, action, detail } = beginning;
    const began = { at: clock.now() };
    const entry = { ...newAct(began.at), who, action, subject: `gomote:${name}`, detail: auditText(detail) };
    const killed = new AbortController();
    this.#beginning.add(began);
    try {
      const number = await commandBegan(sql, { instance: id, coordinator, who, command, dir }, began.at, entry);
      this.#attended.set(number, killed);
      bus.publish(`gomote:${id}`);
      return { number, killed: killed.signal, ended: (state) => this.#ended(id, number, killed.signal, state) };
    } finally {
      this.#beginning.delete(began);
    }
  }

  /**
   * Ends a command of an instance, with all that it started; resolves once it is over. Throws FarmError: `not-found`, and `timed-out` when it may
   * run still, though it ends as soon as whoever attends to it, or its machine, can be reached.
   */
  async kill(instance: Pick<Instance, "id" | "name">, number: string, { who, as }: Killer): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    const { id, name } = instance;
    const ran = /^\d{1,15}$/.test(number) ? await commandOfInstance(sql, id, Number(number)) : undefined;
    if (!ran)
      throw new FarmError("not-found", `There is no command ${JSON.stringify(number.slice(0, 100))} of ${name}.`);
    if (ran.endedAt !== null) return;
    const subject = `gomote:${name}`;
    const entry = { ...newAct(clock.now()), who, action: "gomote kill", subject, detail: auditText(ran.command) };
    await killAsked(sql, ran.id, `it was killed by ${as === "borrower" ? "whoever ran it" : article(as)}`, entry);
    const late = new FarmError(
      "timed-out",
      `Command ${ran.id} of ${name} is to end, and has not yet: it does as soon as its machine can be reached.`,
    );
    const done = new AbortController();
    await within(clock, KILL_LIMIT, [this.#stop.signal], late, async (limited) => {
      const either = AbortSignal.any([limited, done.signal]);
      const wake = new Wake(clock, either);
      bus.subscribe(`gomote:${id}`, () => wake.call(), either);
      bus.publish(`${KILL_TOPIC}${ran.id}`);
      bus.publish(`gomote:${id}`);
      while (!limited.aborted) {
        const now = await commandOfInstance(sql, id, ran.id);
        if (!now || now.endedAt !== null) return;
        await wake.sleep(END_LOOK_EVERY);
      }
    }).finally(() => done.abort());
  }

  /** Kills what is to be killed, lets go of what nobody attends to here, and ends what was left on machines that are connected here. */
  async look(): Promise<void> {
    const { sql, clock, coordinator } = this.#deps;
    for (const { id, kill } of await killsAsked(sql, coordinator))
      this.#attended.get(id)?.abort(new FarmError("canceled", kill));
    const before = epochMs(Math.min(clock.now(), ...[...this.#beginning].map(({ at }) => at)));
    await leaveCommands(sql, coordinator, [...this.#attended.keys()], before);
    for (const left of await leftCommands(sql, coordinator)) {
      if (this.#ending.has(left.id)) continue;
      const ending = this.#endLeft(left)
        .catch((error: unknown) => this.#warn(error))
        .finally(() => this.#ending.delete(left.id));
      this.#ending.set(left.id, ending);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new FarmError("unavailable", "The coordinator is stopping."));
    await this.#looks;
    await Promise.all(this.#ending.values());
  }

  async #ended(instance: number, number: number, killed: AbortSignal, state: string | undefined): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    try {
      if (state !== undefined)
        await commandEnded(sql, number, killed.aborted ? messageOf(killed.reason) : state, clock.now());
    } catch (error) {
      this.#warn(error); // it is left
    } finally {
      this.#attended.delete(number);
    }
    bus.publish(`gomote:${instance}`);
  }

  async #endLeft({ id, instance, kill, over }: LeftCommand): Promise<void> {
    const { sql, bus, clock, instances } = this.#deps;
    if (!over) {
      const held = instances.here(instance);
      if (!held) return;
      const { machine } = held;
      if (machine.resumes)
        await within(
          clock,
          KILL_LIMIT,
          [held.over, this.#stop.signal],
          `ending a command on ${machine.name}`,
          (limited) => machine.client.endExecution(executionOf(instance, id), limited),
        );
    }
    await commandEnded(sql, id, kill ?? (over ? "its instance ended" : LEFT), clock.now());
    bus.publish(`gomote:${instance}`);
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await this.#wake.sleep(CHECK_EVERY);
      if (!this.#stop.signal.aborted) await this.look().catch((error: unknown) => this.#warn(error));
    }
  }

  #warn(error: unknown): void {
    this.#deps.log.warn({ error: messageOf(error) }, "Could not look after what people run; trying again");
  }
}

/** What a machine knows a command by, whichever coordinator asks. */
export function executionOf(instance: number, number: number): string {
  return `g${instance}.${number}`;
}

function article(as: Killer["as"]): string {
  return as === "operator" ? "an operator" : `the ${as}`;
}

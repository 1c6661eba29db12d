/**
 * What people run on their instances, commands and shells: from when it is written down until it is known to be over.
 *
 *   attended   the coordinator that began it hears how it ends, and writes that down
 *   left       that coordinator ended, lost the machine, or could not write the end down; nobody attends to it, and it
 *              may still run. The coordinator that has the machine ends it there, and writes that down; once the
 *              instance has ended, any coordinator does
 *   over       its row says how it ended
 *
 *   attended -ends, or is killed-> over;  attended -> left -> over
 *
 * Always: nothing runs before it is written down, together with its entry in the audit. What may still run is not over,
 * so that the borrower and the people who look after the machine see it, and can kill it.
 *
 * A person may ask another coordinator for a kill than the one that attends. So the database keeps that wish; a topic
 * says only that somebody should look, and each coordinator also looks every CHECK_EVERY.
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

/** How long a machine may take to kill a command, and how long the person who wants that waits for it. */
const KILL_LIMIT: Ms = seconds(20);
/** How often the wait for an end looks in the database, should the topic get lost. */
const END_LOOK_EVERY: Ms = seconds(1);
const KILL_TOPIC = "gomote-kill:";
/** The state of something whose end nobody heard of. */
const LEFT = "nobody attended to it any more";

/** What is written down about a command or shell that begins. */
export interface Beginning {
  readonly who: string;
  /** Its words, as the list of the instance's commands shows them. */
  readonly command: string;
  readonly dir: string;
  /** The action of its entry in the audit. */
  readonly action: string;
  readonly detail: string;
}

export interface RunningCommand {
  readonly number: number;
  /** Aborts when somebody wants it killed. The reason says who, and is the state in which it ends. */
  readonly killed: AbortSignal;
  /** Says how it ended; undefined: it may still run. To be called once, by the code that attends to it. */
  ended(state: string | undefined): Promise<void>;
}

/** The person who wants something killed. */
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
  /** Number of a command that is attended to here -> what aborts its `killed`. */
  readonly #attended = new Map<number, AbortController>();
  /** Commands that are being written down, each with the time when that began. */
  readonly #beginning = new Set<{ readonly at: EpochMs }>();
  /** Number of a left command -> its end, which is under way here. */
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
   * Ends a command of an instance with all that it started, and resolves once it is over. Throws FarmError `not-found`;
   * `timed-out` when it may still run. It then ends as soon as its coordinator or its machine can be reached.
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

  /**
   * Kills commands that are to be killed, marks those as left that nobody attends to here, and ends left ones on
   * machines that are connected here.
   */
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
      this.#warn(error); // the command is left
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

/** The id by which a machine knows a command, whichever coordinator asks. */
export function executionOf(instance: number, number: number): string {
  return `g${instance}.${number}`;
}

function article(as: Killer["as"]): string {
  return as === "operator" ? "an operator" : `the ${as}`;
}

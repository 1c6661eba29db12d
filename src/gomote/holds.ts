/**
 * Holding the machine of a build for when it fails: `gomote repro -hold`.
 *
 *   asked -the build fails-> kept    the build's lease ends, and a lease of the person who asked begins on the same
 *                                    machine, which is not emptied
 *   asked -the build ends otherwise, or the machine cannot be kept-> refused, with the reason
 *   asked, kept -the client leaves-> left -COMES_BACK-> forgotten
 *   asked, kept, left -the same person asks again-> theirs, by the new request
 *   asked, kept, left -this coordinator stops or dies-> unchanged, for a client that asks again
 *   asked -nobody asks again for long after that, and the build fails-> forgotten
 *
 * A client that was cut off asks again, here or at another coordinator. It may do so before this coordinator knows that
 * it was cut off. The earlier request then owns nothing any more, and ends nothing.
 *
 * A build that has failed already is asked for in the same way. Its machine is kept if nothing else has had it since.
 *
 * The coordinator that ends a build as failed keeps its machine in the same transaction (store/gomote-holds.ts). So the
 * new lease has the machine already when the build gives it back, and it reaches its holder as a claim does.
 */
import { randomUUID } from "node:crypto";
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { type BuildId, type CoordinatorId, type Ms, minutes, seconds } from "../farm/ids.ts";
import { mayNotBorrow } from "../farm/lending.ts";
import type { Person } from "../farm/person.ts";
import { Wake } from "../farm/wake.ts";
import type { Instance } from "../store/gomote.ts";
import { askHold, dropHold, type HoldState, holdState, keepMachineLater } from "../store/gomote-holds.ts";
import type { Sql } from "../store/sql.ts";
import type { Instances } from "./instances.ts";
import type { WaitingRoom } from "./waiting-room.ts";

const HOLD_LOOK_EVERY = seconds(5);
/** How long a client that was cut off has to ask again. */
export const COMES_BACK: Ms = minutes(1);

/** A build whose machine is to be held. */
export interface HeldBuild {
  readonly id: BuildId;
  readonly builder: string;
  readonly hostType: string;
}

export type HoldNews = { readonly progress: string } | { readonly instance: Instance };

export interface HoldsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly coordinator: CoordinatorId;
  readonly config: () => FarmConfig;
  readonly instances: Pick<Instances, "end">;
  readonly waiting: Pick<WaitingRoom, "follow">;
  /** Aborts when this coordinator stops. Its clients ask again, at another coordinator or at the next one. */
  readonly stopping: AbortSignal;
}

export class Holds {
  readonly #deps: HoldsDeps;

  constructor(deps: HoldsDeps) {
    this.#deps = deps;
  }

  /**
   * Yields sentences while the build runs, then the instance. Throws FarmError `forbidden`, or `conflict` with the
   * reason: another person holds the machine, or it cannot be kept.
   */
  async *hold(person: Person, build: HeldBuild, signal: AbortSignal): AsyncGenerator<HoldNews, void> {
    const { sql, clock, coordinator, config } = this.#deps;
    const { id, hostType, builder } = build;
    const host = config().hosts.find((each) => each.hostType === hostType);
    const refusal = host ? mayNotBorrow(person, host) : `the farm has no ${hostType} any more.`;
    if (refusal !== undefined) throw new FarmError("forbidden", `${cannot(id)}: ${refusal}`);
    const request = randomUUID();
    const builderType = config().builders.some(({ name }) => name === builder) ? builder : hostType;
    const who = { owner: person.id, email: person.email, user: person.name };
    const quotas = { perPerson: config().gomote.perPerson, perHostType: host?.gomoteMost ?? null };
    const wanted = { build: id, request, ...who, builderType, hostType, coordinator, ...quotas };
    const other = await askHold(sql, wanted, clock.now());
    if (other !== undefined) throw new FarmError("conflict", `${cannot(id)}: ${other} waits for it already.`);
    let handedOver = false;
    try {
      yield { progress: `its machine becomes yours when it fails` };
      yield { instance: await this.#up(id, await this.#kept(id, request, signal), signal) };
      handedOver = true;
    } finally {
      if (handedOver) await dropHold(sql, request);
      else await this.#left(person, request, signal);
    }
  }

  /**
   * Forgets a request that led to no instance: at once if it was refused, after COMES_BACK if `signal` says that the
   * client left.
   */
  async #left({ email }: Person, request: string, signal: AbortSignal): Promise<void> {
    const { sql, clock, instances, stopping } = this.#deps;
    if (signal.aborted) await clock.sleep(COMES_BACK, stopping).catch(() => {});
    if (stopping.aborted) return;
    const id = await dropHold(sql, request);
    const reason = "whoever asked for it left before it was there";
    if (id !== undefined) await instances.end({ id, who: email, action: "destroy", reason });
  }

  /** Waits for the build to fail. Returns the number of the instance that its machine has become. */
  async #kept(build: BuildId, request: string, signal: AbortSignal): Promise<number> {
    const { sql, bus, clock } = this.#deps;
    const done = new AbortController();
    const either = AbortSignal.any([signal, done.signal]);
    const wake = new Wake(clock, either);
    bus.subscribe(`build:${build}`, () => wake.call(), either);
    try {
      for (;;) {
        signal.throwIfAborted();
        const state = await holdState(sql, request);
        if (!state)
          throw new FarmError("conflict", `${cannot(build)}: it was asked for once more since, and goes there.`);
        const kept = answerOf(build, state);
        if (kept !== undefined) return kept;
        if (state.state === "ended") await this.#keepLater(build);
        else await wake.sleep(HOLD_LOOK_EVERY);
      }
    } finally {
      done.abort();
    }
  }

  /** Waits for the machine, and returns the instance. An instance whose machine does not come in time ends. */
  async #up(build: BuildId, id: number, signal: AbortSignal): Promise<Instance> {
    for await (const news of this.#deps.waiting.follow(id, signal)) {
      if (news.kind === "up") return news.instance;
      if (news.kind === "ended") throw new FarmError("conflict", `${cannot(build)}: ${news.reason}.`);
    }
    throw new FarmError("unavailable", `${cannot(build)}: the coordinator is stopping.`);
  }

  /** Keeps the machine of a build that had ended before anybody asked for it. */
  async #keepLater(build: BuildId): Promise<void> {
    const { sql, bus, clock } = this.#deps;
    const session = await keepMachineLater(sql, build, clock.now());
    if (session !== undefined) bus.publish(`given:${session}`);
  }
}

/** The number of the instance, once there is one. Throws FarmError with the reason when there will be none. */
function answerOf(build: BuildId, { state, outcome, instance, refusal }: HoldState): number | undefined {
  if (instance !== null) return instance;
  if (refusal !== null) throw new FarmError("conflict", `${cannot(build)}: ${refusal}.`);
  if (state === "ended" && outcome !== "failure")
    throw new FarmError("conflict", `${cannot(build)}: it ended as ${outcome}; only that of a failed build is kept.`);
  return undefined;
}

function cannot(build: BuildId): string {
  return `Cannot hold the machine of build ${build}`;
}

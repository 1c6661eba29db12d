/**
 * Holding the machine of a build for when it fails: `gomote repro -hold`.
 *
 *   asked -the build fails-> kept      its lease is over and another, of whoever asked, begins on the same machine, which is not emptied
 *   asked -it ends otherwise, or the machine cannot be kept-> refused, with the reason
 *   asked -the client leaves-> forgotten
 *
 * A build that has failed already is asked for in the same way; its machine is kept if nothing else has had it since.
 * Whoever drives a build calls `keep` when it has failed, before the machine is given back: the lease is then the machine's already
 * when it is idle, and comes to its holder as a claim does.
 */
import { randomUUID } from "node:crypto";
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type BuildId, type CoordinatorId, plus, seconds } from "../farm/ids.ts";
import { mayNotBorrow } from "../farm/lending.ts";
import type { Person } from "../farm/person.ts";
import { Wake } from "../farm/wake.ts";
import type { Instance } from "../store/gomote.ts";
import { askHold, dropHold, type HoldState, holdState, keepMachine } from "../store/gomote-holds.ts";
import type { Sql } from "../store/sql.ts";
import type { Instances } from "./instances.ts";
import type { WaitingRoom } from "./waiting-room.ts";

const LOOK_EVERY = seconds(5);
/** Whoever drove a build has so long to keep its machine; then this coordinator tries. */
const DRIVER_FIRST = seconds(10);
/** For the session to come to the lease that it has. */
const UP_WITHIN = seconds(60);

/** What is to be held, as far as the build says it. */
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
  readonly log: Log;
  readonly coordinator: CoordinatorId;
  readonly config: () => FarmConfig;
  readonly instances: Pick<Instances, "end">;
  readonly waiting: Pick<WaitingRoom, "follow">;
}

export class Holds {
  readonly #deps: HoldsDeps;

  constructor(deps: HoldsDeps) {
    this.#deps = deps;
  }

  /** The build has failed, and its machine was not given back yet. Never rejects. */
  async keep(build: BuildId): Promise<void> {
    const { log } = this.#deps;
    try {
      await this.#keep(build);
    } catch (error) {
      log.warn({ build, error: messageOf(error) }, "Could not keep the machine of a failed build for who asked for it");
    }
  }

  /**
   * Sentences while the build runs, and the instance last. Throws FarmError `forbidden`, `conflict` when somebody else holds it or its
   * machine cannot be kept, saying why.
   */
  async *hold(person: Person, build: HeldBuild, signal: AbortSignal): AsyncGenerator<HoldNews, void> {
    const { sql, clock, coordinator, config, instances } = this.#deps;
    const { id, hostType, builder } = build;
    const host = config().hosts.find((each) => each.hostType === hostType);
    const refusal = host ? mayNotBorrow(person, host) : `the farm has no ${hostType} any more.`;
    if (refusal !== undefined) throw new FarmError("forbidden", `${cannot(id)}: ${refusal}`);
    const request = randomUUID();
    const builderType = config().builders.some(({ name }) => name === builder) ? builder : hostType;
    const who = { owner: person.id, email: person.email, user: person.name };
    const other = await askHold(sql, { build: id, request, ...who, builderType, hostType, coordinator }, clock.now());
    if (other !== undefined) throw new FarmError("conflict", `${cannot(id)}: ${other} waits for it already.`);
    let kept: number | undefined;
    let handedOver = false;
    try {
      yield { progress: `its machine becomes yours when it fails` };
      kept = await this.#kept(id, request, signal);
      yield { instance: await this.#up(id, kept, signal) };
      handedOver = true;
    } finally {
      const instance = kept ?? (await holdState(sql, request))?.instance;
      await dropHold(sql, request);
      const reason = "whoever asked for it left before it was there";
      if (instance && !handedOver) await instances.end({ id: instance, who: person.email, action: "destroy", reason });
    }
  }

  /** The instance that the machine has become. */
  async #kept(build: BuildId, request: string, signal: AbortSignal): Promise<number> {
    const { sql, bus, clock } = this.#deps;
    const done = new AbortController();
    const either = AbortSignal.any([signal, done.signal]);
    const wake = new Wake(clock, either);
    bus.subscribe(`build:${build}`, () => wake.call(), either);
    let endedAt: number | undefined;
    try {
      for (let first = true; ; first = false) {
        signal.throwIfAborted();
        const state = await holdState(sql, request);
        if (!state) throw new FarmError("conflict", `${cannot(build)}: somebody else has asked for it.`);
        const kept = answerOf(build, state);
        if (kept !== undefined) return kept;
        if (state.state === "ended") {
          endedAt ??= clock.monotonic();
          if (first || clock.monotonic() - endedAt >= DRIVER_FIRST) {
            await this.#keep(build);
            continue;
          }
        }
        await wake.sleep(LOOK_EVERY);
      }
    } finally {
      done.abort();
    }
  }

  async #up(build: BuildId, id: number, signal: AbortSignal): Promise<Instance> {
    const limit = new AbortController();
    const done = new AbortController();
    const late = () => limit.abort(new FarmError("timed-out", `${cannot(build)}: it did not answer.`));
    this.#deps.clock.sleep(UP_WITHIN, done.signal).then(late, () => {});
    try {
      for await (const news of this.#deps.waiting.follow(id, AbortSignal.any([signal, limit.signal]))) {
        if (news.kind === "up") return news.instance;
        if (news.kind === "ended") throw new FarmError("conflict", `${cannot(build)}: ${news.reason}.`);
      }
    } finally {
      done.abort();
    }
    throw new FarmError("unavailable", `${cannot(build)}: the coordinator is stopping.`);
  }

  async #keep(build: BuildId): Promise<void> {
    const { sql, bus, clock, config } = this.#deps;
    const { hosts, gomote } = config();
    const now = clock.now();
    const quotas = {
      perPerson: gomote.perPerson,
      perHostType: (type: string) => hosts.find(({ hostType }) => hostType === type)?.gomoteMost ?? null,
      until: plus(now, UP_WITHIN),
    };
    const kept = await keepMachine(sql, build, quotas, now);
    if (!kept) return;
    bus.publish(`build:${build}`);
    bus.publish(`queue:${kept.hostType}`);
  }
}

/** The instance, once there is one. Throws why there will be none. */
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

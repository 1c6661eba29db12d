/**
 * Creating an instance: check that the person may have it, ask for it, wait for its machine, hand it over. An instance
 * ends again when its caller left before hearing of it.
 */
import { randomUUID } from "node:crypto";
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus } from "../farm/deps.ts";
import { FarmError } from "../farm/errors.ts";
import { formatDuration } from "../farm/flags.ts";
import { type CoordinatorId, plus } from "../farm/ids.ts";
import type { Person } from "../farm/person.ts";
import { Batch } from "../machines/batch.ts";
import { type InsertedInstance, insertInstances, type WantedInstance } from "../store/gomote.ts";
import type { Sql } from "../store/sql.ts";
import { type InstanceType, typeFor } from "./instance-types.ts";
import type { Instances } from "./instances.ts";
import type { News, WaitingRoom } from "./waiting-room.ts";

const ASKED_AT_ONCE = 200;

export interface CreationsDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly coordinator: CoordinatorId;
  readonly config: () => FarmConfig;
  readonly instances: Pick<Instances, "end">;
  readonly waiting: Pick<WaitingRoom, "follow">;
}

export class Creations {
  readonly #deps: CreationsDeps;
  /** Requests are inserted in batches: thousands of people may ask in one moment. */
  readonly #inserts: Batch<WantedInstance, ReadonlyMap<string, InsertedInstance>>;

  constructor(deps: CreationsDeps) {
    this.#deps = deps;
    this.#inserts = new Batch(ASKED_AT_ONCE, (wanted) => insertInstances(deps.sql, wanted, deps.clock.now()));
  }

  /**
   * Yields how many are ahead until the instance is up, then the instance. Throws FarmError: `bad-request` for an
   * unknown type, `forbidden`, `too-large` over a quota, `timed-out` when no machine came free in time, `canceled` or
   * `machine-broken` with the reason why there is no machine.
   */
  async *create(
    person: Person,
    builderType: string,
    signal: AbortSignal,
  ): AsyncGenerator<Extract<News, { kind: "waiting" | "up" }>, void> {
    const { instances, waiting, config } = this.#deps;
    if (person.name === "")
      throw new FarmError(
        "internal",
        `Cannot name an instance after ${JSON.stringify(person.email)}: it is no address`,
      );
    const type = typeFor(config(), person, builderType);
    const { id, name } = await this.#want(person, type);
    let handedOver = false;
    try {
      for await (const news of waiting.follow(id, signal)) {
        if (news.kind === "ended") throw failure(news.reason, name, type, config().gomote.waitMs);
        yield news;
        handedOver = news.kind === "up";
      }
    } finally {
      const reason = "whoever asked for it left before it was there";
      if (!handedOver) await instances.end({ id, who: person.email, action: "destroy", reason });
    }
  }

  async #want(person: Person, type: InstanceType): Promise<{ readonly id: number; readonly name: string }> {
    const { bus, clock, coordinator, config } = this.#deps;
    const { perPerson, waitMs } = config().gomote;
    const { hostType, gomoteMost } = type.host;
    const request = randomUUID();
    const all = await this.#inserts.add({
      request,
      owner: person.id,
      email: person.email,
      user: person.name,
      builderType: type.name,
      hostType,
      coordinator,
      until: plus(clock.now(), waitMs),
      perPerson,
      perHostType: gomoteMost,
    });
    const inserted = all.get(request);
    if (!inserted) throw new FarmError("internal", "Cannot tell what became of a request for an instance");
    if ("full" in inserted) throw new FarmError("too-large", `Cannot create an instance: ${inserted.full}.`);
    bus.publish(`queue:${hostType}`);
    return inserted;
  }
}

/** The error that tells the caller why there will be no instance. */
function failure(reason: string, name: string, { knownIssues, name: type }: InstanceType, waitMs: number): FarmError {
  const known = knownIssues.length === 0 ? "" : ` ${type} has known issues: ${knownIssues.join(", ")}.`;
  if (reason.startsWith("no machine came free")) {
    const waited = formatDuration(waitMs as Parameters<typeof formatDuration>[0]);
    return new FarmError("timed-out", `Cannot create ${name}: no machine came free within ${waited}.${known}`);
  }
  const code = reason.startsWith("its owner") ? "canceled" : "machine-broken";
  return new FarmError(code, `Creation of ${name} failed: ${reason}.${known}`);
}

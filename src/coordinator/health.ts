/**
 * The farm's health as checkers see it, looked at every CHECK_EVERY and soon after something about it is published, at most every LOOK_PAUSE.
 *
 *   database       answers a query within moments
 *   mirrors        each repository's remote answered last time
 *   coordinators   all that live have the same secrets and the same configuration (shared.ts)
 *   notices        no message was refused twice, or given up
 *   set aside      no machine fails build after build
 *   machines       as many as each host type expects; none twice; none that keeps coming and going (machines/health.ts)
 */
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { messageOf } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import { Wake } from "../farm/wake.ts";
import { machineChecks } from "../machines/health.ts";
import { utc } from "../notices/message.ts";
import { recipientLabel } from "../notices/recipients.ts";
import type { RepoStanding } from "../source/repo-watch.ts";
import { livingCoordinators } from "../store/coordinators.ts";
import { flappingMachines, machinesConnectedTwice } from "../store/machines.ts";
import { type UndeliveredNotice, undeliveredNotices } from "../store/notices.ts";
import type { Sql } from "../store/sql.ts";
import { type AsideMachine, expectedMachines, machinesSetAside } from "../store/troubles.ts";
import type { CheckResult } from "../web/deps.ts";
import { coordinatorCheck } from "./shared.ts";

const CHECK_EVERY: Ms = seconds(10);
/** A burst of changes is looked at once. */
const SETTLE: Ms = ms(200);
/** However much happens, a look costs the database something: with every build a machine becomes busy and idle again. */
export const LOOK_PAUSE: Ms = seconds(2);
/** Messages that were given up are listed for so long. */
const REMEMBERED: Ms = minutes(24 * 60);
/** Undelivered messages that are listed. */
const NOTICES = 20;
/** Sessions within FLAPPING_WITHIN that make a machine flap. */
const FLAPPING_SESSIONS = 4;
const FLAPPING_WITHIN: Ms = minutes(10);

export interface HealthDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly repos: () => readonly RepoStanding[];
  readonly startedAt: EpochMs;
}

export class Health implements AsyncDisposable {
  readonly #deps: HealthDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;
  readonly #wake: Wake;
  #results: readonly CheckResult[] = [];

  constructor(deps: HealthDeps) {
    this.#deps = deps;
    this.#wake = new Wake(deps.clock, this.#stop.signal);
    for (const prefix of ["machine:", "repo:", "config:"])
      deps.bus.subscribe(prefix, () => this.#wake.call(), this.#stop.signal);
    this.#loop = this.#run();
  }

  /** As last looked at. */
  results(): readonly CheckResult[] {
    return this.#results;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, bus } = this.#deps;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const lookedAt = clock.monotonic();
      const before = JSON.stringify(this.#results);
      this.#results = await this.#look();
      if (JSON.stringify(this.#results) !== before) bus.publish("farm:");
      await clock.sleep(ms(Math.max(0, lookedAt + LOOK_PAUSE - clock.monotonic())), signal).catch(() => {});
      await this.#wake.sleep(CHECK_EVERY, SETTLE);
    }
  }

  async #look(): Promise<readonly CheckResult[]> {
    const { sql, clock, repos, startedAt, log } = this.#deps;
    const now = clock.now();
    try {
      const hosts = await expectedMachines(sql);
      const twice = await machinesConnectedTwice(sql);
      const flapping = await flappingMachines(sql, plus(now, ms(-FLAPPING_WITHIN)), FLAPPING_SESSIONS);
      return [
        { id: "database", title: "Database", lines: [] },
        mirrors(repos()),
        setAside(await machinesSetAside(sql)),
        undelivered(await undeliveredNotices(sql, plus(now, ms(-REMEMBERED)), NOTICES)),
        coordinatorCheck(await livingCoordinators(sql)),
        ...machineChecks({ hosts, twice, flapping, startedAt, now }),
      ];
    } catch (error) {
      log.warn({ error: messageOf(error) }, "Could not look at the farm's health");
      const text = `does not answer: ${messageOf(error)}`;
      const others = this.#results.filter((check) => check.id !== "database");
      return [{ id: "database", title: "Database", lines: [{ level: "error", text }] }, ...others];
    }
  }
}

function setAside(machines: readonly AsideMachine[]): CheckResult {
  const lines = machines.map(({ hostType, name, until, reason, probeError }) => {
    const tried = probeError === null ? "" : `; the last trial failed: ${probeError}`;
    return {
      level: "warn",
      text: `${hostType}: ${name} gets no work until ${utc(until)}: ${reason}${tried}`,
    } as const;
  });
  return { id: "set-aside", title: "Machines fit for work", lines };
}

function undelivered(notices: readonly UndeliveredNotice[]): CheckResult {
  const lines = notices.map(({ at, recipient, title, error, againAt }) => {
    const next = againAt === null ? "given up" : `trying again at ${utc(againAt)}`;
    const text = `${utc(at)}: ${recipientLabel(recipient)} was not told “${title}”, ${next}: ${error}`;
    return { level: "warn", text } as const;
  });
  return { id: "notices", title: "Delivery of messages", lines };
}

function mirrors(repos: readonly RepoStanding[]): CheckResult {
  const lines = repos.flatMap(({ name, failure, problem, heads }) => {
    if (failure !== null) return [{ level: heads.size === 0 ? "error" : "warn", text: `${name}: ${failure}` } as const];
    return problem === null ? [] : [{ level: "warn", text: `${name}: ${problem}` } as const];
  });
  return { id: "mirrors", title: "Mirrors of repositories", lines };
}

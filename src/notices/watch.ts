/**
 * Looks at the farm every TROUBLE_LOOK_EVERY, writes down what is wrong and tells people (trouble.ts decides).
 *
 * One coordinator at a time looks, in one transaction that stores both the troubles and the messages about them: either
 * both are there or neither. Each coordinator knows only of its own configuration that it cannot be used.
 *
 * After a start machines are still coming back: nobody hears of missing ones for START_GRACE.
 */
import type { FarmConfig } from "../config/effective.ts";
import type { Clock } from "../farm/clock.ts";
import type { Bus, Log } from "../farm/deps.ts";
import { every } from "../farm/every.ts";
import { type EpochMs, epochMs, type Ms, minutes, ms, plus, seconds } from "../farm/ids.ts";
import { insertNotices, type NewNotice } from "../store/notices.ts";
import type { Sql } from "../store/sql.ts";
import {
  connectedAmong,
  expectedMachines,
  expiringKeys,
  forgetTroubles,
  knownTroubles,
  machinesSetAside,
  mayLook,
  noticeTroubles,
  repoErrors,
  troublesTold,
  troublesWell,
} from "../store/troubles.ts";
import { overMessage, type Place, troubleMessage, utc } from "./message.ts";
import { recipientKey, recipientsOf } from "./recipients.ts";
import { decide, type Facts, type Known, type Seen, type Trouble } from "./trouble.ts";

const TROUBLE_LOOK_EVERY: Ms = seconds(20);
const START_GRACE: Ms = minutes(5);
/** How long a repository may be out of reach, and a configuration broken, before people hear of it. */
const REPO_AFTER: Ms = minutes(30);
const CONFIG_AFTER: Ms = minutes(1);
const KEY_BEFORE: Ms = ms(7 * 86_400_000);
const NEWS = "notice:";

export interface WatchDeps {
  readonly sql: Sql;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly log: Log;
  readonly config: () => FarmConfig;
  /** Why the present configuration is not in force; undefined: it is. */
  readonly problem: () => string | undefined;
  /** The name of the computer on which this coordinator runs. */
  readonly host: string;
  readonly place: () => Place;
  readonly startedAt: EpochMs;
}

export class Watch implements AsyncDisposable {
  readonly #deps: WatchDeps;
  readonly #stop = new AbortController();
  readonly #loop: Promise<void>;

  constructor(deps: WatchDeps) {
    this.#deps = deps;
    this.#loop = every(TROUBLE_LOOK_EVERY, () => this.look(), "Could not look for trouble", deps, this.#stop.signal);
  }

  /** Looks once. False: another coordinator was looking. */
  async look(): Promise<boolean> {
    const { sql, bus, clock } = this.#deps;
    const now = clock.now();
    let news = 0;
    const looked = await sql.tx(async (tx) => {
      if (!(await mayLook(tx))) return false;
      const known = await knownTroubles<Known>(tx);
      const changes = decide(await this.#facts(tx, known, now), known, now);
      const told = this.#messages(changes.told, (troubles, place) => troubleMessage(troubles, place));
      const over = this.#messages(changes.over, (troubles, place) =>
        overMessage(
          troubles.map((trouble) => ({ trouble, at: trouble.wellAt ?? now })),
          place,
        ),
      );
      await noticeTroubles(tx, changes.noticed, now);
      await troublesTold(tx, changes.told, now);
      const isOver = new Set(changes.over.map(({ kind, subject }) => `${kind} ${subject}`));
      for (const { known: row, at } of changes.wellAt) {
        if (!isOver.has(`${row.kind} ${row.subject}`)) await troublesWell(tx, [row], at);
      }
      await forgetTroubles(tx, [...changes.moot, ...changes.over]);
      await insertNotices(tx, [...told, ...over], now);
      news = told.length + over.length;
      return true;
    });
    if (news > 0) {
      bus.publish(NEWS);
      bus.publish("farm:");
    }
    return looked;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#loop;
  }

  /** One message per recipient, with all troubles that concern it. */
  #messages<T extends Trouble>(
    troubles: readonly T[],
    message: (troubles: readonly T[], place: Place) => unknown,
  ): NewNotice[] {
    const byRecipient = new Map<string, T[]>();
    for (const trouble of troubles) {
      for (const recipient of recipientsOf(trouble, this.#deps.config())) {
        const key = recipientKey(recipient);
        byRecipient.set(key, [...(byRecipient.get(key) ?? []), trouble]);
      }
    }
    const place = this.#deps.place();
    return [...byRecipient].map(([recipient, mine]) => ({ recipient, message: message(mine, place) }));
  }

  async #facts(tx: Sql, known: readonly Known[], now: EpochMs): Promise<Facts> {
    const { config, problem, host, startedAt } = this.#deps;
    const { hosts, repos } = config();
    const expected = await expectedMachines(tx);
    const aside = await machinesSetAside(tx);
    const repoTroubles = (await repoErrors(tx)).filter((error) => repos.some((repo) => repo.name === error.name));
    const keys = await expiringKeys(tx, now, plus(now, KEY_BEFORE));
    const missed = known.flatMap((row) => (row.kind === "missing" ? [machineOf(row)] : []));
    const connected = await connectedAmong(tx, missed);
    const own = `config:${host}`;
    const broken = problem();
    const calm = plus(startedAt, START_GRACE);
    const seen: Seen[] = [];
    for (const { hostType, expect, connected: here, away } of expected) {
      const after = hosts.find((each) => each.hostType === hostType)?.missingAfterMs;
      if (after === undefined) continue;
      for (const { id, name, since, reason } of away) {
        const about = { hostType, name, detail: reason ?? "" };
        const dueAt = epochMs(Math.max(plus(since, after), calm));
        seen.push({ kind: "missing", subject: `machine:${id}`, since, about, due: { at: dueAt } });
      }
      const unknown = expect - here - away.length;
      if (unknown <= 0) continue;
      const machines = unknown === 1 ? "1 machine that it expects has" : `${unknown} machines that it expects have`;
      const about = { hostType, name: hostType, detail: `${machines} never dialled in` };
      const since = known.find((row) => row.kind === "short" && row.about.name === hostType)?.since ?? now;
      const due = { after: ms(Math.max(after, calm - now)) };
      seen.push({ kind: "short", subject: `host:${hostType}`, since, about, due });
    }
    for (const { id, hostType, name, since, reason } of aside) {
      const about = { hostType, name, detail: reason };
      seen.push({ kind: "set-aside", subject: `machine:${id}`, since, about, due: { at: since } });
    }
    for (const { name, error, since } of repoTroubles) {
      const about = { hostType: null, name, detail: error };
      seen.push({ kind: "repo", subject: `repo:${name}`, since, about, due: { at: plus(since, REPO_AFTER) } });
    }
    for (const { id, hostType, machine, expiresAt } of keys) {
      const about = { hostType, name: machine, detail: `expires at ${utc(expiresAt)}` };
      seen.push({ kind: "key", subject: `key:${id}`, since: now, about, due: { at: now } });
    }
    if (broken !== undefined) {
      const since = known.find((row) => row.subject === own)?.since ?? now;
      const about = { hostType: null, name: host, detail: broken };
      seen.push({ kind: "config", subject: own, since, about, due: { after: CONFIG_AFTER } });
    }
    const isWell = (row: Known): boolean => {
      switch (row.kind) {
        case "missing":
          return connected.has(machineOf(row));
        case "short":
          return expected.some((each) => each.hostType === row.about.name && each.expect > 0);
        case "repo":
          return repos.some((repo) => repo.name === row.about.name);
        case "key":
          return false;
        case "set-aside":
        case "config":
          return true;
      }
    };
    const hasRecipient = (trouble: Trouble) => recipientsOf(trouble, config()).length > 0;
    return { seen, hasRecipient, isWell, judges: (row) => row.kind !== "config" || row.subject === own };
  }
}

function machineOf(row: Known): number {
  return Number(row.subject.slice("machine:".length));
}

/** Data of `/`. Numbers of the last 24 hours are queried at most every few seconds, however many pages are open. */
import type { FarmConfig } from "../../config/effective.ts";
import { type EpochMs, minutes, ms, plus } from "../../farm/ids.ts";
import { newlyRed } from "../../store/pages-culprits.ts";
import { dayHours, type HourRow, recentLines, runningLines } from "../../store/pages-lines.ts";
import { countMachines } from "../../store/pages-machines.ts";
import type { ConnectedRow, HostTypeRow } from "../../store/pages-pools.ts";
import { openBuilds } from "../../store/pages-search.ts";
import type { Sql } from "../../store/sql.ts";
import { type Expected, expectedMachines, toldMissing } from "../../store/troubles.ts";
import type { Check, MachineMode } from "../../ui/data.ts";
import type { HomeData, Hour } from "../../ui/pages/home.tsx";
import type { MissingLine, PoolData } from "../../ui/pages/pools.tsx";
import { subject } from "../../ui/text.ts";
import { linesOf } from "../lines.ts";
import { modeOf } from "../machine-mode.ts";
import { readQueues, waitingGroups } from "../queues.ts";

const RUNNING = 50;
const WAITING = 5;
const RECENT = 12;
const RED = 5;
const DAY = minutes(24 * 60);
/** How many machines are listed one by one. /machines lists all. */
const SESSIONS = 1000;
/** How many missing machines are named for each host type. */
const MISSING = 5;
const DAY_KEPT_MS = 10_000;

/** The numbers of the last 24 hours, kept for a few seconds. */
export class Day {
  #at = Number.NEGATIVE_INFINITY;
  #hours: Promise<HourRow[]> | undefined;

  hours(sql: Sql, now: EpochMs): Promise<HourRow[]> {
    if (this.#hours === undefined || Math.abs(now - this.#at) > DAY_KEPT_MS) {
      this.#at = now;
      this.#hours = dayHours(sql, now);
      this.#hours.catch(() => {
        this.#hours = undefined;
      });
    }
    return this.#hours;
  }
}

export interface HomeDeps {
  readonly sql: Sql;
  readonly config: FarmConfig;
  readonly checks: readonly Check[];
  readonly dial: string;
  readonly day: Day;
}

export async function homeData(deps: HomeDeps, now: EpochMs): Promise<HomeData> {
  const { sql, config } = deps;
  const [queues, open, machines, hours, running, recent, red, expected, told] = await Promise.all([
    readQueues(sql, now, 1),
    openBuilds(sql),
    countMachines(sql, ""),
    deps.day.hours(sql, now),
    runningLines(sql, RUNNING),
    recentLines(sql, RECENT),
    newlyRed(sql, plus(now, ms(-DAY)), RED),
    expectedMachines(sql),
    toldMissing(sql),
  ]);
  const [waiting, runningBuilds, recentBuilds] = await Promise.all([
    waitingGroups(sql, queues, config, WAITING),
    linesOf(sql, running, config),
    linesOf(sql, recent, config),
  ]);
  const pools = poolData(
    queues.all.map((q) => q.type),
    queues.connected,
    missingOf(expected, told),
  );
  const inMode = (mode: MachineMode) => queues.connected.filter((session) => sessionMode(session) === mode).length;
  const oldest = queues.all.flatMap((q) => q.oldest ?? []);
  return {
    numbers: {
      machines,
      idle: inMode("idle"),
      busy: inMode("busy"),
      drained: inMode("drained"),
      setAside: inMode("set aside"),
      missing: pools.types.reduce((sum, type) => sum + type.absent, 0),
      running: open.running,
      waiting: queues.all.reduce((sum, q) => sum + q.waiting, 0),
      oldestWait: oldest.length === 0 ? null : Math.min(...oldest),
      good: hours.reduce((sum, h) => sum + h.success + h.flaky, 0),
      flaky: hours.reduce((sum, h) => sum + h.flaky, 0),
      bad: hours.reduce((sum, h) => sum + h.failure, 0),
    },
    hours: Array.from({ length: 24 }, (_, hour): Hour => {
      const row = hours.find((h) => h.hour === hour);
      const { busyMs = 0, waitMs = 0, success = 0, flaky = 0, failure = 0, infra = 0 } = row ?? {};
      return { busyMs, waitMs, success, flaky, failure, infra };
    }),
    running: runningBuilds,
    waiting,
    recent: recentBuilds,
    red: red.map(({ repo, builder, test, build, hash, message, author, between, redAt }) => {
      return { repo, builder, test, build, hash, subject: subject(message), author, between, at: redAt };
    }),
    pools,
    checks: deps.checks,
    start: {
      dial: deps.dial,
      hostType: config.hosts[0]?.hostType ?? null,
      repos: config.repos.length,
      builders: config.builders.length,
    },
  };
}

/** Host type -> how many machines are missing, and the names of those that are known. */
type Missing = ReadonlyMap<string, { readonly count: number; readonly machines: readonly MissingLine[] }>;

function missingOf(expected: readonly Expected[], told: Awaited<ReturnType<typeof toldMissing>>): Missing {
  const toldAt = new Map(told.map((each) => [each.machine, each.toldAt]));
  return new Map(
    expected.map(({ hostType, expect, connected, away }) => {
      const machines = away
        .slice(0, MISSING)
        .map(({ id, name, since }) => ({ name, since, toldAt: toldAt.get(id) ?? null }));
      return [hostType, { count: Math.max(0, expect - connected), machines }];
    }),
  );
}

function sessionMode({ heldAt, drained, setAside }: ConnectedRow): MachineMode {
  return modeOf({ open: true, busy: heldAt !== null, drained, setAside });
}

/** The host types that expect machines or have some. The sessions come sorted by host type and name. */
function poolData(types: readonly HostTypeRow[], sessions: readonly ConnectedRow[], missing: Missing): PoolData {
  return {
    connected: sessions.length,
    types: types
      .map((type) => {
        const mine = sessions.filter((s) => s.hostType === type.name);
        return {
          hostType: type.name,
          busy: mine.filter((s) => s.heldAt !== null).length,
          total: mine.length,
          absent: missing.get(type.name)?.count ?? 0,
          trust: type.trust,
          drained: type.drainedAt !== null,
          configured: type.configured,
          missing: missing.get(type.name)?.machines ?? [],
        };
      })
      .filter((type) => type.configured || type.total > 0),
    sessions: sessions.slice(0, SESSIONS).map((s) => ({
      id: s.session,
      name: s.name,
      address: s.address,
      version: s.version,
      hostType: s.hostType,
      openedAt: s.openedAt,
      mode: sessionMode(s),
      build: s.build,
      since: s.heldAt ?? Math.max(s.freedAt ?? s.openedAt, s.openedAt),
    })),
  };
}

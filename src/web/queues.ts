/** The queues of the farm with their waits explained: for `/queues`, for the waiting list of `/`, and for a build's own page. */
import type { FarmConfig } from "../config/effective.ts";
import type { BuildId, EpochMs, MachineId } from "../farm/ids.ts";
import { hearsNames, type Visitor } from "../gomote/access.ts";
import { type Durations, forecast, type Work } from "../schedule/forecast.ts";
import { mayTake } from "../schedule/order.ts";
import { farmDrain } from "../store/drain.ts";
import { type Instance, liveInstances } from "../store/gomote.ts";
import { buildLines, recentDurations } from "../store/pages-lines.ts";
import { type ConnectedRow, connected, type HostTypeRow, hostTypes } from "../store/pages-pools.ts";
import { type Queued, queueLengths, queueLines, queueOf, takerOf } from "../store/queue-line.ts";
import type { Sql } from "../store/sql.ts";
import { type AsideMachine, machinesSetAside } from "../store/troubles.ts";
import type { WaitingGroup } from "../ui/build-rows.tsx";
import type { AsideLine, Avoiding, BuildLine, Estimate, Wait } from "../ui/data.ts";
import type { NextLease } from "../ui/pages/machine.tsx";
import type { LentLine, QueueData } from "../ui/pages/queues.tsx";
import { linesOf } from "./lines.ts";
import { aheadOf, avoidedBy, heldBack, whyUnknown } from "./waits.ts";

/** Shown of what a machine takes next. */
const NEXT = 5;
/** Rows shown of one queue; of each of many queues fewer, so that the page stays one that can be read. */
const SHOWN = 100;
const SHOWN_OF_MANY = 20;
const MANY = 20;
/** Counting what stands before one build stops here: "more than a thousand" says as much. */
const AHEAD_LIMIT = 1000;

interface Item {
  readonly row: Queued;
  readonly place: number;
  readonly starving: boolean;
  readonly avoiding: Avoiding | null;
  readonly estimate: Estimate | null;
  readonly unknown: string | null;
}

interface Queue {
  readonly type: HostTypeRow;
  /** Who takes from it, or would if it were not drained. */
  readonly serving: readonly ConnectedRow[];
  /** Who does not: set aside, the first to come back in front; and how many are connected and drained. */
  readonly aside: readonly AsideLine[];
  readonly resting: number;
  readonly waiting: number;
  readonly oldest: number | null;
  readonly items: readonly Item[];
}

export interface Queues {
  readonly all: readonly Queue[];
  readonly connected: readonly ConnectedRow[];
}

/** The queues of `only`, or of all host types, each with the first `limit` of its line. */
export async function readQueues(
  sql: Sql,
  now: EpochMs,
  limit: number = SHOWN,
  only: string | null = null,
): Promise<Queues> {
  const [types, sessions, away, lines, lengths] = await Promise.all([
    typesOf(sql),
    connected(sql, only),
    machinesSetAside(sql),
    queueLines(sql, only === null ? null : [only], now, limit),
    queueLengths(sql),
  ]);
  const durations = await durationsOf(sql, [...sessions, ...[...lines.values()].flat()]);
  const byType = Map.groupBy(sessions, (session) => session.hostType);
  const byName = new Map(lengths.map((length) => [length.queue, length]));
  const all = types
    .filter((type) => only === null || type.name === only)
    .map((type): Queue => {
      const mine = (byType.get(type.name) ?? []).filter((session) => !session.setAside);
      const serving = mine.filter((session) => !session.drained || type.drainedAt !== null);
      const aside = away
        .filter((machine) => machine.hostType === type.name)
        .map(asideLine)
        .toSorted((a, b) => a.until - b.until);
      const length = byName.get(type.name);
      const resting = mine.length - serving.length;
      const idle = { known: type.known, aside, resting };
      const items = itemsOf(type, serving, idle, lines.get(type.name) ?? [], durations, now);
      return { type, serving, aside, resting, waiting: length?.waiting ?? 0, oldest: length?.oldest ?? null, items };
    });
  return { all, connected: sessions };
}

/** While the farm is drained, so is every host type. */
async function typesOf(sql: Sql): Promise<readonly HostTypeRow[]> {
  const [types, farm] = await Promise.all([hostTypes(sql), farmDrain(sql)]);
  if (!farm) return types;
  const drainNote = `the whole farm${farm.note === "" ? "" : `: ${farm.note}`}`;
  return types.map((type) => ({ ...type, drainedAt: farm.drainedAt, drainNote }));
}

/** The reason without its last part, the error of the last failure, which the machine's own page has. */
function asideLine({ name, until, reason }: AsideMachine): AsideLine {
  return { name, until, reason: reason.split("; the last: ", 1)[0] ?? "" };
}

function itemsOf(
  type: HostTypeRow,
  serving: readonly ConnectedRow[],
  idle: Pick<Wait, "known" | "aside" | "resting">,
  line: readonly Queued[],
  durations: (of: Built) => Durations,
  now: EpochMs,
): Item[] {
  const drained = type.drainedAt !== null;
  const works = worksOf(serving, durations, now);
  const machines = serving.map(({ heldAt, build }) => ({
    work: heldAt === null ? null : (works.get(build ?? 0) ?? UNKNOWN),
  }));
  const wanted = line.map((row) => {
    if (row.helps === null) return { durations: durations(row) };
    const spentMs = now - (row.helpsFrom ?? now);
    return { helps: works.get(row.helps) ?? { spentMs, machines: 1, durations: durations(row) } };
  });
  const estimates = drained ? [] : forecast(machines, wanted);
  const busy = serving.filter((session) => session.heldAt !== null);
  const untried = (built: readonly Built[]) =>
    built.flatMap((each) => (each.builder !== null && durations(each).length === 0 ? [each.builder] : []));
  return line.map((row, i) => {
    const avoiding = avoidedBy(row, serving, now);
    const estimate = heldBack(estimates[i] ?? null, avoiding, now);
    const doubts = () => ({
      ...idle,
      drained,
      machines: serving.length,
      lent: busy.some(({ lent }) => lent),
      untried: untried([...busy, ...line.slice(0, i)]),
    });
    return {
      row,
      place: i + 1,
      starving: row.starvesAt <= now,
      avoiding,
      estimate,
      unknown: estimate === null ? whyUnknown(doubts()) : null,
    };
  });
}

/** What is not a build. Nobody knows how long it takes. */
const UNKNOWN: Work = { spentMs: 0, machines: 1, durations: [] };

/** By number, the builds that the machines of `serving` work for. Of each, the own machine may be away. */
function worksOf(
  serving: readonly ConnectedRow[],
  durations: (of: Built) => Durations,
  now: EpochMs,
): Map<number, Work> {
  const works = new Map<number, Work>();
  for (const session of serving) {
    const { build, heldAt, startedAt, helps } = session;
    if (build === null || heldAt === null) continue;
    const work = works.get(build) ?? {
      spentMs: now - (startedAt ?? heldAt),
      machines: 0,
      durations: durations(session),
    };
    const spentMs = work.spentMs + (helps ? now - heldAt : 0);
    works.set(build, { ...work, spentMs, machines: work.machines + 1 });
  }
  return works;
}

interface Built {
  readonly repo: string | null;
  readonly builder: string | null;
}

/** Recent durations of what `all` builds, asked for in one go. */
async function durationsOf(sql: Sql, all: readonly Built[]): Promise<(of: Built) => Durations> {
  const pairs = all.flatMap(({ repo, builder }) => (repo === null || builder === null ? [] : [{ repo, builder }]));
  const rows = await recentDurations(sql, pairs);
  const byPair = new Map(rows.map((row) => [`${row.repo}\n${row.builder}`, row.durations]));
  return ({ repo, builder }) => byPair.get(`${repo}\n${builder}`) ?? [];
}

function waitOf(queue: Queue, item: Item): Wait {
  const { type, serving } = queue;
  const [only] = serving;
  const line = queue.items.map(({ row }) => row);
  const starving = new Set(queue.items.filter((each) => each.starving).map(({ row }) => row));
  return {
    place: item.place,
    more: false,
    ahead: aheadOf(line, item.place - 1, (row) => starving.has(row)),
    machines: serving.length,
    busy: serving.filter((session) => session.heldAt !== null).length,
    known: type.known,
    aside: queue.aside,
    resting: queue.resting,
    drained: type.drainedAt === null ? null : (type.drainNote ?? ""),
    configured: type.configured,
    starving: item.starving,
    avoiding: item.avoiding,
    behind:
      serving.length === 1 && only && only.build !== null
        ? { build: only.build, machine: { name: only.name, hostType: only.hostType } }
        : null,
    estimate: item.estimate,
    unknown: item.unknown,
  };
}

/** Of the whole farm: the builds that wait for the same machines, those whose first one begins soonest in front. */
export async function waitingGroups(
  sql: Sql,
  queues: Queues,
  config: FarmConfig,
  limit: number,
): Promise<{ groups: WaitingGroup[]; queues: number }> {
  const about = ({ estimate }: Item) => estimate?.aboutMs ?? Number.MAX_VALUE;
  const waiting = queues.all
    .flatMap((queue) => queue.items.slice(0, 1).map((item) => ({ queue, item })))
    .sort((a, b) => about(a.item) - about(b.item) || a.item.row.wantedAt - b.item.row.wantedAt);
  const shown = waiting.slice(0, limit);
  const lines = await linesById(
    sql,
    shown.flatMap(({ item }) => item.row.build ?? []),
    config,
  );
  const groups = shown.map(({ queue, item }) => ({
    hostType: queue.type.name,
    waiting: queue.waiting,
    oldest: queue.oldest,
    next: lines.get(item.row.build ?? 0) ?? null,
    wait: waitOf(queue, item),
  }));
  return { groups, queues: waiting.length };
}

/** Why one build waits; null when it does not. */
export async function waitOfBuild(sql: Sql, build: BuildId, now: EpochMs): Promise<Wait | null> {
  const name = await queueOf(sql, build);
  if (name === undefined) return null;
  const [queue] = (await readQueues(sql, now, AHEAD_LIMIT, name)).all;
  if (!queue) return null;
  const item = queue.items.find(({ row }) => row.build === build);
  if (item) return waitOf(queue, item);
  const last = queue.items.at(-1);
  if (!last) return null; // it was taken in the meantime
  return {
    ...waitOf(queue, last),
    more: true,
    starving: false,
    avoiding: null,
    estimate: null,
    unknown: "too much stands before it",
  };
}

/** What a machine takes next, as things stand: the line without what it may not take. */
export async function nextOf(sql: Sql, config: FarmConfig, machine: MachineId, now: EpochMs): Promise<NextLease[]> {
  const taker = await takerOf(sql, machine);
  if (!taker) return [];
  const lines = await queueLines(sql, [taker.queue], now, SHOWN);
  const next = (lines.get(taker.queue) ?? []).filter((lease) => mayTake(taker, lease, now)).slice(0, NEXT);
  const builds = await linesById(
    sql,
    next.flatMap((lease) => lease.build ?? []),
    config,
  );
  return next.map((lease) => ({
    lease: lease.id,
    kind: lease.kind,
    class: lease.class,
    starving: lease.starvesAt <= now,
    build: builds.get(lease.build ?? 0) ?? null,
  }));
}

export async function queuesData(
  sql: Sql,
  config: FarmConfig,
  visitor: Visitor,
  now: EpochMs,
): Promise<{ queues: QueueData[] }> {
  const named = hearsNames(visitor);
  const many = (await queueLengths(sql)).length > MANY;
  const lent = Map.groupBy(await liveInstances(sql, null), ({ hostType }) => hostType);
  const { all } = await readQueues(sql, now, many ? SHOWN_OF_MANY : SHOWN);
  const lines = await linesById(
    sql,
    all.flatMap((queue) => queue.items.flatMap(({ row }) => row.build ?? row.helps ?? [])),
    config,
  );
  const queues = all
    .filter(({ type, waiting, serving }) => type.configured || waiting > 0 || serving.length > 0 || lent.has(type.name))
    .map((queue): QueueData => {
      const line = queue.items.map(({ row }) => row);
      const starving = new Set(queue.items.filter((item) => item.starving).map(({ row }) => row));
      return {
        hostType: queue.type.name,
        configured: queue.type.configured,
        machines: queue.serving.length,
        busy: queue.serving.filter((session) => session.heldAt !== null).length,
        known: queue.type.known,
        aside: queue.aside,
        resting: queue.resting,
        drained: queue.type.drainedAt === null ? null : (queue.type.drainNote ?? ""),
        waiting: queue.waiting,
        items: queue.items.map(({ row, place, starving: late, estimate, unknown }) => ({
          lease: row.id,
          kind: row.kind,
          class: row.class,
          release: row.release && row.class === "try",
          flow: named || row.flow === row.repo ? row.flow : "",
          repo: row.repo,
          wantedAt: row.wantedAt,
          starving: late,
          ahead: aheadOf(line, place - 1, (other) => starving.has(other)),
          build: lines.get(row.build ?? 0) ?? null,
          helps: lines.get(row.helps ?? 0) ?? null,
          instance:
            row.instance === null ? null : { name: named ? row.instance : null, builderType: row.instanceType ?? "" },
          estimate,
          unknown,
        })),
        lent: (lent.get(queue.type.name) ?? []).flatMap((instance) => lentLine(instance, named)),
      };
    });
  return { queues };
}

function lentLine({ name, builderType, machine, upAt, expiresAt, parked }: Instance, named: boolean): LentLine[] {
  if (machine === null || upAt === null) return [];
  return [{ instance: { name: named ? name : null }, builderType, machine, upAt, expiresAt, parked }];
}

async function linesById(sql: Sql, ids: readonly number[], config: FarmConfig): Promise<Map<number, BuildLine>> {
  const lines = ids.length === 0 ? [] : await linesOf(sql, await buildLines(sql, ids), config);
  return new Map(lines.map((line) => [line.id, line]));
}

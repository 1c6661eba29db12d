/** The queues of the farm with their waits explained: for `/queues`, for the waiting list of `/`, and for a build's own page. */
import type { FarmConfig } from "../config/effective.ts";
import type { BuildId, EpochMs } from "../farm/ids.ts";
import { LEASE_CLASSES } from "../farm/lease.ts";
import { buildLines } from "../store/pages-lines.ts";
import { type ConnectedRow, connected, type HostTypeRow, hostTypes } from "../store/pages-pools.ts";
import { type QueuedRow, queued, queueLengths } from "../store/pages-queues.ts";
import type { Sql } from "../store/sql.ts";
import { whyWaiting } from "../store/waiting.ts";
import type { WaitingGroup } from "../ui/build-rows.tsx";
import type { BuildLine, Wait } from "../ui/data.ts";
import type { QueueData } from "../ui/pages/queues.tsx";
import { linesOf, usualOf } from "./lines.ts";
import { estimates, type Serving } from "./waits.ts";

/** Rows shown of one queue. */
const SHOWN = 100;

interface Queue {
  readonly type: HostTypeRow;
  readonly serving: readonly Serving[];
  readonly waiting: number;
  readonly oldest: number | null;
  readonly items: readonly { readonly row: QueuedRow; readonly aboutMs: number | null }[];
}

export interface Queues {
  readonly all: readonly Queue[];
  readonly connected: readonly ConnectedRow[];
}

export async function readQueues(sql: Sql, now: EpochMs, limit: number = SHOWN): Promise<Queues> {
  const [types, sessions, rows, lengths] = await Promise.all([
    hostTypes(sql),
    connected(sql),
    queued(sql, now, limit),
    queueLengths(sql),
  ]);
  const pairs = [...sessions, ...rows].flatMap(({ repo, builder }) =>
    repo === null || builder === null ? [] : [{ repo, builder }],
  );
  const usual = await usualOf(sql, pairs);
  const ms = (of: { repo: string | null; builder: string | null }): number | null =>
    of.repo === null || of.builder === null ? null : usual({ repo: of.repo, builder: of.builder });
  const all = types.map((type): Queue => {
    const serving = sessions
      .filter((s) => s.hostType === type.name && !s.drained)
      .map((s) => ({
        machine: { name: s.name, hostType: s.hostType },
        build: s.build,
        startedAt: s.startedAt ?? s.heldAt,
        usualMs: ms(s),
      }));
    const mine = rows.filter((row) => row.queue === type.name);
    const begins = type.drainedAt === null ? estimates(serving, mine.map(ms), now) : [];
    const length = lengths.find((l) => l.queue === type.name);
    return {
      type,
      serving,
      waiting: length?.waiting ?? 0,
      oldest: length?.oldest ?? null,
      items: mine.map((row, i) => ({ row, aboutMs: begins[i] ?? null })),
    };
  });
  return { all, connected: sessions };
}

function waitOf(queue: Queue, place: number, aboutMs: number | null, starving: boolean): Wait {
  const { type, serving } = queue;
  const [only] = serving;
  return {
    place,
    machines: serving.length,
    busy: serving.filter((s) => s.build !== null).length,
    known: type.known,
    drained: type.drainedAt === null ? null : (type.drainNote ?? ""),
    starving,
    behind: serving.length === 1 && only && only.build !== null ? { build: only.build, machine: only.machine } : null,
    aboutMs,
  };
}

/** Of the whole farm: the builds that wait for the same machines, those whose first one begins soonest in front. */
export async function waitingGroups(
  sql: Sql,
  queues: Queues,
  config: FarmConfig,
  limit: number,
): Promise<{ groups: WaitingGroup[]; queues: number }> {
  const waiting = queues.all
    .flatMap((queue) => queue.items.slice(0, 1).map((item) => ({ queue, item })))
    .sort(
      (a, b) =>
        (a.item.aboutMs ?? Number.MAX_VALUE) - (b.item.aboutMs ?? Number.MAX_VALUE) ||
        a.item.row.wantedAt - b.item.row.wantedAt,
    );
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
    wait: waitOf(queue, 1, item.aboutMs, item.row.starving),
  }));
  return { groups, queues: waiting.length };
}

/** Why one build waits; null when it does not. */
export async function waitOfBuild(sql: Sql, build: BuildId, hostType: string, now: EpochMs): Promise<Wait | null> {
  const [why, queues] = await Promise.all([whyWaiting(sql, build, now), readQueues(sql, now)]);
  const queue = queues.all.find((q) => q.type.name === hostType);
  if (!why || !queue) return null;
  const item = queue.items.find((i) => i.row.build === build);
  return waitOf(queue, why.ahead + 1, item?.aboutMs ?? null, why.starvesAt <= now);
}

export async function queuesData(sql: Sql, config: FarmConfig, now: EpochMs): Promise<{ queues: QueueData[] }> {
  const { all } = await readQueues(sql, now);
  const lines = await linesById(
    sql,
    all.flatMap((queue) => queue.items.flatMap((item) => item.row.build ?? [])),
    config,
  );
  const queues = all
    .filter((queue) => queue.type.configured || queue.waiting > 0 || queue.serving.length > 0)
    .map(
      (queue): QueueData => ({
        hostType: queue.type.name,
        machines: queue.serving.length,
        busy: queue.serving.filter((s) => s.build !== null).length,
        known: queue.type.known,
        drained: queue.type.drainedAt === null ? null : (queue.type.drainNote ?? ""),
        waiting: queue.waiting,
        items: queue.items.map(({ row, aboutMs }) => ({
          lease: row.lease,
          class: className(row.class),
          wantedAt: row.wantedAt,
          starving: row.starving,
          build: lines.get(row.build ?? 0) ?? null,
          aboutMs,
        })),
      }),
    );
  return { queues };
}

function className(value: number): string {
  return Object.entries(LEASE_CLASSES).find(([, number]) => number === value)?.[0] ?? String(value);
}

async function linesById(sql: Sql, ids: readonly number[], config: FarmConfig): Promise<Map<number, BuildLine>> {
  const lines = ids.length === 0 ? [] : await linesOf(sql, await buildLines(sql, ids), config);
  return new Map(lines.map((line) => [line.id, line]));
}

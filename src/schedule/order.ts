/**
 * Who goes next: the order of the leases that wait in one queue, and who may take them, without a database.
 *
 * The claim (store/leases.ts) is the same rules as one SQL statement; a test compares the two. In this order:
 *
 *   starving  waited past `starvesAt`: goes before everything that does not starve, oldest first, so nothing waits
 *             for ever. But every second time only: what comes after such a lease goes by turns, or a queue with too
 *             much to do would serve nothing but what is old
 *   band      the class; within it whole builds before helpers, which only make something faster that goes on anyway;
 *             and within class try release branches before the others
 *   flow      within a band, flows take turns: repositories, for gomote and try people. Next is the flow that holds
 *             the fewest machines of this queue; of several such flows, the one served longest ago. A person's
 *             repositories share the person's turns in the same way. What is built to find culprits is one flow
 *   rank      within a flow the lower goes first: the time of asking for people, so that they are served in turn;
 *             minus the commit time after submission, so that the newest commit goes first. The builds of one commit
 *             have one rank: of these, the one that starves first goes first
 *
 * What always holds: a community machine takes `submitted` code only. What people do on a machine that they borrow is
 * not submitted: they get only machines of host types that are lent to them, whoever runs those. A machine
 * that is drained or set aside takes nothing. One that failed some work (`avoid`) does not take it again before
 * `avoidUntil`, so that another one can. Work that one machine may not take never keeps that machine from what stands
 * behind.
 *
 * Turns are counted from leases that are or were held; nothing else is stored. Claims that run at the same moment do
 * not see each other, so a flow may get ahead by as many leases as there are such claims, and makes up for it in the
 * next ones. People keep a machine for hours, so their leases are claimed one after the other: each person gets one
 * before anybody gets two.
 */
import type { Provenance, Trust } from "../farm/build.ts";
import { type EpochMs, type MachineId, type Ms, minutes, plus } from "../farm/ids.ts";
import { LEASE_CLASSES, type LeaseClass, type LeaseKind } from "../farm/lease.ts";

/** How long a lease waits before it starves. For the first two classes, a person waits. */
const STARVES_AFTER: Readonly<Record<LeaseClass, Ms>> = {
  gomote: minutes(20),
  try: minutes(30),
  "post-submit": minutes(6 * 60),
  background: minutes(24 * 60),
};

/**
 * How many flows of a band are compared, by name, of those that the machine is trusted with. This bounds the claim. The
 * others come when one of these has nothing left, or when they starve.
 */
export const FLOWS_COMPARED = 100;

/** A lease as the order sees it. */
export interface Waiting {
  readonly id: number;
  readonly kind: LeaseKind;
  readonly class: LeaseClass;
  readonly release: boolean;
  readonly flow: string;
  readonly repo: string;
  readonly rank: number;
  readonly provenance: Provenance;
  readonly starvesAt: EpochMs;
  readonly avoid: readonly MachineId[];
  readonly avoidUntil: EpochMs | null;
}

/** A machine as the order sees it. */
export interface Taker {
  readonly machineId: MachineId;
  readonly trust: Trust;
  /** The machine's host type is lent to people. Only this decides whether it may take leases of class gomote. */
  readonly gomoteLent: boolean;
  /** The machine is drained, or set aside because it failed the farm too often. */
  readonly stopped: boolean;
}

/** How many of the queue's machines one repository of one flow has. */
export interface Share {
  readonly flow: string;
  readonly repo: string;
  readonly held: number;
  /** When it was given its last machine, whether or not it still has it. Null: never. */
  readonly servedAt: EpochMs | null;
}

/** The rank of a lease. `committedAt` is the commit's own time, which orders only post-submit and background work. */
export function rankOf(leaseClass: LeaseClass, wantedAt: EpochMs, committedAt: EpochMs): number {
  if (leaseClass === "gomote" || leaseClass === "try") return wantedAt;
  // A committer's clock may be ahead. Nobody goes first because of that.
  return -Math.min(committedAt, wantedAt);
}

export function starvesAt(leaseClass: LeaseClass, wantedAt: EpochMs): EpochMs {
  return plus(wantedAt, STARVES_AFTER[leaseClass]);
}

/** The band of a lease; lower goes first. The database computes the same (column `band`). */
export function bandOf(lease: Pick<Waiting, "kind" | "class" | "release">): number {
  const first = lease.class === "try" && lease.release;
  return LEASE_CLASSES[lease.class] * 4 + (lease.kind === "helper" ? 2 : 0) + (first ? 0 : 1);
}

export function mayTake(taker: Taker, lease: Waiting, now: EpochMs): boolean {
  if (taker.stopped || !mayRun(taker, lease)) return false;
  return lease.avoidUntil === null || lease.avoidUntil <= now || !lease.avoid.includes(taker.machineId);
}

/** Whether the machine is trusted with the code of the lease. */
function mayRun(taker: Taker, lease: Waiting): boolean {
  const trusted = lease.class === "gomote" ? taker.gomoteLent : taker.trust === "team";
  return trusted || lease.provenance === "submitted";
}

/**
 * The lease that `taker` takes at `now` from one queue. Undefined when there is none for it. `outOfTurn`: the last lease
 * that was taken from the queue was taken because it starved.
 */
export function next(
  queue: readonly Waiting[],
  shares: readonly Share[],
  taker: Taker,
  now: EpochMs,
  outOfTurn = false,
): Waiting | undefined {
  const free = queue.filter((lease) => mayTake(taker, lease, now));
  const starving = free.filter((lease) => lease.starvesAt <= now).toSorted(bySpan)[0];
  if (starving && !outOfTurn) return starving;
  const may = new Set(free);
  const counted = new Shares(shares);
  for (const lanes of bandsOf(queue.filter((lease) => mayRun(taker, lease)))) {
    for (const lane of turns(lanes, counted)) {
      const lease = lane.leases.find((each) => may.has(each));
      if (lease) return lease;
    }
  }
  return undefined;
}

/**
 * The first `limit` of `queue` in the order in which machines without restrictions will take them, if nothing else is
 * wanted and nothing given back meanwhile. `outOfTurn` as for next().
 */
export function line<L extends Waiting>(
  queue: readonly L[],
  shares: readonly Share[],
  now: EpochMs,
  limit: number,
  outOfTurn = false,
): L[] {
  const counted = new Shares(shares);
  const starving = queue.filter((lease) => lease.starvesAt <= now).toSorted(bySpan);
  const bands = bandsOf(queue);
  const order = new Set<L>();
  let afterStarving = outOfTurn;
  while (order.size < limit) {
    const late = afterStarving ? undefined : starving.find((each) => !order.has(each));
    const lease: L | undefined = late ?? byTurns(bands, counted, order);
    if (!lease) break;
    order.add(lease);
    counted.serve(lease);
    afterStarving = late !== undefined;
  }
  return [...order];
}

/** The lease of `bands` whose turn it is, of those that are not `gone`. Drops bands and lanes with nothing left. */
function byTurns<L extends Waiting>(bands: Lane<L>[][], shares: Shares, gone: ReadonlySet<L>): L | undefined {
  for (let band = bands[0]; band; band = bands[0]) {
    const left = band.filter((lane) => headOf(lane, gone) !== undefined);
    const [lane] = turns(left, shares);
    if (lane) {
      bands[0] = left;
      return headOf(lane, gone);
    }
    bands.shift();
  }
  return undefined;
}

/** Skips what is `gone`. */
function headOf<L extends Waiting>(lane: Lane<L>, gone: ReadonlySet<L>): L | undefined {
  for (let head = lane.leases[lane.taken]; head && gone.has(head); head = lane.leases[lane.taken]) lane.taken++;
  return lane.leases[lane.taken];
}

/** What one repository of one flow wants in one band, the first to go in front. */
interface Lane<L extends Waiting> {
  readonly flow: string;
  readonly repo: string;
  readonly leases: readonly L[];
  /** How many of them, from the front, are gone. */
  taken: number;
}

function bySpan(a: Waiting, b: Waiting): number {
  return a.starvesAt - b.starvesAt || a.id - b.id;
}

function byRank(a: Waiting, b: Waiting): number {
  return a.rank - b.rank || bySpan(a, b);
}

/** The lanes of each band, in the order of the bands and of names within one. */
function bandsOf<L extends Waiting>(queue: readonly L[]): Lane<L>[][] {
  const bands = new Map<number, Map<string, L[]>>();
  for (const lease of queue) {
    const lanes = bands.get(bandOf(lease)) ?? new Map<string, L[]>();
    bands.set(bandOf(lease), lanes);
    const leases = lanes.get(keyOf(lease)) ?? [];
    lanes.set(keyOf(lease), leases);
    leases.push(lease);
  }
  return [...bands]
    .toSorted(([a], [b]) => a - b)
    .map(([, lanes]) =>
      [...lanes.values()]
        .map((leases) => leases.toSorted(byRank))
        .flatMap((leases) => {
          const [head] = leases;
          return head ? [{ flow: head.flow, repo: head.repo, leases, taken: 0 }] : [];
        })
        .toSorted((a, b) => compareText(a.flow, b.flow) || compareText(a.repo, b.repo)),
    );
}

/** The lanes of a band in the order in which the next machine is offered to them. */
function turns<L extends Waiting>(lanes: readonly Lane<L>[], shares: Shares): Lane<L>[] {
  const compared = lanes.slice(0, FLOWS_COMPARED);
  if (compared.length === 1) return compared;
  const flowServed = new Map<string, number>();
  for (const { flow, repo } of compared) {
    const served = shares.of(flow, repo).servedAt;
    flowServed.set(flow, Math.max(served, flowServed.get(flow) ?? served));
  }
  return compared
    .map((lane) => {
      const { held, servedAt } = shares.of(lane.flow, lane.repo);
      const head = lane.leases[lane.taken];
      const key = [
        shares.heldBy(lane.flow),
        flowServed.get(lane.flow) ?? 0,
        held,
        servedAt,
        head?.rank ?? 0,
        head?.starvesAt ?? 0,
        head?.id ?? 0,
      ];
      return { lane, key };
    })
    .toSorted((a, b) => {
      for (const [i, part] of a.key.entries()) {
        const other = b.key[i] ?? 0;
        if (part !== other) return part - other;
      }
      return 0;
    })
    .map(({ lane }) => lane);
}

/** Counts what each flow holds while a queue is played forward. */
class Shares {
  readonly #lanes = new Map<string, { held: number; servedAt: number }>();
  readonly #flows = new Map<string, number>();
  #latest = 0;

  constructor(shares: readonly Share[]) {
    for (const { flow, repo, held, servedAt } of shares) {
      this.#lanes.set(keyOf({ flow, repo }), { held, servedAt: servedAt ?? NEVER });
      this.#flows.set(flow, this.heldBy(flow) + held);
      this.#latest = Math.max(this.#latest, servedAt ?? NEVER);
    }
  }

  of(flow: string, repo: string): { readonly held: number; readonly servedAt: number } {
    return this.#lanes.get(keyOf({ flow, repo })) ?? { held: 0, servedAt: NEVER };
  }

  heldBy(flow: string): number {
    return this.#flows.get(flow) ?? 0;
  }

  serve(lease: Waiting): void {
    const { held } = this.of(lease.flow, lease.repo);
    this.#lanes.set(keyOf(lease), { held: held + 1, servedAt: ++this.#latest });
    this.#flows.set(lease.flow, this.heldBy(lease.flow) + 1);
  }
}

/** Before every instant that a clock shows. */
const NEVER = -1;

function keyOf(lane: { readonly flow: string; readonly repo: string }): string {
  return `${lane.flow}\n${lane.repo}`;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

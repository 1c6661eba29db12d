import fc from "fast-check";
import { expect, test } from "vitest";
import type { Provenance, Trust } from "../farm/build.ts";
import { type EpochMs, epochMs, machineId, minutes, ms, plus } from "../farm/ids.ts";
import type { LeaseClass, LeaseKind } from "../farm/lease.ts";
import {
  bandOf,
  FLOWS_COMPARED,
  line,
  mayTake,
  next,
  rankOf,
  type Share,
  starvesAt,
  type Taker,
  type Waiting,
} from "./order.ts";

const NOON = epochMs(Date.UTC(2026, 10, 23, 12));
const NEVER_STARVES = plus(NOON, minutes(1e6));

function lease(id: number, over: Partial<Waiting> = {}): Waiting {
  return {
    id,
    kind: "build",
    class: "post-submit",
    release: false,
    flow: "app",
    repo: "app",
    rank: id,
    provenance: "submitted",
    starvesAt: NEVER_STARVES,
    avoid: [],
    avoidUntil: null,
    ...over,
  };
}

const taker = {
  machineId: machineId(1),
  trust: "team",
  gomoteLent: true,
  stopped: false,
} as const satisfies Taker;

/** One queue and its machines: they take and give back, and it remembers whose turn it was. */
class Farm {
  /** What was taken last starved, and was taken for that. */
  outOfTurn = false;
  readonly wanted: Waiting[] = [];
  readonly held = new Map<Taker, Waiting>();
  readonly taken: { readonly lease: Waiting; readonly by: Taker; readonly at: EpochMs }[] = [];
  now: EpochMs = NOON;

  shares(): Share[] {
    const shares = new Map<string, { flow: string; repo: string; held: number; servedAt: EpochMs | null }>();
    for (const {
      lease: { flow, repo },
      at,
    } of this.taken) {
      shares.set(`${flow} ${repo}`, { flow, repo, held: 0, servedAt: at });
    }
    for (const { flow, repo } of this.held.values()) {
      const share = shares.get(`${flow} ${repo}`);
      if (share) share.held++;
    }
    return [...shares.values()];
  }

  claim(by: Taker): Waiting | undefined {
    if (this.held.has(by)) return undefined;
    const got = next(this.wanted, this.shares(), by, this.now, this.outOfTurn);
    if (!got) return undefined;
    this.outOfTurn = !this.outOfTurn && got.starvesAt <= this.now;
    this.wanted.splice(this.wanted.indexOf(got), 1);
    this.held.set(by, got);
    this.taken.push({ lease: got, by, at: this.now });
    this.now = plus(this.now, ms(1));
    return got;
  }
}

function bySpan(a: Waiting, b: Waiting): number {
  return a.starvesAt - b.starvesAt || a.id - b.id;
}

function machines(count: number, trust: Trust = "team"): Taker[] {
  return Array.from({ length: count }, (_, i) => ({
    machineId: machineId(i + 1),
    trust,
    gomoteLent: trust === "team",
    stopped: false,
  }));
}

test("[coordinator 60] the newest commit goes first, a try before both; [coordinator 61] a release branch first among tries", () => {
  const older = lease(1, { rank: rankOf("post-submit", NOON, epochMs(1000)) });
  const newer = lease(2, { rank: rankOf("post-submit", NOON, epochMs(2000)) });
  const master = lease(3, { class: "try", rank: rankOf("try", NOON, epochMs(1)) });
  const release = lease(4, { class: "try", release: true, rank: rankOf("try", plus(NOON, ms(5)), epochMs(1)) });
  expect(line([older, newer, master, release], [], NOON, 9)).toEqual([release, master, newer, older]);
});

test("helpers wait for the whole builds of their class, and for no other class", () => {
  const queue = [
    lease(1, { class: "try", kind: "helper", release: true }),
    lease(2, { class: "try", kind: "build" }),
    lease(3, { class: "post-submit", kind: "build" }),
    lease(4, { class: "gomote" }),
  ];
  expect(line(queue, [], NOON, 9).map(({ id }) => id)).toEqual([4, 2, 1, 3]);
});

test("a lease that starves goes before everything, the oldest first, every second time", () => {
  const old = lease(1, { class: "background", starvesAt: plus(NOON, minutes(10)) });
  const older = lease(2, { class: "background", starvesAt: plus(NOON, minutes(9)) });
  const person = lease(3, { class: "gomote", starvesAt: starvesAt("gomote", NOON) });
  const first = (now: EpochMs) => next([old, older, person], [], taker, now)?.id;
  expect([8, 9, 10].map((minute) => first(plus(NOON, minutes(minute))))).toEqual([3, 2, 2]);
  const late = plus(NOON, minutes(10));
  expect(line([old, older, person], [], late, 9).map(({ id }) => id)).toEqual([2, 3, 1]);
  expect(line([old, older, person], [], late, 9, true).map(({ id }) => id)).toEqual([3, 2, 1]);
});

/** What one machine begins in a day, and when, in minutes: each build takes ten. `ask` gives what is wanted at a minute. */
function dayOf(ask: (minute: number) => Waiting[]): { readonly minute: number; readonly lease: Waiting }[] {
  const farm = new Farm();
  const began: { minute: number; lease: Waiting }[] = [];
  for (let minute = 0; minute < 24 * 60; minute++) {
    farm.wanted.push(...ask(minute));
    if (minute % 10 !== 0) continue;
    farm.held.clear();
    farm.now = plus(NOON, minutes(minute));
    const got = farm.claim(taker);
    if (got) began.push({ minute, lease: got });
  }
  return began;
}

/** A lease that is wanted at `minute`, for a commit of then. */
function wantedAt(minute: number, over: Partial<Waiting> & Pick<Waiting, "id">): Waiting {
  const at = plus(NOON, minutes(minute));
  const leaseClass = over.class ?? "post-submit";
  return lease(over.id, { rank: rankOf(leaseClass, at, at), starvesAt: starvesAt(leaseClass, at), ...over });
}

test("a hundred builds that starve leave every second turn to other repositories and to people", () => {
  const small = { flow: "small", repo: "small" };
  const began = dayOf((minute) => {
    if (minute === 0) return Array.from({ length: 100 }, (_, id) => wantedAt(0, { id, flow: "big", repo: "big" }));
    if (minute !== 7 * 60) return [];
    const person = wantedAt(minute, { id: 300, class: "gomote", flow: "ann" });
    return [wantedAt(minute, { id: 200, ...small }), wantedAt(minute, { id: 201, ...small }), person];
  });
  const waited = (id: number) => (began.find((each) => each.lease.id === id)?.minute ?? Number.NaN) - 7 * 60;
  expect(waited(300)).toBeLessThanOrEqual(10);
  expect(waited(200)).toBeLessThanOrEqual(30);
  expect(waited(201)).toBeLessThanOrEqual(70);
});

test("with twice as much to do as it can, a machine builds new commits as well as old ones, and what somebody asks for", () => {
  const asked = wantedAt(20 * 60, { id: 9999, class: "try", flow: "ann" });
  const began = dayOf((minute) => [
    ...(minute % 5 === 0 ? [wantedAt(minute, { id: minute })] : []),
    ...(minute === 20 * 60 ? [asked] : []),
  ]);
  const ages = began
    .filter(({ minute, lease: { id } }) => minute > 12 * 60 && id !== asked.id)
    .map(({ minute, lease: { id } }) => minute - id);
  expect(ages.filter((age) => age < 15).length).toBeGreaterThan(ages.length * 0.45);
  expect(ages.filter((age) => age >= 6 * 60).length).toBeGreaterThan(ages.length * 0.45);
  expect(began.find((each) => each.lease === asked)?.minute).toBeLessThanOrEqual(20 * 60 + 10);
});

test("the builds of one commit go by how long they have waited", () => {
  const [a, b] = [wantedAt(10, { id: 1 }), wantedAt(10, { id: 2, starvesAt: starvesAt("post-submit", NOON) })];
  expect(line([a, b], [], NOON, 9)).toEqual([b, a]);
});

test("a repository that pushes a hundred builds leaves every second machine to the one that pushes two", () => {
  const queue = [
    ...Array.from({ length: 100 }, (_, i) => lease(i + 1, { flow: "big", repo: "big", rank: -1000 })),
    lease(200, { flow: "small", repo: "small" }),
    lease(201, { flow: "small", repo: "small" }),
  ];
  expect(line(queue, [], NOON, 6).map(({ flow }) => flow)).toEqual(["big", "small", "big", "small", "big", "big"]);
});

test("however many lanes want what a machine is not trusted with, it finds the one that stands behind them", () => {
  const crowd = Array.from({ length: FLOWS_COMPARED + 1 }, (_, i) =>
    lease(i, { class: "try", provenance: "reviewed", flow: `crowd ${i}` }),
  );
  const behind = lease(1000, { class: "try", flow: "will" });
  expect(next([...crowd, behind], [], { ...taker, trust: "community" }, NOON)).toBe(behind);
});

test("one machine alternates between flows though nothing is held when it asks, and between the repositories of one person", () => {
  const farm = new Farm();
  const asked = { class: "try" } as const;
  for (let i = 0; i < 4; i++) farm.wanted.push(lease(i, { ...asked, flow: "ann", repo: "app" }));
  for (let i = 4; i < 8; i++) farm.wanted.push(lease(i, { ...asked, flow: "ann", repo: "lib" }));
  for (let i = 8; i < 12; i++) farm.wanted.push(lease(i, { ...asked, flow: "bob", repo: "app" }));
  const order: string[] = [];
  for (let got = farm.claim(taker); got; got = farm.claim(taker)) {
    order.push(`${got.flow} ${got.repo}`);
    farm.held.clear();
  }
  expect(order.slice(0, 8)).toEqual([
    "ann app",
    "bob app",
    "ann lib",
    "bob app",
    "ann app",
    "bob app",
    "ann lib",
    "bob app",
  ]);
});

test("a commit of tomorrow goes no further than one of now", () => {
  const tomorrow = rankOf("post-submit", NOON, plus(NOON, minutes(24 * 60)));
  expect([tomorrow, rankOf("post-submit", plus(NOON, minutes(1)), NOON)]).toEqual([-NOON, -NOON]);
});

test("a clock that jumped a day ahead and back: what was asked for meanwhile is late by no more than the jump", () => {
  const ahead = plus(NOON, minutes(24 * 60));
  const jumped = lease(1, { class: "try", rank: rankOf("try", ahead, ahead), starvesAt: starvesAt("try", ahead) });
  const since = (id: number, at: EpochMs) =>
    lease(id, { class: "try", rank: rankOf("try", at, at), starvesAt: starvesAt("try", at) });
  expect(next([jumped, since(2, NOON)], [], taker, NOON)?.id).toBe(2);
  const due = starvesAt("try", ahead);
  expect(next([jumped, since(3, due)], [], taker, due)?.id).toBe(1);
  // By a clock that is ahead, everything starves and so goes by age.
  expect(line([since(3, plus(NOON, ms(5))), since(4, NOON)], [], plus(ahead, minutes(60)), 9).map((l) => l.id)).toEqual(
    [4, 3],
  );
});

const arbitraryLease = fc.record({
  kind: fc.constantFrom<LeaseKind>("build", "build", "helper"),
  class: fc.constantFrom<LeaseClass>("gomote", "try", "post-submit", "background"),
  release: fc.boolean(),
  flow: fc.constantFrom("ann", "bob", "cyd"),
  repo: fc.constantFrom("app", "lib"),
  rank: fc.integer({ min: -3, max: 3 }),
  provenance: fc.constantFrom<Provenance>("submitted", "reviewed", "unreviewed"),
  starvesAt: fc.integer({ min: -3, max: 40 }).map((n) => plus(NOON, ms(n))),
  avoid: fc.subarray([1, 2, 3]).map((ids) => ids.map(machineId)),
  avoidUntil: fc.option(fc.integer({ min: -2, max: 30 }).map((n) => plus(NOON, ms(n)))),
});
const arbitraryQueue = fc
  .array(arbitraryLease, { maxLength: 40 })
  .map((leases) => leases.map((each, i) => lease(i + 1, each)));

test("random farms: nothing is handed out twice, trust holds, and what is taken is the first that may be", () => {
  fc.assert(
    fc.property(
      arbitraryQueue,
      fc.array(fc.constantFrom<Trust>("team", "community"), { minLength: 3, maxLength: 3 }),
      fc.array(fc.tuple(fc.nat(2), fc.boolean()), { maxLength: 80 }),
      (queue, trusts, steps) => {
        const farm = new Farm();
        farm.wanted.push(...queue);
        const takers = trusts.map((trust, i) => ({
          machineId: machineId(i + 1),
          trust,
          stopped: false,
        }));
        for (const [who, givesBack] of steps) {
          const by = takers[who] as Taker;
          if (givesBack) farm.held.delete(by);
          const before = [...farm.wanted];
          const { now, outOfTurn } = farm;
          const got = farm.claim(by);
          if (!got) continue;
          const might = before.filter((each) => mayTake(by, each, now));
          expect(might).toContain(got);
          if (!outOfTurn && might.some((each) => each.starvesAt <= now)) {
            expect(got.starvesAt).toBe(Math.min(...might.map((each) => each.starvesAt)));
          } else {
            const band = might.filter((each) => bandOf(each) === Math.min(...might.map(bandOf)));
            const lane = band.filter((each) => each.flow === got.flow && each.repo === got.repo);
            expect(lane.toSorted((a, b) => a.rank - b.rank || bySpan(a, b))[0]).toBe(got);
          }
        }
        const ids = farm.taken.map((each) => each.lease.id);
        expect(new Set(ids).size).toBe(ids.length);
        for (const { lease: given, by } of farm.taken) {
          if (by.trust === "community") expect(given.provenance).toBe("submitted");
        }
      },
    ),
  );
});

test("random farms: of two leases that are taken one after the other, one is the oldest that starves, while any does", () => {
  fc.assert(
    fc.property(arbitraryQueue, fc.integer({ min: 1, max: 3 }), (queue, count) => {
      const farm = new Farm();
      farm.wanted.push(...queue.map((each) => ({ ...each, avoidUntil: null })));
      const takers = machines(count);
      let passedBy = false;
      for (let turn = 0; turn < queue.length; turn++) {
        const [oldest] = farm.wanted.filter((each) => each.starvesAt <= farm.now).toSorted(bySpan);
        farm.held.clear();
        const got = farm.claim(takers[turn % count] as Taker);
        if (passedBy && oldest) expect(got).toBe(oldest);
        passedBy = oldest !== undefined && got !== oldest;
      }
      expect(farm.taken.length).toBe(queue.length);
    }),
  );
});

test("random farms: while others of its band wait, no flow holds two machines more than any of them", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("ann", "bob", "cyd", "dan"), { maxLength: 60 }),
      fc.integer({ min: 1, max: 9 }),
      fc.array(fc.nat(8), { maxLength: 60 }),
      (flows, count, givesBack) => {
        const farm = new Farm();
        farm.wanted.push(...flows.map((flow, id) => lease(id, { flow, repo: flow })));
        const takers = machines(count);
        const heldBy = (flow: string) => [...farm.held.values()].filter((each) => each.flow === flow).length;
        for (const who of [...takers.keys(), ...givesBack]) {
          const by = takers[who % count] as Taker;
          farm.held.delete(by);
          const waiting = new Set(farm.wanted.map(({ flow }) => flow));
          const got = farm.claim(by);
          if (!got) continue;
          for (const other of waiting) expect(heldBy(got.flow) - heldBy(other)).toBeLessThanOrEqual(1);
        }
      },
    ),
  );
});

test("random farms: line() is the order in which one machine after another takes", () => {
  fc.assert(
    fc.property(arbitraryQueue, (leases) => {
      const queue = leases.map((each) => ({
        ...each,
        avoidUntil: null,
        starvesAt: each.starvesAt <= NOON ? NOON : NEVER_STARVES,
      }));
      const farm = new Farm();
      farm.wanted.push(...queue);
      const order = machines(queue.length).map((each) => farm.claim(each)?.id);
      expect(line(queue, [], NOON, queue.length).map(({ id }) => id)).toEqual(order);
    }),
  );
});

test("line() of 10,000 in many flows takes no time to speak of", () => {
  const queue = Array.from({ length: 10_000 }, (_, i) =>
    lease(i, { flow: `flow ${i % 97}`, repo: "r", rank: (i * 7919) % 1000 }),
  );
  const started = performance.now();
  expect(line(queue, [], NOON, 1000).length).toBe(1000);
  expect(performance.now() - started).toBeLessThan(1000);
});

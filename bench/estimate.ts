/**
 * How good is "starts in"? Simulated farms of one host type, run by the very functions that the real one uses: who goes next is
 * schedule/order.ts's, the estimate schedule/forecast.ts's, made for every build at the moment when it is wanted and compared with
 * when it really began.
 *
 * Eight machines; three repositories that push bursts of builds on twelve builders; a builder's durations are log-normal about its
 * median (10 s to 20 min), one run in twenty takes four times as long; history is the last 50 runs, none at first. Builds that begin at once
 * are left out: everybody guesses those right. Four farms:
 *
 *   alone   one person asks for tries, so nothing that comes later goes before: how good the estimate is at what it claims
 *   sharded as alone, and builds have two helpers each while nothing else waits: how fast one ends depends on that, and all its
 *           machines become free together
 *   turns   six people do, and take turns: of what comes later some goes before, which the estimate says that it does not foresee
 *   newest  post-submit work, newest commit first, a fifth of tries between: most of what comes later goes before
 *
 * coverage  share of builds that began within the range, of which eight in ten are meant to
 * error     median of |estimate - wait| / wait
 */
import { epochMs, machineId, ms, plus } from "../src/farm/ids.ts";
import type { LeaseClass } from "../src/farm/lease.ts";
import { forecast, type Work } from "../src/schedule/forecast.ts";
import { line, next, rankOf, type Share, starvesAt, type Waiting } from "../src/schedule/order.ts";
import type { Bench } from "./bench.ts";
import { atLeast, atMost, percentile } from "./figure.ts";
import { generator } from "./random.ts";

const RUNS = 5;
const MACHINES = 8;
const BUILDERS = 12;
const REPOS = ["app", "lib", "tool"];
const HISTORY = 50;
const PUSHES = 300;
/** Begun sooner than this counts as at once. */
const AT_ONCE_MS = 1000;

/** Per build, on the farm that has helpers. */
const HELPERS = 2;

type Kind = "alone" | "sharded" | "turns" | "newest";

export const estimate: Bench = {
  name: "estimate",
  about: "how well the pages foresee when a waiting build begins, on simulated arrivals",
  limitMs: 240_000,
  async run(context) {
    for (const kind of ["alone", "sharded", "turns", "newest"] as const) {
      const coverage: number[] = [];
      const errors: number[] = [];
      const counted: number[] = [];
      for (let run = 0; run < RUNS; run++) {
        context.signal.throwIfAborted();
        const guesses = simulate(kind, generator(run + 1));
        counted.push(guesses.length);
        coverage.push(guesses.filter((g) => g.wait >= g.earliest && g.wait <= g.latest).length / guesses.length);
        errors.push(
          percentile(
            guesses.map((g) => Math.abs(g.about - g.wait) / g.wait),
            50,
          ),
        );
        await new Promise(setImmediate);
      }
      context.note(`${kind}: ${counted.join(", ")} estimates`);
      const goals = kind === "alone" || kind === "sharded" ? { coverage: atLeast(0.7), error: atMost(0.25) } : {};
      context.report({
        figure: `${kind}-coverage`,
        unit: "",
        values: coverage,
        ...(goals.coverage && { goal: goals.coverage }),
      });
      context.report({ figure: `${kind}-error`, unit: "", values: errors, ...(goals.error && { goal: goals.error }) });
    }
  },
};

interface Guess {
  readonly earliest: number;
  readonly about: number;
  readonly latest: number;
  wait: number;
}

interface Job extends Waiting {
  readonly builder: number;
  readonly wantedAt: number;
  /** What it takes one machine, and still takes. Helpers share it. */
  readonly takes: number;
  left: number;
  readonly helps: Job | null;
}

/** The estimates of one farm from its beginning to its end, and what came of them. */
function simulate(kind: Kind, random: () => number): Guess[] {
  let now = epochMs(Date.UTC(2026, 10, 23));
  const medians = Array.from({ length: BUILDERS }, () => 10_000 * 120 ** random());
  const load = medians.reduce((a, b) => a + b, 0);
  const history = medians.map((): number[] => []);
  const recent = (builder: number) => (history[builder] as number[]).toSorted((a, b) => a - b);
  let waiting: Job[] = [];
  let outOfTurn = false;
  let machines: Job[] = [];
  const working = (build: Job): number => machines.filter((job) => job === build || job.helps === build).length;
  const served = new Map<string, number>();
  const guesses = new Map<number, Guess>();
  const done: Guess[] = [];
  let id = 0;

  const shares = (): Share[] =>
    [...served].map(([flow, at]) => ({
      flow,
      repo: "",
      held: machines.filter((job) => job.flow === flow).length,
      servedAt: epochMs(at),
    }));
  const take = (): void => {
    while (machines.length < MACHINES) {
      const taker = {
        machineId: machineId(1),
        trust: "team",
        gomoteLent: true,
        stopped: false,
      } as const;
      const job = next(waiting, shares(), taker, now, outOfTurn) as Job | undefined;
      if (!job) return;
      outOfTurn = !outOfTurn && job.starvesAt <= now;
      waiting.splice(waiting.indexOf(job), 1);
      machines.push(job);
      if (kind === "sharded" && job.helps === null) {
        for (let i = 0; i < HELPERS; i++) waiting.push({ ...job, id: ++id, kind: "helper", helps: job });
      }
      served.set(job.flow, now);
      const guess = guesses.get(job.id);
      const wait = now - job.wantedAt;
      if (guess && wait >= AT_ONCE_MS) done.push({ ...guess, wait });
    }
  };
  const push = (): void => {
    const repo = REPOS[Math.floor(REPOS.length * random() * random())] ?? "app";
    const people = kind === "alone" || kind === "sharded" ? 1 : 6;
    const isTry = kind !== "newest" || random() < 0.2;
    const leaseClass: LeaseClass = isTry ? "try" : "post-submit";
    const person = `person ${Math.floor(random() * people)}`;
    const burst: Job[] = [];
    for (let builder = 0; builder < BUILDERS; builder++) {
      if (random() < 0.25) continue;
      const takes = (medians[builder] as number) * Math.exp(0.25 * normal(random)) * (random() < 0.05 ? 4 : 1);
      burst.push({
        id: ++id,
        kind: "build",
        class: leaseClass,
        release: false,
        flow: isTry ? person : repo,
        repo: "",
        rank: rankOf(leaseClass, now, now),
        provenance: "submitted",
        starvesAt: starvesAt(leaseClass, now),
        avoid: [],
        avoidUntil: null,
        builder,
        wantedAt: now,
        takes,
        left: takes,
        helps: null,
      });
    }
    waiting.push(...burst);
    take();
    const order = line(waiting, shares(), now, waiting.length, outOfTurn);
    const works = new Map<Job, Work>();
    for (const job of machines) {
      if (job.helps !== null) continue;
      works.set(job, { spentMs: job.takes - job.left, machines: working(job), durations: recent(job.builder) });
    }
    const serving = Array.from({ length: MACHINES }, (_, i) => {
      const job = machines[i];
      return { work: (job && works.get(job.helps ?? job)) ?? null };
    });
    const wanted = order.map((job) => {
      const helps = job.helps && works.get(job.helps);
      return helps ? { helps } : { durations: recent(job.builder) };
    });
    const estimates = forecast(serving, wanted);
    for (const [i, job] of order.entries()) {
      const each = estimates[i];
      if (!each || !burst.includes(job)) continue;
      guesses.set(job.id, { earliest: each.earliestMs, about: each.aboutMs, latest: each.latestMs, wait: 0 });
    }
  };

  // Machines are busy nine tenths of the time; half of the pushes follow the one before at once, by people who all go home at the same hour.
  const between = (load * 0.75) / MACHINES / 0.9;
  let nextPush = now as number;
  for (let pushes = 0; pushes < PUSHES || machines.length > 0; ) {
    const builds = machines.filter((job) => job.helps === null);
    const first = builds.toSorted((a, b) => a.left / working(a) - b.left / working(b))[0];
    const pushed = pushes < PUSHES ? nextPush - now : Number.POSITIVE_INFINITY;
    const ends = first ? first.left / working(first) : Number.POSITIVE_INFINITY;
    const passed = Math.max(0, Math.min(pushed, ends));
    for (const job of builds) job.left -= passed * working(job);
    now = plus(now, ms(passed));
    if (pushed <= ends) {
      push();
      pushes++;
      nextPush += random() < 0.5 ? between * 0.2 : between * 1.8 * -Math.log(1 - random());
    } else if (first) {
      machines = machines.filter((job) => job !== first && job.helps !== first);
      waiting = waiting.filter(({ helps }) => helps !== first);
      const runs = history[first.builder] as number[];
      runs.push(first.takes);
      if (runs.length > HISTORY) runs.shift();
      take();
    }
  }
  return done;
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

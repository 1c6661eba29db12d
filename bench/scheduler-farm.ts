/**
 * A big farm as the scheduler sees it, in a database of its own, and the day that it lives through: everything that it is asked to do is wanted, claimed
 * and ended one by one.
 *
 * 200 host types share 20,000 machines as unevenly as real ones do: the first has nearly half of them, every other one has three at most. Each
 * has work as it has machines, so where they are many they are taken at once, and where they are few one waits. A quarter of the types is
 * lent by a community. Work comes in pushes: one push wants forty leases at once. REPOS repositories push, the first most of all; PUSHES a day, by day three
 * times as often as by night, when a third of the machines is busy; at noon nearly all are. One push in ten is a try, by one of PEOPLE people, that
 * nobody has reviewed, so that what a community lends does not get it. With every other push a person borrows a machine.
 *
 * Claims and ends are the coordinator's own statements, and who asks, and when, is the claim loop's own answer (schedule/claims.ts) to pushes and to
 * machines that are free again; so some ask in vain. A lease is wanted by a row as that of a build, without the build. It lasts eight minutes,
 * log-normal; one in twenty fails by its machine, and is wanted again, elsewhere first.
 *
 * Only the time is not real: the farm's clock goes from one push to the next as soon as nobody asks any more. What needs a clock that runs, the look
 * at every queue each half minute, is therefore left out.
 */
import type { Clock } from "../src/farm/clock.ts";
import { type EpochMs, epochMs, minutes, type SessionId, seconds, sessionId } from "../src/farm/ids.ts";
import { LEASE_CLASSES, type Lease, type LeaseClass } from "../src/farm/lease.ts";
import { Claims } from "../src/schedule/claims.ts";
import { rankOf, starvesAt } from "../src/schedule/order.ts";
import { claimLease, endLease } from "../src/store/leases.ts";
import type { Sql } from "../src/store/sql.ts";
import { generator } from "./random.ts";

const MACHINES = 20_000;
const HOST_TYPES = 200;
const REPOS = 60;
const PEOPLE = 400;
/** Leases of one push. */
const PUSH = 40;
/** Of one day: with what people want and what is wanted again, 990,000 leases. */
const PUSHES = 23_240;
const DAY = 24 * 3600_000;
/** How long a lease lasts in the middle. */
const LASTS = minutes(8);
/** How long a person keeps a machine. */
const BORROWED = minutes(60);
/** How long others have it to themselves. */
const ELSEWHERE = seconds(60);

export interface Claim {
  readonly ms: number;
  readonly got: boolean;
}

interface Work {
  readonly lease: Lease;
  readonly endsAt: EpochMs;
}

export class SchedulerFarm {
  readonly #sql: Sql;
  readonly #start: number;
  readonly #random = generator(1);
  readonly #stop = new AbortController();
  readonly #claims: Claims;
  /** The number of the host type of each machine. */
  readonly #types = typesOfMachines();
  #gate = new Gate(1);
  #now: EpochMs;
  #pushed = 0;
  #wanted = 0;
  #busy: Work[] = [];
  #asked: Claim[] = [];
  readonly #asking = new Set<Promise<unknown>>();

  private constructor(sql: Sql, start: number) {
    this.#sql = sql;
    this.#start = start;
    this.#now = epochMs(start);
    const clock: Clock = {
      now: () => this.#now,
      monotonic: () => performance.now(),
      sleep: () => new Promise(() => {}), // this time passes only with the pushes
    };
    this.#claims = new Claims({ clock, log: quiet, claim: (session) => this.#claim(session) }, this.#stop.signal);
  }

  /** Makes the farm, which nobody has wanted anything of, in the empty database behind `sql`. */
  static async make(sql: Sql): Promise<SchedulerFarm> {
    const farm = new SchedulerFarm(sql, Date.now());
    await farm.#insertMachines();
    for (const [machine, type] of farm.#types.entries()) {
      farm.#claims.offer({ id: sessionOf(machine), queue: `type-${type}` });
    }
    farm.#claims.begin((lease) => farm.#begin(lease));
    await farm.#settled();
    return farm;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  /** Leases that were wanted so far. */
  get wanted(): number {
    return this.#wanted;
  }

  /** Held now. */
  get held(): number {
    return this.#busy.length;
  }

  /**
   * Goes on, push by push, until `wanted` leases were wanted and whoever has a machine for one has taken it, with `atOnce` claims and ends at a time;
   * returns everything that was asked. Throws once `signal` aborts.
   */
  async live(wanted: number, atOnce: number, signal: AbortSignal): Promise<Claim[]> {
    this.#asked = [];
    this.#gate = new Gate(atOnce);
    while (this.#wanted < wanted) {
      signal.throwIfAborted();
      const until = this.#timeOf(this.#pushed + 1);
      const over = this.#busy.filter(({ endsAt }) => endsAt <= until).toSorted((a, b) => a.endsAt - b.endsAt);
      this.#busy = this.#busy.filter(({ endsAt }) => endsAt > until);
      for (const work of over) this.#ask(() => this.#end(work));
      this.#ask(() => this.#push());
      await this.#settled();
    }
    return this.#asked;
  }

  /** When the n-th push comes, from midnight on: by day they are closer together. */
  #timeOf(push: number): EpochMs {
    const days = push / PUSHES;
    return epochMs(Math.round(this.#start + DAY * (days + Math.sin(days * 2 * Math.PI) / 12)));
  }

  #ask(work: () => Promise<void>): void {
    void this.#counted(this.#gate.run(work));
  }

  /** An idle machine asks for work. */
  #claim(session: SessionId): ReturnType<typeof claimLease> {
    return this.#counted(
      this.#gate.run(async () => {
        const started = performance.now();
        const answer = await claimLease(this.#sql, session, this.#now);
        this.#asked.push({ ms: performance.now() - started, got: answer.lease !== undefined });
        return answer;
      }),
    );
  }

  #counted<T>(work: Promise<T>): Promise<T> {
    this.#asking.add(work);
    return work;
  }

  /** Waits until nobody asks any more; who got an answer may have others ask. */
  async #settled(): Promise<void> {
    while (this.#asking.size > 0) {
      const now = [...this.#asking];
      await Promise.all(now);
      for (const each of now) this.#asking.delete(each);
      await new Promise(setImmediate);
    }
  }

  #begin(lease: Lease): void {
    const lasts = lease.class === "gomote" ? BORROWED : LASTS * Math.exp(this.#normal());
    this.#busy.push({ lease, endsAt: epochMs(Math.round(this.#now + lasts)) });
  }

  /** A busy machine has done its work, or failed at it. */
  async #end({ lease, endsAt }: Work): Promise<void> {
    this.#now = epochMs(Math.max(this.#now, endsAt));
    const failed = lease.class !== "gomote" && this.#random() < 0.05;
    await endLease(this.#sql, lease, endsAt, failed ? "machine" : "success");
    if (failed) {
      await this.#sql.query(
        `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at, avoid, avoid_until)
         select kind, class, queue, flow, repo, provenance, rank, $2, starves_at, array[machine_id], $3 from lease where id = $1`,
        [lease.id, new Date(endsAt), new Date(endsAt + ELSEWHERE)],
      );
      this.#wanted++;
      this.#claims.wake(lease.queue);
    }
    this.#claims.offer({ id: lease.sessionId, queue: lease.queue });
  }

  /** The next push, and by every other one a person who wants a machine. */
  async #push(): Promise<void> {
    this.#now = epochMs(Math.max(this.#now, this.#timeOf(++this.#pushed)));
    const repo = `repo-${Math.floor(REPOS * this.#random() * this.#random())}`;
    const person = `person-${this.#upTo(PEOPLE)}`;
    const isTry = this.#upTo(10) === 1;
    const queues = Array.from({ length: PUSH }, () => this.#hostType(isTry));
    await this.#want(isTry ? "try" : "post-submit", isTry ? person : repo, repo, queues);
    if (this.#pushed % 2 === 0) await this.#want("gomote", person, "", [this.#hostType(true)]);
  }

  async #want(leaseClass: LeaseClass, flow: string, repo: string, queues: readonly string[]): Promise<void> {
    const now = this.#now;
    await this.#sql.query(
      `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
       select $8, $1::smallint, queue, $2, $3, $9, $4, $5, $6 from unnest($7::text[]) queue`,
      [
        LEASE_CLASSES[leaseClass],
        flow,
        repo,
        rankOf(leaseClass, now, now),
        new Date(now),
        new Date(starvesAt(leaseClass, now)),
        queues,
        leaseClass === "gomote" ? "gomote" : "build",
        leaseClass === "post-submit" ? "submitted" : "unreviewed",
      ],
    );
    this.#wanted += queues.length;
    for (const queue of queues) this.#claims.wake(queue);
  }

  /** `ours`: no community's. Nobody wants from one what it may not do, most of the time. */
  #hostType(ours: boolean): string {
    for (;;) {
      const type = this.#types[this.#upTo(MACHINES) - 1] ?? 0;
      if (!ours || !isLent(type) || this.#random() < 0.02) return `type-${type}`;
    }
  }

  /** 1 to `most`. */
  #upTo(most: number): number {
    return 1 + Math.floor(this.#random() * most);
  }

  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random());
  }

  /** All connected to one coordinator, which does not run. */
  async #insertMachines(): Promise<void> {
    const sql = this.#sql;
    const now = new Date(this.#now);
    await sql.query(
      `insert into coordinator (id, host, pid, version, started_at, seen_at) values ('P000000001', 'bench', 1, 'bench', $1, $1)`,
      [now],
    );
    const types = Array.from({ length: HOST_TYPES }, (_, n) => n + 1);
    await sql.query(
      `insert into host_type (name, trust, gomote_lent, configured)
       select 'type-' || type, trust, trust = 'team', true from unnest($1::integer[], $2::text[]) as t (type, trust)`,
      [types, types.map((type) => (isLent(type) ? "community" : "team"))],
    );
    await sql.query(
      `with m as (
         insert into machine (host_type, name, first_seen_at, last_seen_at, agent, version, address)
         select 'type-' || type, 'machine-' || n, $3, $3, 'barnraiser', 29, '192.0.2.1:1'
         from unnest($1::integer[]) with ordinality t (type, n)
         returning id, name
       )
       insert into session (id, machine_id, coordinator_id, address, opened_at)
       select s.id, m.id, 'P000000001', '192.0.2.1:1', $3
       from unnest($2::text[]) with ordinality s (id, n) join m on m.name = 'machine-' || n`,
      [this.#types, this.#types.map((_, machine) => sessionOf(machine)), now],
    );
    await sql.query("analyze machine, session, host_type");
  }
}

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** Runs `atOnce` at the same time, the others as those end, in their order. */
class Gate {
  readonly #waiting: (() => void)[] = [];
  #free: number;

  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free === 0) await new Promise<void>((go) => this.#waiting.push(go));
    else this.#free--;
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free++;
    }
  }
}

/** The n-th host type has a share of the machines of n to the -1.7th, and every one has some. */
function typesOfMachines(): number[] {
  const shares = Array.from({ length: HOST_TYPES }, (_, n) => (n + 1) ** -1.7);
  const all = shares.reduce((a, b) => a + b, 0);
  const counts = shares.map((share) => Math.max(1, Math.floor((share / all) * MACHINES)));
  counts[0] = (counts[0] ?? 0) + MACHINES - counts.reduce((a, b) => a + b, 0);
  return counts.flatMap((count, n) => Array.from({ length: count }, () => n + 1));
}

/** By a community. */
function isLent(type: number): boolean {
  return type % 4 === 0;
}

function sessionOf(machine: number): SessionId {
  return sessionId(String(machine).padStart(32, "0"));
}

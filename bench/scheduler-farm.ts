/**
 * A big farm as the scheduler sees it, in a database of its own: host types, machines with open sessions, and leases, of which all but
 * a few thousand have ended; and the days that it lives through.
 *
 * 200 host types share 20,000 machines as unevenly as real ones do: the first has nearly half of them, every other one has three at most, and
 * those are the ones with long queues. A quarter of the types is lent by a community. Work comes in pushes: one push wants a lease on each of
 * forty host types at once. Six repositories push, the first most of all; PUSHES a day, by day several times as often as by night. One push in ten is
 * a try, by one of 40 people, that nobody has reviewed, so that what a community lends does not get it. With every other push a person borrows a machine.
 *
 *   seeded   what ended in the days before: rows as a claim and an end leave them, that neither has seen
 *   lived    all that is wanted from then on: pushed, claimed and ended by the coordinator's own statements. Who asks, and when, is the claim
 *            loop's own answer (schedule/claims.ts) to pushes and to machines that are free again; so some ask in vain. A lease
 *            lasts twelve minutes, log-normal; one in twenty fails by its machine, and is wanted again, elsewhere first
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

const MACHINES = 20_000;
const HOST_TYPES = 200;
const REPOS = ["app", "lib", "tool", "docs", "infra", "site"];
const PEOPLE = 40;
/** Leases of one push. */
const PUSH = 40;
/** Of one day: a million leases are thirty days. */
export const PUSHES = 833;
/** What the last pushes wanted, whoever has a machine for it takes at once. */
const BEFORE = 175;
const DAY = 24 * 3600_000;
/** How long a lease lasts in the middle. */
const LASTS = minutes(12);
/** How long a person keeps a machine. */
const BORROWED = minutes(60);
/** How long others have it to themselves. */
const ELSEWHERE = seconds(60);
/** Who asks at once while the farm is made. */
const MAKERS = 8;

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
  #gate = new Gate(MAKERS);
  #now: EpochMs;
  /** Of the day. */
  #pushed = -BEFORE;
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

  /** Fills the empty database behind `sql` with `leases` leases, until everybody has what there is for them. */
  static async seed(sql: Sql, leases: number): Promise<SchedulerFarm> {
    const start = Date.now();
    const sizes = machineCounts();
    await sql.tx(async (tx) => {
      // A million rows go in faster without the indexes, which are made once they are there.
      const indexes = await tx.query<{ name: string; definition: string }>(
        `select indexname as name, indexdef as definition from pg_indexes where tablename = 'lease' and indexname <> 'lease_pkey'`,
      );
      for (const { name } of indexes) await tx.query(`drop index ${name}`);
      await seedRows(tx, sizes, leases - BEFORE * PUSH, new Date(start));
      for (const { definition } of indexes) await tx.query(definition);
    });
    for (const table of ["lease", "machine", "session"]) await sql.query(`vacuum (analyze) ${table}`);
    const farm = new SchedulerFarm(sql, start);
    let machine = 0;
    for (const [n, size] of sizes.entries()) {
      for (let i = 0; i < size; i++) {
        farm.#claims.offer({ id: sessionId(String(++machine).padStart(32, "0")), queue: `type-${n + 1}` });
      }
    }
    farm.#claims.begin((lease) => farm.#begin(lease));
    await farm.live(BEFORE, MAKERS);
    await sql.query("vacuum (analyze) lease");
    await sql.query("checkpoint");
    return farm;
  }

  [Symbol.dispose](): void {
    this.#stop.abort();
  }

  /** Held now. */
  get held(): number {
    return this.#busy.length;
  }

  /** The next `pushes` and what ends meanwhile, `atOnce` of them and so many connections at a time; returns everything that was asked. */
  async live(pushes: number, atOnce: number): Promise<Claim[]> {
    this.#asked = [];
    this.#gate = new Gate(atOnce);
    for (let left = pushes; left > 0; left -= atOnce) {
      const count = Math.min(left, atOnce);
      const until = this.#timeOf(this.#pushed + count);
      const over = this.#busy.filter(({ endsAt }) => endsAt <= until).toSorted((a, b) => a.endsAt - b.endsAt);
      this.#busy = this.#busy.filter(({ endsAt }) => endsAt > until);
      for (const work of over) this.#ask(() => this.#end(work));
      for (let i = 0; i < count; i++) this.#ask(() => this.#push());
      await this.#settled();
    }
    return this.#asked;
  }

  /** When the n-th push of the day comes: by day the hours are closer together. */
  #timeOf(push: number): EpochMs {
    return epochMs(
      Math.round(this.#start + (DAY * push) / PUSHES + (DAY / 8) * Math.sin((push * 2 * Math.PI) / PUSHES)),
    );
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
      this.#claims.wake(lease.queue);
    }
    this.#claims.offer({ id: lease.sessionId, queue: lease.queue });
  }

  /** The next push, and by every other one a person who wants a machine. */
  async #push(): Promise<void> {
    this.#now = epochMs(Math.max(this.#now, this.#timeOf(++this.#pushed)));
    const repo = REPOS[Math.floor(REPOS.length * this.#random() * this.#random())] ?? "";
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
    for (const queue of queues) this.#claims.wake(queue);
  }

  /** `ours`: no community's. Nobody wants from one what it may not do, most of the time. */
  #hostType(ours: boolean): string {
    for (;;) {
      const n = this.#upTo(HOST_TYPES);
      if (!ours || n % 4 !== 0 || this.#random() < 0.02) return `type-${n}`;
    }
  }

  /** 1 to `most`. */
  #upTo(most: number): number {
    return 1 + Math.floor(this.#random() * most);
  }

  #normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random());
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

/** The farm, and `leases` leases that have ended. */
async function seedRows(tx: Sql, sizes: readonly number[], leases: number, now: Date): Promise<void> {
  await tx.query("set local session_replication_role = replica"); // foreign keys hold by construction
  await tx.query("set local synchronous_commit = off");
  await tx.query(
    `insert into coordinator (id, host, pid, version, started_at, seen_at) values ('P000000001', 'bench', 1, 'bench', $1, $1)`,
    [now],
  );
  await tx.query(
    `insert into host_type (name, trust, configured) select 'type-' || n, case when n % 4 = 0 then 'community' else 'team' end, true
     from generate_series(1, $1::integer) n`,
    [HOST_TYPES],
  );
  await tx.query(
    `insert into machine (id, host_type, name, first_seen_at, last_seen_at, agent, version, address)
     overriding system value
     select row_number() over (order by t.n, i), 'type-' || t.n, 'machine-' || i, $2, $2, 'barnraiser', 29, '192.0.2.1:1'
     from unnest($1::integer[]) with ordinality t (size, n), generate_series(1, t.size) i`,
    [sizes, now],
  );
  await tx.query(
    `insert into session (id, machine_id, coordinator_id, address, opened_at)
     select lpad(id::text, 32, '0'), id, 'P000000001', '192.0.2.1:1', $1 from machine`,
    [now],
  );
  const before = sizes.map((_, n) => sizes.slice(0, n).reduce((a, b) => a + b, 0));
  await tx.query(
    `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at, state, epoch, machine_id, session_id,
       coordinator_id, held_at, ended_at, end_reason)
     select 'build', case when try then 1 else 2 end, 'type-' || h.n, case when try then 'person-' || push % $4 else r.name end, r.name,
       case when try and h.n % 4 > 0 then 'unreviewed' else 'submitted' end, -extract(epoch from t) * 1000, t, t + interval '6 hours', 'ended', 1,
       h.machine, lpad(h.machine::text, 32, '0'), 'P000000001',
       t + h.wait * interval '1 second', t + (h.wait + 720) * interval '1 second', 'success'
     from generate_series(1, $1::integer / $5::integer) push,
       lateral (select $2::timestamptz + interval '1 day' * (push - $1::integer / $5::integer - ${BEFORE}) / ${PUSHES}::float8
         -- By day more often: the hours of the day are closer together.
         + interval '3 hours' * sin((push - $1::integer / $5::integer - ${BEFORE}) * 2 * pi() / ${PUSHES}) as t, push % 10 = 0 as try) x,
       lateral (select ($3::text[])[1 + floor(6 * random() * random())] as name where push > 0) r,
       lateral (
         select n, ($7::integer[])[n] + 1 + (push * 7919 + i * 104729) % ($6::integer[])[n] as machine, i % 120 as wait
         from generate_series(1, $5::integer) i, lateral (select 1 + (push * 31 + i * 137) % ${HOST_TYPES} as n) type
       ) h
     order by push`,
    [leases, now, REPOS, PEOPLE, PUSH, sizes, before],
  );
}

/** Machines per host type: the n-th has a share of n to the -1.7th, and every one has some. */
function machineCounts(): number[] {
  const shares = Array.from({ length: HOST_TYPES }, (_, n) => (n + 1) ** -1.7);
  const all = shares.reduce((a, b) => a + b, 0);
  const counts = shares.map((share) => Math.max(1, Math.floor((share / all) * MACHINES)));
  counts[0] = (counts[0] ?? 0) + MACHINES - counts.reduce((a, b) => a + b, 0);
  return counts;
}

/** The same numbers in every run, so that both farms live through the same days. */
function generator(seed: number): () => number {
  let state = (seed * 2654435761) % 2147483647;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

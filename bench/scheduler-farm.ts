/**
 * A big farm as the scheduler sees it, in a database of its own: host types, machines with open sessions, and leases, of which all but
 * a few thousand have ended.
 *
 * 200 host types share 20,000 machines unevenly (the first has some 400, the last some 50); a quarter of the types is lent by a community. Work
 * comes in pushes: one push wants a lease on each of some forty host types at once. Six repositories push, the first half of all; by day four
 * times as often as by night, over the last 30 days. One push in ten is a try, by one of 40 people.
 */
import { randomInt } from "node:crypto";
import { epochMs, leaseId, type SessionId, sessionId } from "../src/farm/ids.ts";
import { LEASE_CLASSES } from "../src/farm/lease.ts";
import { rankOf, starvesAt } from "../src/schedule/order.ts";
import { claimLease, endLease } from "../src/store/leases.ts";
import type { Sql } from "../src/store/sql.ts";

export const MACHINES = 20_000;
const HOST_TYPES = 200;
const REPOS = ["app", "lib", "tool", "docs", "infra", "site"];
const PEOPLE = 40;
/** Leases of one push. */
export const PUSH = 40;
const HELD = 2000;
const WANTED = 5000;

export interface Claim {
  readonly ms: number;
  readonly got: boolean;
}

export class SchedulerFarm {
  readonly #sql: Sql;
  readonly #idle: SessionId[] = [];
  readonly #busy: { readonly session: SessionId; readonly lease: number }[] = [];

  private constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Fills the empty database behind `sql` with `leases` leases. */
  static async seed(sql: Sql, leases: number): Promise<SchedulerFarm> {
    const now = new Date();
    const sizes = machineCounts();
    await sql.tx(async (tx) => {
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
         select row_number() over (), 'type-' || t.n, 'machine-' || i, $2, $2, 'barnraiser', 29, '192.0.2.1:1'
         from unnest($1::integer[]) with ordinality t (size, n), generate_series(1, t.size) i`,
        [sizes, now],
      );
      await tx.query(
        `insert into session (id, machine_id, coordinator_id, address, opened_at)
         select lpad(id::text, 32, '0'), id, 'P000000001', '192.0.2.1:1', $1 from machine`,
        [now],
      );
      await tx.query(
        `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at, state, machine_id, held_at, ended_at, end_reason)
         select 'build', case when try then 1 else 2 end, m.host_type, case when try then 'person-' || push % $4 else r.name end, r.name,
           'submitted', -extract(epoch from t) * 1000, t, t + interval '6 hours', 'ended', m.id,
           t + m.wait * interval '1 second', t + (m.wait + 90) * interval '1 second', 'success'
         from generate_series(1, $1::integer / $5::integer) push,
           lateral (select $2::timestamptz - interval '30 days' * ($1::integer / $5::integer - push) / ($1::integer / $5::integer)
             -- By day four times as often: the hours of the night are squeezed together.
             + interval '1 hour' * 3 * sin(push * 2 * pi() * 30 / ($1::integer / $5::integer)) as t, push % 10 = 0 as try) x,
           lateral (select ($3::text[])[1 + floor(6 * random() * random())] as name where push > 0) r,
           lateral (select ((push * 7919 + i * 104729) % ${MACHINES}) + 1 as machine, i % 120 as wait
             from generate_series(1, $5::integer) i) w
           join lateral (select id, host_type, w.wait from machine where id = w.machine) m on true
         order by push`,
        [leases - HELD - WANTED, now, REPOS, PEOPLE, PUSH],
      );
    });
    const farm = new SchedulerFarm(sql);
    for (let n = 1; n <= MACHINES; n++) farm.#idle.push(sessionId(String(n).padStart(32, "0")));
    await sql.tx(async (tx) => {
      for (let done = 0; done < HELD + WANTED; done += PUSH) await farm.push(tx);
    });
    for (const table of ["lease", "machine", "session"]) await sql.query(`vacuum (analyze) ${table}`);
    while (farm.#busy.length < HELD) await Promise.all(Array.from({ length: 8 }, () => farm.claim()));
    await sql.query("vacuum (analyze) lease");
    await sql.query("checkpoint");
    return farm;
  }

  /** One push: its leases, wanted from now on. */
  async push(sql: Sql = this.#sql): Promise<void> {
    const now = epochMs(Date.now());
    const isTry = randomInt(10) === 0;
    const leaseClass = isTry ? "try" : "post-submit";
    const repo = REPOS[Math.floor(REPOS.length * Math.random() * Math.random())];
    const queues = Array.from({ length: PUSH }, () => `type-${1 + randomInt(HOST_TYPES)}`);
    await sql.query(
      `insert into lease (kind, class, queue, flow, repo, provenance, rank, wanted_at, starves_at)
       select 'build', $1::smallint, queue, $2, $3, 'submitted', $4, $5, $6 from unnest($7::text[]) queue`,
      [
        LEASE_CLASSES[leaseClass],
        isTry ? `person-${randomInt(PEOPLE)}` : repo,
        repo,
        rankOf(leaseClass, now, now),
        new Date(now),
        new Date(starvesAt(leaseClass, now)),
        queues,
      ],
    );
  }

  /** An idle machine asks for work. */
  async claim(): Promise<Claim> {
    const place = randomInt(this.#idle.length);
    const session = this.#idle[place] as SessionId;
    this.#idle[place] = this.#idle.at(-1) as SessionId;
    this.#idle.pop();
    const started = performance.now();
    const { lease } = await claimLease(this.#sql, session, epochMs(Date.now()));
    const ms = performance.now() - started;
    if (lease) this.#busy.push({ session, lease: lease.id });
    else this.#idle.push(session);
    return { ms, got: lease !== undefined };
  }

  /** A busy machine has done its work. */
  async end(): Promise<void> {
    const [work] = this.#busy.splice(randomInt(this.#busy.length), 1);
    if (!work) return;
    await endLease(this.#sql, { id: leaseId(work.lease), epoch: 1 }, epochMs(Date.now()), "success");
    this.#idle.push(work.session);
  }
}

/** Machines per host type: the n-th has a share of 1 / (n + 20), and every one has some. */
function machineCounts(): number[] {
  const shares = Array.from({ length: HOST_TYPES }, (_, n) => 1 / (n + 20));
  const all = shares.reduce((a, b) => a + b, 0);
  const counts = shares.map((share) => Math.floor((share / all) * MACHINES));
  counts[0] = (counts[0] ?? 0) + MACHINES - counts.reduce((a, b) => a + b, 0);
  return counts;
}

/**
 * A farm with a long past, made by the database itself: builders × commits, every build ended but those of the newest commit.
 *
 * Rows are as the farm would have written them: a build has a lease, an attempt on a machine, and a step (no log). All is inserted in
 * bulk without checking foreign keys (they hold by construction: build, lease and attempt share one number), then vacuumed,
 * so that nothing is left to do in the background while something is measured.
 */
import type { Sql } from "../src/store/sql.ts";

export interface Past {
  readonly repo: string;
  readonly branch: string;
  readonly builders: readonly string[];
  readonly hostType: string;
  readonly commits: number;
  /** Time of the newest commit; each older one is a quarter of an hour before the next. */
  readonly newest: Date;
}

export async function seedPast(sql: Sql, past: Past): Promise<void> {
  const { repo, branch, builders, hostType, commits, newest } = past;
  const builds = commits * builders.length;
  await sql.tx(async (tx) => {
    await tx.query("set local session_replication_role = replica");
    await tx.query("set local synchronous_commit = off");
    await tx.query(
      `insert into repo (name, url, fetched_at) values ($1, 'https://example.org/repo', $2)
       on conflict (name) do update set fetched_at = $2, error = null, error_since = null`,
      [repo, newest],
    );
    await tx.query(`insert into host_type (name, trust, configured) values ($1, 'team', true) on conflict do nothing`, [
      hostType,
    ]);
    await tx.query(
      `insert into machine (id, host_type, name, first_seen_at, last_seen_at, agent, version, address)
       overriding system value select -n, $1, 'machine-' || n, $2, $2, 'barnraiser', 29, '192.0.2.1:1' from generate_series(1, 100) n`,
      [hostType, newest],
    );
    await tx.query(
      `insert into commit (id, repo, hash, parents, author_name, author_email, committed_at, message, found_at)
       overriding system value
       select n, $1, md5(n::text) || substr(md5('x' || n), 1, 8), array[md5((n - 1)::text) || substr(md5('x' || n - 1), 1, 8)],
         'Author ' || n % 40, 'author' || n % 40 || '@example.org', t, 'pkg/' || n % 300 || ': change number ' || n || E'\\n\\nBecause.', t
       from generate_series(1, $2::integer) n, lateral (select $3::timestamptz - ($2 - n) * interval '15 minutes' as t) x`,
      [repo, commits, newest],
    );
    await tx.query(
      `insert into branch (repo, name, head, moved_at)
       select $1, $2, hash, $3::timestamptz from commit where id = $4`,
      [repo, branch, newest, commits],
    );
    await tx.query(
      `insert into branch_commit (repo, branch, position, commit_id) select $1, $2, n, n from generate_series(1, $3::integer) n`,
      [repo, branch, commits],
    );
    await tx.query(
      `insert into recipe (digest, body)
       select md5(b) || md5('x' || b), jsonb_build_object('builder', b, 'hostType', $2::text, 'env', '[]'::jsonb, 'sourceDir', 'src',
         'steps', '[{"name":"test","command":["true"],"dir":"","env":[],"path":[],"timeLimitMs":60000}]'::jsonb)
       from unnest($1::text[]) b`,
      [builders, hostType],
    );
    await tx.query(
      `insert into build (id, repo, commit_id, branch, builder, host_type, recipe, provenance, class, state, outcome, failed_step,
         created_at, started_at, ended_at)
       overriding system value
       select (c.id - 1) * $3::integer + b.n, $1, c.id, $2, b.name, $4, md5(b.name) || md5('x' || b.name), 'submitted', 2,
         case when open then 'scheduled' else 'ended' end,
         case when open then null when dice < 6 then 'failure' when dice = 6 then 'infra_failure' else 'success' end,
         case when not open and dice < 6 then 'test' end,
         c.committed_at, case when not open then c.committed_at + interval '5 seconds' end,
         case when not open then c.committed_at + interval '95 seconds' end
       from commit c, unnest($5::text[]) with ordinality b (name, n),
         lateral (select c.id = $6 as open, (hashtext(c.id || b.name) & 1023) % 100 as dice) x
       order by c.id, b.n`,
      [repo, branch, builders.length, hostType, builders, commits],
    );
    await tx.query(
      `insert into lease (id, kind, class, queue, provenance, rank, wanted_at, starves_at, state, machine_id, held_at, ended_at, end_reason)
       overriding system value
       select id, 'build', 2, host_type, 'submitted', -commit_id, created_at, created_at + interval '100 days',
         case when outcome is null then 'wanted' else 'ended' end, case when outcome is not null then -(1 + id % 100) end,
         started_at, ended_at, outcome from build order by id`,
    );
    await tx.query(
      `insert into attempt (id, build_id, number, lease_id, machine_id, state, outcome, created_at, started_at, ended_at)
       overriding system value
       select id, id, 1, id, case when outcome is not null then -(1 + id % 100) end,
         case when outcome is null then 'waiting' else 'ended' end, outcome, created_at, started_at, ended_at from build order by id`,
    );
    await tx.query(
      `insert into step (attempt_id, number, name, status, outcome, started_at, ended_at)
       select id, 0, 'source', 'ok', 'success', started_at, ended_at from build where outcome is not null order by id`,
    );
    for (const table of ["commit", "build", "lease", "attempt"]) {
      await tx.query(`select setval(pg_get_serial_sequence('${table}', 'id'), $1)`, [builds + 1]);
    }
  });
  for (const table of ["commit", "branch_commit", "build", "lease", "attempt", "step"]) {
    await sql.query(`vacuum (analyze) ${table}`);
  }
  await sql.query("checkpoint");
}

/** A machine of `hostType`, connected to the coordinator that runs but no process, and work for it: what the claim statement needs. */
export async function seedQueue(sql: Sql, session: string, hostType: string, leases: number, now: Date): Promise<void> {
  const tomorrow = new Date(now.getTime() + 86_400_000);
  await sql.tx(async (tx) => {
    await tx.query(`insert into host_type (name, trust, configured) values ($1, 'team', false)`, [hostType]);
    await tx.query(
      `insert into machine (id, host_type, name, first_seen_at, last_seen_at, agent, version, address)
       overriding system value values (-1000, $1, 'claimer', $2, $2, 'barnraiser', 29, '192.0.2.1:1')`,
      [hostType, now],
    );
    await tx.query(
      `insert into session (id, machine_id, coordinator_id, address, opened_at)
       select $1, -1000, id, '192.0.2.1:1', $2 from coordinator where ended_at is null`,
      [session, now],
    );
    await tx.query(
      `insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at)
       select 'build', 2, $1, 'submitted', -n, $2, $3 from generate_series(1, $4::integer) n`,
      [hostType, now, tomorrow, leases],
    );
  });
  await sql.query("vacuum (analyze) lease");
}

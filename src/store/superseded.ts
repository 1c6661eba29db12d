/**
 * Finds builds that a newer commit of their branch overtook, and builds that nobody needs any more, and ends them as
 * `skipped`.
 */
import { type BuildId, buildId, type EpochMs } from "../farm/ids.ts";
import { type BuildRef, buildRef } from "./builds.ts";
import { MAY_WORK } from "./drain.ts";
import { endTests, lockTests } from "./left-tests.ts";
import { at, type Sql } from "./sql.ts";

/** A build that has never begun, that nobody asked for, and whose commit is not the head of a watched branch. */
export interface WaitingBuild {
  readonly id: BuildId;
  readonly builder: string;
  readonly hostType: string;
}

/** Such builds of a branch, newest commit first. Commits that are not on the branch any more come last. */
export async function overtakenBuilds(
  sql: Sql,
  repo: string,
  branch: string,
  builders: readonly string[],
): Promise<WaitingBuild[]> {
  return sql.query(
    `select b.id, b.builder, b.host_type as "hostType"
     from build b join attempt a on a.build_id = b.id join lease l on l.id = a.lease_id
       join commit c on c.id = b.commit_id
       left join branch_commit h on h.repo = b.repo and h.branch = b.branch and h.commit_id = b.commit_id
     where b.state = 'scheduled' and b.repo = $1 and b.branch = $2 and b.builder = any ($3::text[])
       and b.requested_by is null and not b.narrows and a.number = 1 and a.state = 'waiting' and l.state = 'wanted'
       and not exists (select from branch where repo = b.repo and head = c.hash and gone_at is null)
     order by h.position desc nulls last, b.id desc`,
    [repo, branch, builders],
  );
}

/**
 * Builds of a commit that wait, of `builders` whose recipe is not among `recipes` any more. A build that somebody asked
 * for is not among them.
 */
export async function outdatedBuilds(
  sql: Sql,
  commitId: number,
  builders: readonly string[],
  recipes: readonly string[],
): Promise<BuildId[]> {
  const rows = await sql.query<{ id: number }>(
    `select id from build where commit_id = $1 and state = 'scheduled' and builder = any ($2::text[])
        and rebuild_of is null and requested_by is null and not narrows and recipe <> all ($3::text[]) order by id`,
    [commitId, builders, recipes],
  );
  return rows.map((row) => buildId(row.id));
}

/**
 * Waiting builds that only a branch needed which is gone: builds of commits that no other branch has, and builds of
 * pairs with that branch of another repository. It does not matter whether they have begun before. A build that
 * somebody asked for is not among them.
 */
export async function buildsOfGone(sql: Sql, repo: string, branch: string): Promise<BuildId[]> {
  const rows = await sql.query<{ id: number }>(
    `select b.id from build b join recipe r on r.digest = b.recipe
     where b.state <> 'ended' and b.state = 'scheduled' and b.requested_by is null and ((r.with_repo = $1 and r.with_branch = $2) or (
       b.repo = $1 and b.branch = $2 and not exists (
         select from branch_commit h join branch o on o.repo = h.repo and o.name = h.branch
         where h.commit_id = b.commit_id and o.gone_at is null)))
     order by b.id`,
    [repo, branch],
  );
  return rows.map((row) => buildId(row.id));
}

/**
 * For each host type, how many machines are free now and may get work, less the number of leases that wait for one.
 * Leases of the builds `except` do not count.
 */
export async function spareMachines(
  sql: Sql,
  hostTypes: readonly string[],
  except: readonly BuildId[],
): Promise<Map<string, number>> {
  const rows = await sql.query<{ host_type: string; spare: number }>(
    `select t.name as host_type,
       (select count(*) from machine m join session s on s.machine_id = m.id join coordinator c on c.id = s.coordinator_id
        where m.host_type = t.name and ${MAY_WORK}
          and not exists (select from lease where session_id = s.id and state = 'held'))
       - (select count(*) from lease l left join attempt a on a.lease_id = l.id
          where l.queue = t.name and l.state = 'wanted' and coalesce(a.build_id, 0) <> all ($2::bigint[])) as spare
     from host_type t where t.name = any ($1::text[])`,
    [hostTypes, except],
  );
  return new Map(rows.map((row) => [row.host_type, row.spare]));
}

/** Ends those of `builds` that still wait for a machine and that nobody has asked for since. Returns them. */
export async function skipBuilds(
  sql: Sql,
  builds: readonly BuildId[],
  reason: string,
  now: EpochMs,
): Promise<BuildRef[]> {
  if (builds.length === 0) return [];
  return sql.tx(async (tx) => {
    // A build whose earlier attempt was lost may have tests, and helpers that run them.
    await lockTests(tx, { builds });
    // The attempt is locked first, as everywhere. This waits for a claim that takes the lease at this moment, and then
    // the build is not skipped.
    const locked = await tx.query<{ id: number }>(
      `select a.build_id as id from attempt a join lease l on l.id = a.lease_id join build b on b.id = a.build_id
       where a.build_id = any ($1::bigint[]) and a.state = 'waiting' and l.state = 'wanted' and b.requested_by is null
       order by a.id for update of a, l, b`,
      [builds],
    );
    const rows = await tx.query<Parameters<typeof buildRef>[0]>(
      `with b as (
         update build set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3
         where id = any ($1::bigint[]) and state = 'scheduled' returning id, repo, commit_id, builder, host_type
       ), a as (
         update attempt set state = 'ended', outcome = 'skipped', reason = $2, ended_at = $3
         from b where attempt.build_id = b.id and attempt.state <> 'ended' returning attempt.lease_id
       ), l as (
         update lease set state = 'ended', end_reason = $2, ended_at = $3 from a where lease.id = a.lease_id and lease.state <> 'ended'
       )
       select id, repo, commit_id, builder, host_type from b order by id`,
      [locked.map((row) => row.id), reason, at(now)],
    );
    const skipped = rows.map(buildRef);
    await endTests(
      tx,
      skipped.map(({ id }) => id),
      reason,
      now,
    );
    return skipped;
  });
}

/**
 * Lets the builds of a commit that wait in place of `skipped` starve when these would have. A build of a pair stands
 * for those with the same branch of the other repository. Without this, a builder that is overtaken again and again
 * would begin to wait anew each time, and builders that share a machine would not take turns.
 */
export async function inheritWait(sql: Sql, commitId: number, skipped: readonly BuildRef[]): Promise<void> {
  if (skipped.length === 0) return;
  await sql.query(
    `with heir as (
       select a.lease_id, min(was.starves_at) as starves_at
       from build o join recipe s on s.digest = o.recipe join attempt e on e.build_id = o.id join lease was on was.id = e.lease_id
         join build b on b.commit_id = $1 and b.builder = o.builder and b.state = 'scheduled'
         join recipe r on r.digest = b.recipe
           and (r.with_repo, r.with_branch) is not distinct from (s.with_repo, s.with_branch)
         join attempt a on a.build_id = b.id
       where o.id = any ($2::bigint[]) group by a.lease_id
     )
     update lease set starves_at = heir.starves_at from heir
     where lease.id = heir.lease_id and lease.state = 'wanted' and lease.starves_at > heir.starves_at`,
    [commitId, skipped.map(({ id }) => id)],
  );
}

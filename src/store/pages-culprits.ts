/** Reading for pages: since when builders are red, which commit did it, and what a commit broke or repaired. */

import { SAYS, type StandingKind } from "./lines.ts";
import { at, type Sql } from "./sql.ts";

/** What a sentence about a commit needs of it. */
export interface CommitName {
  readonly id: number;
  readonly repo: string;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
  readonly parents: readonly string[];
}

export async function commitNames(sql: Sql, ids: readonly number[]): Promise<CommitName[]> {
  return sql.query(
    "select id, repo, hash, message, author_name as author, parents from commit where id = any ($1::bigint[])",
    [ids],
  );
}

/** For builds of pairs: build -> hash of the other commit. */
export async function otherHashes(sql: Sql, builds: readonly number[]): Promise<Map<number, string>> {
  const rows = await sql.query<{ build: number; hash: string }>(
    `select b.id as build, r.with_hash as hash from build b join recipe r on r.digest = b.recipe
     where b.id = any ($1::bigint[]) and r.with_hash is not null`,
    [builds],
  );
  return new Map(rows.map(({ build, hash }) => [build, hash]));
}

/** A builder, or one of its tests, that is red, and since when. */
export interface RedRow {
  readonly repo: string;
  readonly branch: string;
  readonly builder: string;
  /** Null: the builder as a whole. */
  readonly test: string | null;
  readonly kind: StandingKind;
  readonly between: number;
  readonly build: number;
  /** The other repository of a pair, if the commits are that repository's. */
  readonly otherRepo: string | null;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
  readonly greenHash: string | null;
  readonly redAt: number;
}

const RED = `
  s.repo, s.branch, s.builder, s.test, s.kind, s.between, s.red_build as build, b.ended_at as "redAt",
    nullif(c.repo, s.repo) as "otherRepo", c.hash, c.message, c.author_name as author, g.hash as "greenHash"
  from standing s join commit c on c.id = s.red_commit join build b on b.id = s.red_build
    left join commit g on g.id = s.green_commit`;

/** The red builders of a branch, each with its failing tests in their order. */
export async function redBuilders(sql: Sql, repo: string, branch: string): Promise<RedRow[]> {
  return sql.query(`select ${RED} where s.repo = $1 and s.branch = $2 order by s.builder, s.place`, [repo, branch]);
}

/** Builders that were green and turned red since `since`, the last first. Of tests that broke together, the first. */
export async function newlyRed(sql: Sql, since: number, limit: number): Promise<RedRow[]> {
  return sql.query(
    `select * from (
       select distinct on (s.repo, s.branch, s.builder, s.red_build) ${RED} where s.kind in ('commit', 'range') and b.ended_at >= $1
       order by s.repo, s.branch, s.builder, s.red_build, s.place
     ) first order by "redAt" desc, builder limit $2`,
    [at(since as Parameters<typeof at>[0]), limit],
  );
}

/** The tests that this commit broke and that are still red, with their builders. */
export async function testsBrokenBy(sql: Sql, commitId: number): Promise<{ builder: string; test: string }[]> {
  return sql.query(
    `select distinct builder, test from standing where red_commit = $1 and kind = 'commit' and test is not null order by builder, test`,
    [commitId],
  );
}

export interface Turned {
  readonly builder: string;
  /** True: the commit turned the builder green. False: it turned it red. */
  readonly mended: boolean;
}

/**
 * The builders whose result for a commit differs from that for its first parent, by the same recipe. A commit that
 * passed on any try counts as green.
 */
export async function turnedBy(sql: Sql, commitId: number): Promise<Turned[]> {
  return sql.query(
    `with verdict as (
       select o.commit_id, o.builder, o.recipe, bool_or(o.outcome = 'success') as green
       from commit c join commit p on p.repo = c.repo and p.hash = c.parents[1]
         join build o on o.commit_id in (c.id, p.id) and o.outcome in ('success', 'failure') and ${SAYS} <> 'infra_failure'
       where c.id = $1 group by o.commit_id, o.builder, o.recipe
     )
     select distinct mine.builder, mine.green as mended
     from verdict mine join verdict before using (builder, recipe)
     where mine.commit_id = $1 and before.commit_id <> $1 and mine.green <> before.green order by mine.builder`,
    [commitId],
  );
}

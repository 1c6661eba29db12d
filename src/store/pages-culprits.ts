/** Reading for pages: since when builders are red, which commit did it, and what a commit broke and mended. */

import type { StandingKind } from "./lines.ts";
import { at, type Sql } from "./sql.ts";

/** A commit as a sentence names it. */
export interface CommitName {
  readonly id: number;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
  readonly parents: readonly string[];
}

export async function commitNames(sql: Sql, ids: readonly number[]): Promise<CommitName[]> {
  return sql.query(
    "select id, hash, message, author_name as author, parents from commit where id = any ($1::bigint[])",
    [ids],
  );
}

/** A builder that is red, and since when. */
export interface RedRow {
  readonly repo: string;
  readonly branch: string;
  readonly builder: string;
  readonly kind: StandingKind;
  readonly between: number;
  readonly build: number;
  readonly hash: string;
  readonly message: string;
  readonly author: string;
  readonly greenHash: string | null;
  readonly redAt: number;
}

const RED = `
  select s.repo, s.branch, s.builder, s.kind, s.between, s.red_build as build, c.hash, c.message, c.author_name as author, g.hash as "greenHash",
    b.ended_at as "redAt"
  from standing s join commit c on c.id = s.red_commit join build b on b.id = s.red_build left join commit g on g.id = s.green_commit`;

/** The red builders of a branch. */
export async function redBuilders(sql: Sql, repo: string, branch: string): Promise<RedRow[]> {
  return sql.query(`${RED} where s.repo = $1 and s.branch = $2 order by s.builder`, [repo, branch]);
}

/** Builders that were green and turned red since `since`, the last first. */
export async function newlyRed(sql: Sql, since: number, limit: number): Promise<RedRow[]> {
  return sql.query(
    `${RED} where s.kind in ('commit', 'range') and b.ended_at >= $1 order by b.ended_at desc, s.builder limit $2`,
    [at(since as Parameters<typeof at>[0]), limit],
  );
}

export interface Turned {
  readonly builder: string;
  /** False: it broke there. */
  readonly mended: boolean;
}

/** The builders that answer otherwise about a commit than about its first parent, by the same recipe. A commit that passed on any try is green. */
export async function turnedBy(sql: Sql, commitId: number): Promise<Turned[]> {
  return sql.query(
    `with verdict as (
       select b.commit_id, b.builder, b.recipe, bool_or(b.outcome = 'success') as green
       from commit c join commit p on p.repo = c.repo and p.hash = c.parents[1]
         join build b on b.commit_id in (c.id, p.id) and b.outcome in ('success', 'failure')
       where c.id = $1 group by b.commit_id, b.builder, b.recipe
     )
     select distinct mine.builder, mine.green as mended
     from verdict mine join verdict before using (builder, recipe)
     where mine.commit_id = $1 and before.commit_id <> $1 and mine.green <> before.green order by mine.builder`,
    [commitId],
  );
}

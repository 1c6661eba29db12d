/**
 * The tests that failed in the builds of a line. A build may have 10^5 tests, so of most builds only the failed ones
 * are read, by their index.
 */
import { type BuildId, buildId } from "../farm/ids.ts";
import type { Sql } from "./sql.ts";

/** What a failed build says about some tests. */
export interface FailedTests {
  /** The tests that failed. "many": more failed than the caller wanted to see one by one. */
  readonly names: ReadonlySet<string> | "many";
  /** Tests whose machines were lost, which says nothing about the code. */
  readonly lost: ReadonlySet<string>;
  /** All listed tests were run: the build did not stop at the first failure. */
  readonly whole: boolean;
}

/**
 * SQL for whether more than `most` tests failed in the run `r`. `failed` also holds tests that lost their machines,
 * which are not counted here.
 */
const many = (most: string): string =>
  `(r.failed > ${most} and (
     select count(*) from (select from test where build_id = r.build_id and outcome = 'failure' limit ${most}::integer + 1) f
   ) > ${most})`;

/**
 * The tests that failed in a build, in the order of its list, and those whose machines were lost unless these are many.
 * Empty when the build did not end its tests, and when more than `most` failed.
 */
export async function failedIn(sql: Sql, build: BuildId, most: number): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    `select t.name from test_run r join test t on t.build_id = r.build_id
     where r.build_id = $1 and r.ended_at is not null and not ${many("$2")}
       and (t.outcome = 'failure' or t.outcome = 'unschedulable' and r.failed <= $2)
     order by t.number`,
    [build, most],
  );
  return rows.map(({ name }) => name);
}

/**
 * Which of `names` failed in each of `builds`. A build that did not end its tests is left out. When more than `most`
 * tests failed in a build, its names are "many".
 */
export async function failedOf(
  sql: Sql,
  builds: readonly BuildId[],
  names: readonly string[],
  most: number,
): Promise<Map<BuildId, FailedTests>> {
  const rows = await sql.query<{
    build: number;
    many: boolean;
    whole: boolean;
    names: string[] | null;
    lost: string[] | null;
  }>(
    `select r.build_id as build, m.many, not r.stopped as whole, t.names, t.lost
     from test_run r cross join lateral (select ${many("$3")} as many) m left join lateral (
       select array_agg(name) filter (where outcome = 'failure') as names, array_agg(name) filter (where outcome <> 'failure') as lost
       from test
       where build_id = r.build_id and (outcome = 'unschedulable' or outcome = 'failure' and not m.many) and name = any ($2::text[])
     ) t on true
     where r.build_id = any ($1::bigint[]) and r.ended_at is not null`,
    [builds, names, most],
  );
  return new Map(
    rows.map(({ build, many, names, lost, whole }) => [
      buildId(build),
      { names: many ? "many" : new Set(names), lost: new Set(lost), whole },
    ]),
  );
}

/** Which of `names` have run and passed in each of `builds`. This reads whole lists: ask it for a few builds. */
export async function passedIn(
  sql: Sql,
  builds: readonly BuildId[],
  names: readonly string[],
): Promise<Map<BuildId, ReadonlySet<string>>> {
  const rows = await sql.query<{ build: number; names: string[] }>(
    `select build_id as build, array_agg(name) as names from test
     where build_id = any ($1::bigint[]) and name = any ($2::text[]) and outcome in ('success', 'flaky') group by build_id`,
    [builds, names],
  );
  return new Map(rows.map((row) => [buildId(row.build), new Set(row.names)]));
}

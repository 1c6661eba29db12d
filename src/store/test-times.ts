/** What tests took before, for the next builds to plan with. */
import type { BuildId, EpochMs } from "../farm/ids.ts";
import { median } from "../schedule/test-groups.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part } from "./statement.ts";

/** What is kept of each test's durations, per builder. */
const RECENT = 9;

/**
 * Names with what each is expected to take: the median of this builder's recent runs, else of the repository's other builders'. A run that was
 * timed with others, as a group, is a guess at each of them: it counts only where nothing was measured. Where a command never says
 * what each test took there is nothing but such guesses: their sum over a group is right, which is what groups are made by, and since groups
 * differ from build to build, each guess comes closer.
 */
export async function expectedTimes(
  sql: Sql,
  repo: string,
  builder: string,
  names: readonly string[],
): Promise<Map<string, number>> {
  const rows = await sql.query<{ name: string; builder: string; recent: number[]; shared: number[] }>(
    "select name, builder, recent, shared from test_time where repo = $1 and name = any ($2::text[])",
    [repo, names],
  );
  const known = new Map<string, { own: number | undefined; measured: number[]; guessed: number[] }>();
  for (const row of rows) {
    const of = known.get(row.name) ?? { own: undefined, measured: [], guessed: [] };
    known.set(row.name, of);
    if (row.builder === builder) of.own = median(row.recent) ?? median(row.shared);
    of.measured.push(...row.recent);
    of.guessed.push(...row.shared);
  }
  const times = new Map<string, number>();
  for (const [name, { own, measured, guessed }] of known) {
    times.set(name, own ?? median(measured) ?? median(guessed) ?? 0);
  }
  return times;
}

export interface TimedTest {
  readonly name: string;
  readonly passed: boolean;
  /** Measured; null: only its share of a group's time is known. */
  readonly durationMs: number | null;
  readonly shareMs: number | null;
}

/**
 * Keeps what the tests `t` took (columns of a TimedTest) that have passed, as a common table expression. In the order of names, so that two
 * builds that end at once do not wait for each other crosswise.
 */
export function remembered(build: BuildId, now: EpochMs): Part {
  return part`times as (
    insert into test_time as known (repo, name, builder, recent, shared, seen_at)
    select b.repo, t.name, b.builder, array_remove(array[t."durationMs"], null), array_remove(array[t."shareMs"], null),
      date_trunc('day', ${at(now)}::timestamptz)
    from build b, t where b.id = ${build} and t.passed and coalesce(t."durationMs", t."shareMs") is not null order by t.name
    on conflict (repo, name, builder) do update set recent = (excluded.recent || known.recent)[1:${RECENT}],
      shared = (excluded.shared || known.shared)[1:${RECENT}], seen_at = excluded.seen_at
  )`;
}

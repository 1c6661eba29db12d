/** How long tests took, for planning the next builds. */
import type { BuildId, EpochMs } from "../farm/ids.ts";
import { median } from "../schedule/test-groups.ts";
import { at, type Sql } from "./sql.ts";
import { type Part, part } from "./statement.ts";

/** How many durations of each test are kept, per builder. */
const RECENT = 9;

/**
 * How long each of `names` is expected to take: the median of this builder's recent runs, otherwise of the other
 * builders of the repository.
 *
 * For a test that ran with others in a group, the time is a guess, which counts only where nothing was measured. A
 * command that never reports the time of each test gives nothing but guesses. Their sum over a group is right, and
 * groups are made by such sums. Since groups differ from build to build, each guess gets better.
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
  /** The measured time. Null: only the test's share of a group's time is known. */
  readonly durationMs: number | null;
  readonly shareMs: number | null;
}

/**
 * Stores how long those of the tests `t` took (columns of a TimedTest) that passed, as a common table expression. It
 * goes by the order of names, so that two builds that end at once do not deadlock.
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

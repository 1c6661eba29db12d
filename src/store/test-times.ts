/** What tests took before, for the next builds to plan with. */
import type { BuildId, EpochMs } from "../farm/ids.ts";
import { median } from "../schedule/test-groups.ts";
import { at, type Sql } from "./sql.ts";

/** What is kept of each test's durations, per builder. */
const RECENT = 9;

/** Names with what each is expected to take: the median of this builder's recent runs, else of the repository's other builders'. */
export async function expectedTimes(
  sql: Sql,
  repo: string,
  builder: string,
  names: readonly string[],
): Promise<Map<string, number>> {
  const rows = await sql.query<{ name: string; builder: string; recent: number[] }>(
    "select name, builder, recent from test_time where repo = $1 and name = any ($2::text[])",
    [repo, names],
  );
  const own = new Map<string, number>();
  const others = new Map<string, number[]>();
  for (const row of rows) {
    if (row.builder === builder) own.set(row.name, median(row.recent) ?? 0);
    else others.set(row.name, [...(others.get(row.name) ?? []), ...row.recent]);
  }
  for (const [name, times] of others) if (!own.has(name)) own.set(name, median(times) ?? 0);
  return own;
}

export interface TimedTest {
  readonly name: string;
  readonly duration_ms: number | null;
}

/** In the order of names, so that two builds that end at once do not wait for each other crosswise. */
export async function remember(tx: Sql, build: BuildId, timed: readonly TimedTest[], now: EpochMs): Promise<void> {
  await tx.query(
    `insert into test_time as known (repo, name, builder, recent, seen_at)
     select b.repo, t.name, b.builder, array[t.ms], date_trunc('day', $4::timestamptz)
     from build b, unnest($2::text[], $3::integer[]) as t (name, ms) where b.id = $1 order by t.name
     on conflict (repo, name, builder) do update set recent = (excluded.recent || known.recent)[1:${RECENT}], seen_at = excluded.seen_at`,
    [build, timed.map(({ name }) => name), timed.map(({ duration_ms }) => duration_ms), at(now)],
  );
}

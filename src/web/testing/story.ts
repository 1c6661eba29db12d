/** How the seed writes: rows, at times before the end of its story. */
import type { Sql } from "../../store/sql.ts";

export interface Story {
  readonly sql: Sql;
  /** An instant of the story. */
  at(minutesAgo: number): Date;
  /** Inserts a row. Returns its id. */
  insert(text: string, params: readonly unknown[]): Promise<number>;
}

/** A story that ends at `now`. */
export function storyUntil(sql: Sql, now: number): Story {
  return {
    sql,
    at: (minutesAgo) => new Date(now - minutesAgo * 60_000),
    insert: async (text, params) =>
      Number((await sql.query<{ id: number }>(`${text} returning id`, [...params]))[0]?.id),
  };
}

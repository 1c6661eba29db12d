/** A database that loses each answer once, after it did what was asked, so that every call is tried again. */
import type { Sql } from "../sql.ts";

export function repeated(sql: Sql): Sql {
  return {
    async query<Row>(text: string, params?: readonly unknown[]) {
      await sql.query<Row>(text, params);
      return sql.query<Row>(text, params);
    },
    async tx(work) {
      await sql.tx(work);
      return sql.tx(work);
    },
  };
}

/**
 * Names as people type them: which machines and host types have a name, and all names, to suggest one for a mistyped
 * name.
 */
import type { Sql } from "./sql.ts";

/** The machines of that name, at most one per host type. The one that was seen last comes first. */
export async function machinesCalled(sql: Sql, name: string): Promise<{ id: number; hostType: string }[]> {
  return sql.query(`select id, host_type as "hostType" from machine where name = $1 order by last_seen_at desc`, [
    name,
  ]);
}

export async function isHostType(sql: Sql, name: string): Promise<boolean> {
  return (await sql.query("select from host_type where name = $1", [name])).length > 0;
}

/** How many machine names are searched for a similar one. A larger farm may find none, but is not slow. */
const MOST = 50_000;

/** The names of all host types and machines. */
export async function allNames(sql: Sql): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    "select name from host_type union (select name from machine limit $1)",
    [MOST],
  );
  return rows.map((row) => row.name);
}

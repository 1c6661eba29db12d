/** Names as people say them: which machines and host types are called so, and all there are, for whoever mistyped one. */
import type { Sql } from "./sql.ts";

/** The machines of that name, one per host type at most; the one that was seen last in front. */
export async function machinesCalled(sql: Sql, name: string): Promise<{ id: number; hostType: string }[]> {
  return sql.query(`select id, host_type as "hostType" from machine where name = $1 order by last_seen_at desc`, [
    name,
  ]);
}

export async function isHostType(sql: Sql, name: string): Promise<boolean> {
  return (await sql.query("select from host_type where name = $1", [name])).length > 0;
}

/** A slip is looked for among so many machines; in a larger farm it may go unexplained, but not slow. */
const MOST = 50_000;

/** The names of all host types and machines. */
export async function allNames(sql: Sql): Promise<string[]> {
  const rows = await sql.query<{ name: string }>(
    "select name from host_type union (select name from machine limit $1)",
    [MOST],
  );
  return rows.map((row) => row.name);
}

import { expect, test } from "vitest";
import { type EpochMs, type MachineId, minutes, ms, plus } from "../farm/ids.ts";
import { commandsOf } from "./gomote-commands.ts";
import { instancesOfMachine, runningOnInstances } from "./pages-gomote.ts";
import { deleteRecordings } from "./recordings.ts";
import { deleteInstances } from "./retention.ts";
import { at, type Sql } from "./sql.ts";
import { freshDatabase } from "./testing/database.ts";
import { addCoordinator, addHostType, addMachine, NOON } from "./testing/farm.ts";

const HOST = "host-linux-amd64-lent";
const LIMIT = 50;

interface Node {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Node[];
}

/** `sql`, with a count of the rows that each statement touched in any way. */
function counting(sql: Sql): Sql & { readonly touched: number[] } {
  const touched: number[] = [];
  const rowsOf = (node: Node): number =>
    (node["Actual Rows"] + (node["Rows Removed by Filter"] ?? 0)) * node["Actual Loops"] +
    (node.Plans ?? []).reduce((rows, plan) => rows + rowsOf(plan), 0);
  return {
    touched,
    async query<Row>(text: string, params: readonly unknown[] = []): Promise<Row[]> {
      const [row] = await sql.query<{ "QUERY PLAN": readonly { readonly Plan: Node }[] }>(
        `explain (analyze, format json) ${text}`,
        params,
      );
      for (const { Plan } of row?.["QUERY PLAN"] ?? []) touched.push(rowsOf(Plan));
      return sql.query<Row>(text, params);
    },
    tx: (work) => sql.tx(work),
  };
}

/**
 * Machines that were lent often, the first one as often as all others together. Each was lent `each` times, with ten
 * commands each time.
 */
async function lentOften(sql: Sql, machines: number, each: number): Promise<MachineId[]> {
  const coordinator = await addCoordinator(sql, "P000000001", NOON);
  await addHostType(sql, HOST);
  const ids: MachineId[] = [];
  for (let n = 0; n < machines; n++) ids.push((await addMachine(sql, HOST, `lent-${n}`, coordinator)).machineId);
  for (let n = 0; n < each; n += 100)
    await sql.query(
      `with m as (
       select unnest($1::bigint[] || array_fill(($1::bigint[])[1], array[$2::int - 2])) as machine
     ), l as (
       insert into lease (kind, class, queue, provenance, rank, wanted_at, starves_at, state, machine_id, ended_at)
       select case n % 3 when 0 then 'gomote' else 'probe' end, 0, $3, 'unreviewed', 0, t, t, 'ended', machine, t
       from m, generate_series(1, $4::int * 3) n cross join lateral (select $5::timestamptz + n * interval '1 second' as t) x
       returning id, machine_id, ended_at, kind
     ), g as (
       insert into gomote_instance (request, lease_id, name, owner, email, builder_type, host_type, coordinator_id, created_at, expires_at)
       select 'of ' || id, id, 'alice-b-' || id, 'U1', 'alice@example.org', 'b', $3, $6, ended_at, ended_at from l where kind = 'gomote'
       returning id, lease_id
     ), c as (
       insert into gomote_command (instance_id, machine_id, who, command, dir, started_at, ended_at, state)
       select g.id, l.machine_id, 'alice@example.org', 'true', '', l.ended_at, l.ended_at, 'ok'
       from g join l on l.id = g.lease_id, generate_series(1, 10) returning id
     )
     insert into gomote_recording (command_id) select id from c where id % 10 = 0`,
      [ids, machines, HOST, Math.min(each - n, 100), at(plus(NOON, minutes(n))), coordinator],
    );
  await sql.query("analyze");
  return ids;
}

test("a machine that was lent ever so often shows who had it, and what they ran, as fast as any; what is not old costs retention little", async () => {
  await using database = await freshDatabase();
  const [often, seldom] = await lentOften(database.sql, 10, 200);
  if (often === undefined || seldom === undefined) throw new Error("There are machines");
  for (const machine of [often, seldom]) {
    const sql = counting(database.sql);
    const instances = await instancesOfMachine(sql, machine, LIMIT);
    expect(instances).toHaveLength(LIMIT);
    expect(instances.map(({ id }) => id)).toEqual(instances.map(({ id }) => id).toSorted((a, b) => b - a));
    const commands = await commandsOf(sql, { machine }, null, LIMIT);
    expect(commands).toHaveLength(LIMIT);
    const last = commands.at(-1)?.id ?? 0;
    expect(await commandsOf(sql, { machine }, { running: false, id: last }, LIMIT)).toHaveLength(LIMIT);
    await commandsOf(sql, { instance: instances[0]?.id ?? 0 }, null, LIMIT);
    await runningOnInstances(
      sql,
      instances.map(({ id }) => id),
    );
    // Each statement joins a few tables, so its plan has a few nodes for each row.
    expect(Math.max(...sql.touched)).toBeLessThan(LIMIT * 16);
  }
  const sql = counting(database.sql);
  const before: EpochMs = plus(NOON, ms(-minutes(1)));
  expect(await deleteRecordings(sql, 0, before, LIMIT)).toEqual({ next: undefined, deleted: 0 });
  expect(await deleteInstances(sql, before, LIMIT)).toEqual({ instances: 0, commands: 0 });
  expect(Math.max(...sql.touched)).toBeLessThan(LIMIT * 16);
});

/** Reading for pages: living and ended instances, and what runs on them. */
import type { EpochMs, MachineId } from "../farm/ids.ts";
import { INSTANCE_COLUMNS, INSTANCES, type Instance } from "./gomote.ts";
import { IN_LISTS, NEWEST } from "./gomote-commands.ts";
import type { Sql } from "./sql.ts";

/** An instance, living or ended. */
export type InstanceRow = Instance & { readonly endedAt: EpochMs | null };

const ROW = `${INSTANCE_COLUMNS}, l.ended_at as "endedAt"`;

/** The living instance of this name; if there is none, the last one that had it. */
export async function lastNamed(sql: Sql, name: string): Promise<InstanceRow | undefined> {
  const [row] = await sql.query<InstanceRow>(
    `select ${ROW} from ${INSTANCES} where g.name = $1 order by l.state <> 'ended' desc, g.id desc limit 1`,
    [name],
  );
  return row;
}

export async function instanceNumbered(sql: Sql, id: number): Promise<InstanceRow | undefined> {
  const [row] = await sql.query<InstanceRow>(`select ${ROW} from ${INSTANCES} where g.id = $1`, [id]);
  return row;
}

/** The instance as which the machine of a failed build is kept. */
export async function instanceOfBuild(sql: Sql, build: number): Promise<InstanceRow | undefined> {
  const [row] = await sql.query<InstanceRow>(
    `select ${ROW} from ${INSTANCES} where g.build_id = $1 and l.state <> 'ended' order by g.id desc limit 1`,
    [build],
  );
  return row;
}

/** All instances that a machine was, the newest first. Found by an index of its own, as in commandsOf(). */
export async function instancesOfMachine(sql: Sql, machine: MachineId, limit: number): Promise<InstanceRow[]> {
  return sql.query<InstanceRow>(
    `select ${ROW} from ${INSTANCES} where l.kind = 'gomote' and (l.machine_id, l.id) > ($1, 0) and (l.machine_id, l.id) < ($1, ${NEWEST})
     order by l.machine_id desc, l.id desc limit $2`,
    [machine, limit],
  );
}

export interface RunningCommand {
  readonly instance: number;
  readonly command: string;
  readonly count: number;
}

/** For each of `instances`, the newest command that runs, and how many do. */
export async function runningOnInstances(sql: Sql, instances: readonly number[]): Promise<RunningCommand[]> {
  return sql.query<RunningCommand>(
    `select distinct on (c.instance_id) c.instance_id as instance, left(c.command, ${IN_LISTS}) as command, count(*) over (partition by c.instance_id)::int as count
     from gomote_command c where c.instance_id = any ($1::bigint[]) and c.ended_at is null order by c.instance_id, c.id desc`,
    [instances],
  );
}

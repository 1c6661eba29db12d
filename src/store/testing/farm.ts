/**
 * Rows that many tests of the store and of builds begin with: a coordinator, host types, connected machines, commits.
 */
import { randomBytes } from "node:crypto";
import type { Recipe, Trust } from "../../farm/build.ts";
import {
  type BuildId,
  type CoordinatorId,
  coordinatorId,
  type EpochMs,
  epochMs,
  type MachineId,
  machineId,
  type SessionId,
  sessionId,
} from "../../farm/ids.ts";
import { insertBuilds } from "../builds.ts";
import { coordinatorStarted } from "../coordinators.ts";
import { at, type Sql } from "../sql.ts";

export const NOON: EpochMs = epochMs(Date.UTC(2026, 10, 23, 12));

export async function addCoordinator(sql: Sql, id = "P000000001", now: EpochMs = NOON): Promise<CoordinatorId> {
  await coordinatorStarted(sql, { id: coordinatorId(id), host: "here", pid: 1, version: "test" }, now);
  return coordinatorId(id);
}

export async function addHostType(
  sql: Sql,
  name: string,
  trust: Trust = "team",
  gomoteLent = trust === "team",
): Promise<void> {
  await sql.query(
    "insert into host_type (name, trust, configured, gomote_lent) values ($1, $2, true, $3) on conflict do nothing",
    [name, trust, gomoteLent],
  );
}

export interface TestMachine {
  readonly machineId: MachineId;
  readonly id: SessionId;
  readonly name: string;
}

/** A machine with an open session. With an `instance`, its agent process resumes. */
export async function addMachine(
  sql: Sql,
  hostType: string,
  name: string,
  coordinator: CoordinatorId,
  instance: string | null = null,
  openedAt: EpochMs = NOON,
): Promise<TestMachine> {
  const [row] = await sql.query<{ id: number }>(
    `insert into machine (host_type, name, first_seen_at, last_seen_at, agent, version, address)
     values ($1, $2, $3, $3, 'barnraiser', 29, '127.0.0.1') on conflict (host_type, name) do update set last_seen_at = excluded.last_seen_at returning id`,
    [hostType, name, at(NOON)],
  );
  const machine = machineId(row?.id ?? 0);
  const id = sessionId(randomBytes(16).toString("hex"));
  await sql.query(
    "insert into session (id, machine_id, coordinator_id, address, opened_at, instance) values ($1, $2, $3, '127.0.0.1', $4, $5)",
    [id, machine, coordinator, at(openedAt), instance],
  );
  return { machineId: machine, id, name };
}

/** What keeps a machine with an open session from new work: columns to set, as in `update ... = now()`. */
export const STOPS = [
  "machine set drained_at",
  "machine set set_aside_at",
  "host_type set drained_at",
  "coordinator set drained_at",
  "coordinator set ended_at",
  "farm set drained_at",
] as const;

export async function closeSession(sql: Sql, id: SessionId): Promise<void> {
  await sql.query("update session set closed_at = $2, close_reason = 'hung up' where id = $1", [id, at(NOON)]);
}

/** A commit of `repo`, committed at `committedAt`. */
export async function addCommit(sql: Sql, repo: string, hash: string, committedAt: EpochMs = NOON): Promise<number> {
  await sql.query("insert into repo (name, url) values ($1, 'file:///nowhere') on conflict do nothing", [repo]);
  const [row] = await sql.query<{ id: number }>(
    `insert into commit (repo, hash, parents, author_name, author_email, committed_at, message, found_at)
     values ($1, $2, '{}', 'A', 'a@example.com', $3, 'change', $3) returning id`,
    [repo, hash, at(committedAt)],
  );
  return row?.id ?? 0;
}

/** A build that waits for its machine, of host type "linux". */
export async function addBuild(sql: Sql): Promise<BuildId> {
  await addHostType(sql, "linux");
  const commitId = await addCommit(sql, "tool", "a".repeat(40));
  const build = {
    repo: "tool",
    commitId,
    branch: "main",
    head: true,
    recipe: testRecipe("b", "linux"),
    rank: 0,
    starvesAt: NOON,
  } as const;
  const [added] = await insertBuilds(sql, [{ ...build, provenance: "submitted", class: "post-submit" }], NOON);
  if (!added) throw new Error("There is such a build");
  return added.id;
}

export function testRecipe(builder: string, hostType: string, steps: readonly string[] = ["true"]): Recipe {
  return {
    builder,
    hostType,
    env: [`GO_BUILDER_NAME=${builder}`],
    sourceDir: "src",
    steps: steps.map((name) => ({ name, command: [name, "arg"], dir: "", env: [], path: [], timeLimitMs: 60_000 })),
  };
}

/** Turns rows of builds into the lines that components show. */

import type { FarmConfig } from "../config/effective.ts";
import { type BuildLineRow, usualDurations } from "../store/pages-lines.ts";
import type { Sql } from "../store/sql.ts";
import type { BuildLine, MachineRef, OtherCommit } from "../ui/data.ts";
import { statusOf } from "../ui/status.ts";
import { subject } from "../ui/text.ts";

export function machineRef(name: string | null, hostType: string | null): MachineRef | null {
  return name === null || hostType === null ? null : { name, hostType };
}

/** `rows` as lines. A build that has not ended has its usual duration too. */
export async function linesOf(sql: Sql, rows: readonly BuildLineRow[], config: FarmConfig): Promise<BuildLine[]> {
  const usual = await usualOf(
    sql,
    rows.filter((row) => row.state !== "ended"),
  );
  const known = new Set(config.builders.filter((b) => b.knownIssues.length > 0).map((b) => b.name));
  return rows.map((row) => lineOf(row, known.has(row.builder), usual(row)));
}

function lineOf(row: BuildLineRow, known: boolean, usualMs: number | null): BuildLine {
  const status = statusOf(row.state, row.outcome, row.testsFlaky ?? 0);
  return {
    id: row.id,
    repo: row.repo,
    branch: row.branch,
    hash: row.hash,
    subject: subject(row.message),
    author: row.author,
    builder: row.builder,
    other: otherOf(row),
    hostType: row.hostType,
    status: status === "failure" && known ? "known_issue" : status,
    createdAt: row.createdAt,
    startedAt: row.startedAt,
    endedAt: row.endedAt,
    attempts: row.attempts,
    machine: machineRef(row.machine, row.machineType),
    step: row.step,
    reason: row.reason,
    tests: testsOf(row),
    usualMs,
  };
}

/** The other commit of a pair, which the build's own commit is tested with. */
export function otherOf(row: {
  readonly otherRepo: string | null;
  readonly otherBranch: string | null;
  readonly otherHash: string | null;
}): OtherCommit | null {
  const { otherRepo: repo, otherBranch: branch, otherHash: hash } = row;
  return repo === null || branch === null || hash === null ? null : { repo, branch, hash };
}

type Pair = { readonly repo: string; readonly builder: string };

/** Looks up the usual durations of all `pairs` with one query; returns the function that gives each. */
export async function usualOf(sql: Sql, pairs: readonly Pair[]): Promise<(pair: Pair) => number | null> {
  const rows = await usualDurations(sql, pairs);
  const byPair = new Map(rows.map((row) => [`${row.repo}\n${row.builder}`, row.usualMs]));
  return (pair) => byPair.get(`${pair.repo}\n${pair.builder}`) ?? null;
}

function testsOf({ testsTotal, testsEnded, testsFailed, testsFlaky }: BuildLineRow): BuildLine["tests"] {
  if (testsTotal === null) return null;
  return { total: testsTotal, ended: testsEnded ?? 0, failed: testsFailed ?? 0, flaky: testsFlaky ?? 0 };
}

/** Data of `/p/REPO/HASH`, and of one cell, `/p/REPO/HASH/BUILDER`. */
import type { FarmConfig } from "../../config/effective.ts";
import { buildsPostSubmit } from "../../config/policy.ts";
import { againOf, commitFacts, elsewhereOf, logOfStep } from "../../store/pages-build.ts";
import { type Turned, testsBrokenBy, turnedBy } from "../../store/pages-culprits.ts";
import { buildLines } from "../../store/pages-lines.ts";
import type { Sql } from "../../store/sql.ts";
import { plain } from "../../ui/ansi.ts";
import type { Broke } from "../../ui/grid.ts";
import type { CommitCell, CommitData } from "../../ui/pages/commit.tsx";
import { subject } from "../../ui/text.ts";
import type { LogReader, WebDeps } from "../deps.ts";
import { linesOf } from "../lines.ts";
import { lastLines } from "../log-lines.ts";
import { MERGED } from "./since.ts";

export async function commitData(
  sql: Sql,
  config: FarmConfig,
  merged: WebDeps["merged"],
  repo: string,
  prefix: string,
): Promise<CommitData | undefined> {
  const commit = await commitFacts(sql, repo, prefix.toLowerCase());
  if (!commit) return undefined;
  const [newest, turned, tests, brought] = await Promise.all([
    elsewhereOf(sql, commit.id),
    turnedBy(sql, commit.id),
    testsBrokenBy(sql, commit.id),
    commit.parents.length > 1 ? merged(repo, commit.hash, MERGED) : [],
  ]);
  const lines = await linesOf(
    sql,
    await buildLines(
      sql,
      newest.map((row) => row.build),
    ),
    config,
  );
  const cells: CommitCell[] = lines.map((line) => ({
    builder: line.builder,
    other: line.other,
    status: line.status,
    build: line,
  }));
  const built = new Set(cells.map((cell) => cell.builder));
  const [branch] = commit.branches;
  for (const builder of config.builders) {
    if (branch === undefined || built.has(builder.name) || buildsPostSubmit(config, builder, repo, branch)) continue;
    cells.push({ builder: builder.name, other: null, status: "skipped", build: null });
  }
  const { id: _, ...facts } = commit;
  return {
    ...facts,
    cells,
    broke: brokeOf(turned, tests),
    mended: turned.flatMap(({ builder, mended }) => (mended ? [{ builder, tests: [] }] : [])),
    merged: brought.map(({ hash, authorName, message }) => ({ hash, author: authorName, subject: subject(message) })),
  };
}

/** What a commit broke on a builder. The builder may have been red before, by other tests. */
function brokeOf(
  turned: readonly Turned[],
  tests: readonly { readonly builder: string; readonly test: string }[],
): Broke[] {
  const builders = new Set(turned.flatMap(({ builder, mended }) => (mended ? [] : [builder])));
  for (const { builder } of tests) builders.add(builder);
  return [...builders].sort().map((builder) => ({
    builder,
    tests: tests.filter((one) => one.builder === builder).map(({ test }) => test),
  }));
}

/** The build that a cell shows, with the last three lines of a failure, and whether a later build was canceled. */
export async function cellData(
  sql: Sql,
  config: FarmConfig,
  logs: LogReader,
  repo: string,
  prefix: string,
  builder: string,
): Promise<unknown> {
  const commit = await commitFacts(sql, repo, prefix.toLowerCase());
  if (!commit) return undefined;
  const all = await againOf(sql, commit.id, builder);
  const row = all.findLast((one) => one.outcome !== "canceled" && one.outcome !== "skipped") ?? all.at(-1);
  if (!row) return undefined;
  const [line] = await linesOf(sql, await buildLines(sql, [row.build]), config);
  if (!line) return undefined;
  const failed = line.status === "failure" || line.status === "known_issue";
  const log = failed && line.step !== null ? await logOfStep(sql, line.id, line.step, null) : undefined;
  const last = log === undefined ? [] : (await lastLines(logs, log, 3)).lines.map((text) => plain(text).slice(0, 200));
  return {
    id: line.id,
    builder,
    status: line.status,
    tookMs: line.startedAt !== null && line.endedAt !== null ? line.endedAt - line.startedAt : null,
    machine: line.machine?.name ?? null,
    step: failed || line.status === "running" ? line.step : null,
    rebuildCanceled: all.at(-1)?.build !== row.build,
    reason: line.status === "skipped" ? line.reason : null,
    last,
  };
}

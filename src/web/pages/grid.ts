/**
 * Data of `/p/REPO`: the columns that the configuration and the filter select, the commits of a branch, and the rows
 * made of both.
 */
import type { FarmConfig } from "../../config/effective.ts";
import { matches } from "../../config/globs.ts";
import { buildsAtAll, buildsPostSubmit, testsWith } from "../../config/policy.ts";
import type { EpochMs } from "../../farm/ids.ts";
import { type RedRow, redBuilders } from "../../store/pages-culprits.ts";
import { branchesOf, type GridCommitRow, gridCommits, gridPairs, repoState } from "../../store/pages-grid.ts";
import type { Sql } from "../../store/sql.ts";
import { type Broke, type GridCell, type GridColumn, headHtml, inColumnOrder } from "../../ui/grid.ts";
import type { GridData } from "../../ui/pages/grid.tsx";
import { subject } from "../../ui/text.ts";
import { usualOf } from "../lines.ts";
import type { Column, GridRows, Row } from "./grid-rows.ts";
import { like } from "./machines.ts";
import { redSentence } from "./since.ts";

const COMMITS = 200;

export interface GridFilter {
  readonly branch: string | undefined;
  /** Globs of names, with commas or spaces between them. */
  readonly builders: string;
  readonly author: string;
  readonly failing: boolean;
}

export interface Grid {
  readonly branch: string;
  /** The branch that was asked for but does not exist. Null: it exists, or none was asked for. */
  readonly missing: string | null;
  readonly branches: readonly string[];
  readonly columns: readonly (Column & GridColumn)[];
  readonly commits: readonly GridCommitRow[];
  /** The builders that are red on the branch. */
  readonly red: readonly RedRow[];
  /** The row on top (`now`), and one or more per commit. */
  readonly rows: readonly Row[];
}

export async function readGrid(
  sql: Sql,
  config: FarmConfig,
  kept: GridRows,
  repo: string,
  filter: GridFilter,
  now: EpochMs,
): Promise<Grid> {
  const branches = await branchesOf(sql, repo);
  const there = filter.branch !== undefined && branches.includes(filter.branch);
  const branch = there ? (filter.branch ?? "") : (branches[0] ?? "");
  const missing = there ? null : filter.branch || null;
  const read = testsWith(config, repo).length > 0 ? gridPairs : gridCommits;
  const commits = await read(sql, repo, branch, like(filter.author), COMMITS);
  let columns = columnsOf(config, commits, repo, branch, filter.builders);
  const red = await redBuilders(sql, repo, branch);
  const broke = brokenBy(red);
  const running = new Set(commits.flatMap(runningIn));
  const usual = await usualOf(
    sql,
    [...running].map((builder) => ({ repo, builder })),
  );
  const rowsOf = (): Row[] => {
    const key = columns.map((c) => `${c.name}${c.known ? "!" : ""}${c.skipped ? "-" : ""}`).join(",");
    const shown = new Set(columns.map((column) => column.name));
    return commits.map((commit) => {
      const builders = broke.size === 0 ? [] : idsOf(commit).flatMap((id) => broke.get(id) ?? []);
      const marked = builders.filter(({ builder }) => shown.has(builder));
      return kept.row(repo, columns, key, commit, marked, (builder) => usual({ repo, builder }), now);
    });
  };
  let rows = rowsOf();
  if (filter.failing) {
    columns = columns.filter((_, i) => {
      const settled = rows
        .map((row) => (row.cells[i]?.status === "infra_failure" ? "infra_failure" : row.settled[i]?.status))
        .find((status) => status === "success" || status === "failure" || status === "infra_failure");
      return settled === "failure" || settled === "infra_failure";
    });
    rows = rowsOf();
  }
  const why = (builder: string): string => {
    const row = red.find((one) => one.builder === builder);
    return row === undefined ? "" : redSentence(row);
  };
  return { branch, missing, branches, columns, commits, red, rows: [kept.now(rows, columns, why), ...rows] };
}

function columnsOf(
  config: FarmConfig,
  commits: readonly GridCommitRow[],
  repo: string,
  branch: string,
  globs: string,
): (Column & GridColumn)[] {
  const built = new Set<string>();
  // Most commits have the same list, so each different text is split once.
  for (const list of new Set(commits.map((commit) => commit.builders))) {
    if (list !== "") for (const builder of list.split("\n")) built.add(builder);
  }
  const columns: (Column & GridColumn)[] = [];
  for (const builder of config.builders) {
    const skipped = !buildsPostSubmit(config, builder, repo, branch);
    if (!built.has(builder.name) && skipped && !buildsAtAll(config, builder, repo, branch)) continue;
    built.delete(builder.name);
    columns.push({
      name: builder.name,
      goos: builder.goos,
      goarch: builder.goarch,
      known: builder.knownIssues.length > 0,
      skipped,
    });
  }
  // A builder that is no longer configured keeps a column for its builds.
  for (const name of built) {
    const [goos = name, goarch = ""] = name.split("-");
    columns.push({ name, goos, goarch, known: false, skipped: true });
  }
  const wanted = globs.split(/[\s,]+/).filter(Boolean);
  return inColumnOrder(wanted.length === 0 ? columns : columns.filter((column) => matches(wanted, column.name)));
}

/** Build -> the builders and tests that its commit broke. Of a commit with many pairs, one row has the mark. */
function brokenBy(red: readonly RedRow[]): Map<string, Broke> {
  const known = Map.groupBy(
    red.filter(({ kind }) => kind === "commit"),
    ({ build }) => String(build),
  );
  const broke = new Map<string, Broke>();
  for (const [id, rows] of known) {
    const [{ builder = "" } = {}] = rows;
    broke.set(id, { builder, tests: rows.flatMap(({ test }) => test ?? []) });
  }
  return broke;
}

function idsOf({ ids }: GridCommitRow): string[] {
  return ids.slice(1, -1).split(",");
}

function runningIn(commit: GridCommitRow): string[] {
  return commit.running === "" ? [] : commit.builders.split("\n").filter((_, i) => commit.codes[i] === "r");
}

export async function gridData(sql: Sql, grid: Grid, repo: string, filter: GridFilter): Promise<GridData> {
  const state = await repoState(sql, repo);
  const query = new URLSearchParams();
  if (filter.branch !== undefined) query.set("branch", filter.branch);
  if (filter.builders !== "") query.set("builders", filter.builders);
  if (filter.author !== "") query.set("author", filter.author);
  if (filter.failing) query.set("failing", "1");
  return {
    repo,
    branch: grid.branch,
    missing: grid.missing,
    branches: grid.branches,
    builders: filter.builders,
    failing: filter.failing,
    author: filter.author,
    fetchedAt: state?.fetchedAt ?? null,
    error: state?.error ?? null,
    columns: grid.columns.length,
    commits: new Set(grid.commits.map((commit) => commit.hash)).size,
    query: query.size === 0 ? "" : `?${query}`,
    html: `<thead>${headHtml(grid.columns)}</thead><tbody>${grid.rows.map((row) => row.html).join("")}</tbody>`,
  };
}

/**
 * The grid for scripts, in the shape of upstream's dashboard. There is one result per builder: "" while there is none,
 * "ok", or the address of the failure. `red` is our addition: since when each red builder, or each of its failing
 * tests, is red, and which commit did it.
 */
export function gridJson(grid: Grid, repo: string, origin: string): unknown {
  const [, ...rows] = grid.rows;
  return {
    builders: grid.columns.map((column) => column.name),
    red: grid.red.map(({ builder, test, kind, otherRepo, hash, greenHash, between, build }) => {
      return {
        builder,
        test,
        kind,
        repo: otherRepo ?? repo,
        revision: hash,
        green: greenHash,
        between,
        build: `${origin}/b/${build}`,
      };
    }),
    revisions: grid.commits.map((commit, i) => ({
      repo,
      revision: commit.hash,
      ...(commit.otherHash !== null && { goRevision: commit.otherHash }),
      date: new Date(commit.committedAt).toISOString(),
      branch: grid.branch,
      ...(commit.otherBranch !== null && { goBranch: commit.otherBranch }),
      author: commit.author,
      desc: subject(commit.message),
      results: (rows[i]?.cells ?? []).map((cell) => resultOf(cell, origin)),
      statuses: (rows[i]?.cells ?? []).map((cell) => cell?.status ?? ""),
    })),
  };
}

function resultOf(cell: GridCell | undefined, origin: string): string {
  switch (cell?.status) {
    case "success":
    case "flaky":
      return "ok";
    case "failure":
    case "known_issue":
    case "infra_failure":
      return `${origin}/b/${cell.build}`;
    default:
      return "";
  }
}

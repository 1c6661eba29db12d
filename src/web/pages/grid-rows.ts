/**
 * Rows of the grid as HTML, kept by content.
 *
 * A row depends on its commit, its builds, the columns and, while something in it runs, on time in coarse steps. All of
 * that makes the row's key, and a known key gives its string again for every reader. A short digest of the key is the
 * row's version: a browser sends the versions that it has, and gets only the rows that differ.
 */
import { createHash } from "node:crypto";
import type { Status } from "../../farm/build.ts";
import type { GridCommitRow } from "../../store/pages-grid.ts";
import type { OtherCommit } from "../../ui/data.ts";
import { type Broke, type GridCell, type GridNow, nowHtml, rowHtml } from "../../ui/grid.ts";
import { otherOf } from "../lines.ts";

/** How many rows are kept: grids of 200 commits for a handful of repositories and filters. */
const KEPT = 4000;

export interface Column {
  readonly name: string;
  readonly known: boolean;
  /** Whether the builder will never build this branch. */
  readonly skipped: boolean;
}

export interface Row {
  readonly id: string;
  /** The hash of its commit; "" for the row on top. */
  readonly commit: string;
  readonly version: string;
  readonly html: string;
  readonly cells: readonly (GridCell | undefined)[];
  /**
   * For each cell, the newest result that says something about the code. Later builds that run or were canceled do not
   * count.
   */
  readonly settled: readonly (GridCell | undefined)[];
}

const OUTCOMES: Readonly<Record<string, Status>> = {
  o: "success",
  f: "flaky",
  x: "failure",
  i: "infra_failure",
  c: "canceled",
  s: "skipped",
  r: "running",
  w: "waiting",
};

export class GridRows {
  readonly #kept = new Map<string, Row>();

  /** The row of a commit. `usualMs` is how long each builder usually takes, for the rings of running builds. */
  row(
    repo: string,
    columns: readonly Column[],
    columnsKey: string,
    commit: GridCommitRow,
    broke: readonly Broke[],
    usualMs: (builder: string) => number | null,
    now: number,
  ): Row {
    const running = commit.running !== "";
    const tick = running ? Math.floor(now / 20_000) : "";
    const other = otherOf(commit);
    const pair = other === null ? "" : `${other.repo} ${other.branch} ${other.hash}`;
    const { hash, codes, ids, builders } = commit;
    const key = [repo, columnsKey, hash, pair, tick, codes, ids, commit.running, builders, JSON.stringify(broke)].join(
      "\t",
    );
    const known = this.#kept.get(key);
    if (known) {
      this.#kept.delete(key);
      this.#kept.set(key, known);
      return known;
    }
    const builds = buildsOf(commit);
    const cells = columns.map((column) => cellOf(builds.get(column.name), column, usualMs, now));
    const settled = columns.map((column) => settledOf(builds.get(column.name), column));
    const id = rowId(commit.hash, other);
    const html = rowHtml(repo, { ...commit, id, other }, cells, broke);
    const made: Row = { id, commit: commit.hash, version: versionOf(html), html, cells, settled };
    this.#kept.set(key, made);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
    }
    return made;
  }

  /** The row on top: each builder's latest settled result, and for how many commits in a row it has been the same. */
  now(rows: readonly Row[], columns: readonly Column[], why: (builder: string) => string): Row {
    const states = columns.map(({ name }, column) => latest(rows, column, why(name)));
    const html = nowHtml(
      states,
      columns.map((column) => column.name),
    );
    return { id: "now", commit: "", version: versionOf(html), html, cells: [], settled: [] };
  }
}

interface CellBuild {
  readonly code: string;
  readonly id: number;
  readonly startedMs: number | undefined;
}

/** The builds of a commit, by builder, newest first. */
function buildsOf(commit: GridCommitRow): Map<string, CellBuild[]> {
  const started = new Map(commit.running.split(" ").map((one) => one.split("@") as [string, string]));
  const builds = new Map<string, CellBuild[]>();
  if (commit.builders === "") return builds;
  const ids = commit.ids.slice(1, -1).split(",");
  for (const [i, builder] of commit.builders.split("\n").entries()) {
    const since = started.get(ids[i] ?? "");
    const build = {
      code: commit.codes[i] ?? "w",
      id: Number(ids[i]),
      startedMs: since === undefined ? undefined : Number(since) * 1000,
    };
    const others = builds.get(builder);
    if (others) others.push(build);
    else builds.set(builder, [build]);
  }
  return builds;
}

/**
 * The build that a cell shows: the newest that was neither canceled nor skipped, else the newest. A canceled rebuild
 * says nothing about the commit.
 */
function cellOf(
  builds: readonly CellBuild[] | undefined,
  column: Column,
  usualMs: (builder: string) => number | null,
  now: number,
): GridCell | undefined {
  const all = builds ?? [];
  const at = Math.max(
    0,
    all.findIndex((one) => one.code !== "c" && one.code !== "s"),
  );
  const newest = all[at];
  const older = all.slice(at + 1);
  if (newest === undefined) return column.skipped ? { status: "skipped", build: 0 } : undefined;
  const build = newest.id;
  const status = OUTCOMES[newest.code] ?? "waiting";
  if (status === "success" && older.some((one) => one.code === "x")) return { status: "flaky", build };
  if (status === "failure" && column.known) return { status: "known_issue", build };
  const usual = newest.startedMs === undefined ? null : usualMs(column.name);
  if (status !== "running" || newest.startedMs === undefined || usual === null) return { status, build };
  const gone = (now - newest.startedMs) / usual;
  return { status, build, eighths: Math.max(0, Math.min(8, Math.floor(gone * 8))) };
}

/**
 * The newest settled result. Only success and failure (known or not) settle a builder's state; running and canceled
 * builds are passed over.
 */
function settledOf(builds: readonly CellBuild[] | undefined, column: Column): GridCell | undefined {
  const newest = builds?.find((one) => one.code === "o" || one.code === "x");
  if (newest === undefined) return undefined;
  return { status: newest.code === "o" ? "success" : column.known ? "known_issue" : "failure", build: newest.id };
}

function latest(rows: readonly Row[], column: number, why: string): GridNow | undefined {
  let first: GridCell | undefined;
  let commits = 0;
  let counted = "";
  for (const row of rows) {
    const cell = row.settled[column];
    if (!cell || row.commit === counted) continue; // a commit with many pairs counts once, by its first row
    counted = row.commit;
    if (first && first.status !== cell.status) break;
    first ??= cell;
    commits++;
  }
  return first && { status: first.status, build: first.build, commits, why: first.status === "success" ? "" : why };
}

/** The id of a row. A commit has a row for each branch of the other repository that it is tested with. */
function rowId(hash: string, other: OtherCommit | null): string {
  const own = `c${hash.slice(0, 12)}`;
  return other === null ? own : `${own}-${versionOf(`${other.repo} ${other.branch}`)}`;
}

function versionOf(html: string): string {
  return createHash("sha1").update(html).digest("base64url").slice(0, 6);
}

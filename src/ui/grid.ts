/**
 * The grid, commits × builders, as HTML text.
 *
 * It has up to 20,000 cells, so it is not made of components. A row is a string that depends on nothing but its
 * content. It is made once, kept (web/pages/grid-rows.ts), and replaced whole when its content changes. A cell says its
 * status by glyph, class and label, and links to its build by the shortest address.
 */
import type { Status } from "../farm/build.ts";
import type { OtherCommit } from "./data.ts";
import { STATUS } from "./status.ts";
import { escapeHtml, subject, visible } from "./text.ts";

export interface GridColumn {
  readonly name: string;
  readonly goos: string;
  readonly goarch: string;
  readonly known: boolean;
}

export interface GridCell {
  readonly status: Status;
  /** The number of the build; 0: this builder never builds the branch. */
  readonly build: number;
  /** For a running build: how many eighths of its usual time have passed, 0 to 8. */
  readonly eighths?: number;
}

export interface GridCommit {
  /** The id of the row. */
  readonly id: string;
  readonly hash: string;
  /** For a row of pairs: the other commit, which this one was tested with. */
  readonly other: OtherCommit | null;
  readonly author: string;
  readonly committedAt: number;
  readonly message: string;
}

/** A builder's latest settled result, and for how many commits in a row it has been the same. */
export interface GridNow {
  readonly status: Status;
  readonly build: number;
  readonly commits: number;
  /** Since when the builder is red and which commit did it, when that is known; else "". */
  readonly why: string;
}

/**
 * A builder that a commit turned red, and that is red since. With the tests that the commit broke, where they are
 * known.
 */
export interface Broke {
  readonly builder: string;
  readonly tests: readonly string[];
}

function cellHtml(cell: GridCell | undefined): string {
  if (cell === undefined) return "<td></td>";
  const look = STATUS[cell.status];
  if (cell.build === 0) return `<td class=${look.css} aria-label="${look.word}">${look.glyph}</td>`;
  const css = cell.eighths === undefined ? look.css : `"${look.css} p${cell.eighths}"`;
  return `<td class=${css}><a href=/b/${cell.build} aria-label="${look.word}">${look.glyph}</a></td>`;
}

export function rowHtml(
  repo: string,
  commit: GridCommit,
  cells: readonly (GridCell | undefined)[],
  broke: readonly Broke[] = [],
): string {
  const href = `/p/${encodeURIComponent(repo)}/${commit.hash}`;
  const at = new Date(commit.committedAt);
  const day = at.toISOString().slice(5, 16).replace("T", " ");
  const title = escapeHtml(subject(commit.message));
  return (
    `<tr id=${commit.id}><th scope=row><a href=${href} class=hash>${commit.hash.slice(0, 8)}</a> ${commit.other === null ? "" : withHtml(commit.other)}` +
    `<span class=subject title="${title}"><bdi>${title}</bdi></span> ${brokeHtml(broke)}<span class=author><bdi>${escapeHtml(visible(commit.author))}</bdi></span> ` +
    `<time datetime=${at.toISOString()}>${day}</time><span class=sum>${summary(cells)}</span></th>${cells.map(cellHtml).join("")}</tr>`
  );
}

function brokeHtml(broke: readonly Broke[]): string {
  const [first = "", ...more] = broke.map(({ builder }) => escapeHtml(visible(builder)));
  if (first === "") return "";
  const title = `broke ${broke.map((one) => escapeHtml(visible(brokeText(one)))).join(", ")}`;
  return `<span class="broke no" title="${title}">✕ <span class=sr>broke </span><bdi>${first}</bdi>${more.length > 0 ? ` +${more.length}` : ""}</span> `;
}

function brokeText({ builder, tests }: Broke): string {
  return tests.length === 0 ? builder : `${builder} (${tests.join(", ")})`;
}

function withHtml({ repo, branch, hash }: OtherCommit): string {
  const [name, of] = [escapeHtml(visible(repo)), escapeHtml(visible(branch))];
  const title = `with ${name} at ${hash.slice(0, 12)} of ${of}`;
  return `<span class=with title="${title}"><span class=sr>with </span><bdi>${name}</bdi> ${hash.slice(0, 8)} <bdi>${of}</bdi></span> `;
}

const SUMMED: readonly Status[] = ["failure", "known_issue", "infra_failure", "flaky", "running", "waiting", "success"];

/** The sums of a row, "✕ 3 ◐ 1 ✓ 96", for a narrow screen and for readers who do not want a hundred cells. */
function summary(cells: readonly (GridCell | undefined)[]): string {
  const counts = new Map<Status, number>();
  for (const cell of cells) if (cell) counts.set(cell.status, (counts.get(cell.status) ?? 0) + 1);
  return SUMMED.filter((status) => counts.has(status))
    .map(
      (status) =>
        `<span class=${STATUS[status].css} aria-label="${counts.get(status)} ${STATUS[status].word}">${STATUS[status].glyph} ${counts.get(status)}</span>`,
    )
    .join(" ");
}

/**
 * The row on top. `names` are those of the columns: a narrow screen has no columns and lists the red builders by name.
 */
export function nowHtml(states: readonly (GridNow | undefined)[], names: readonly string[]): string {
  const red = states.flatMap((now, i) => {
    if (now === undefined || now.status === "success") return [];
    const look = STATUS[now.status];
    return `<a href=/b/${now.build} class=${look.css}>${look.glyph}<span class=sr> ${look.word}</span> <bdi>${escapeHtml(visible(names[i] ?? ""))}</bdi> ${now.commits}</a>`;
  });
  const cells = states.map((now) => {
    if (now === undefined) return "<td></td>";
    const look = STATUS[now.status];
    const why = now.why === "" ? "" : `, ${escapeHtml(now.why)}`;
    const since = `${look.word} for ${now.commits} commit${now.commits === 1 ? "" : "s"}${why}`;
    return `<td class=${look.css}><a href=/b/${now.build} aria-label="${since}" title="${since}">${look.glyph}<small>${now.commits > 99 ? "99" : now.commits}</small></a></td>`;
  });
  return `<tr id=now class=now><th scope=row>now <span class=subject>each builder's latest result, and for how many commits</span><span class=sum>${red.join(" ") || noneRed(states)}</span></th>${cells.join("")}</tr>`;
}

function noneRed(states: readonly (GridNow | undefined)[]): string {
  if (states.every((now) => now === undefined)) return "no builder has a result yet";
  return states.includes(undefined) ? "every builder with a result is green" : "every builder is green";
}

/**
 * The head: the OS, below it the architecture, below it the rest of the name, each over the columns that share it. A
 * cell is 24 px wide, so a label of a single column is only read aloud: it is written upwards with the rest of the
 * name.
 */
export function headHtml(columns: readonly GridColumn[]): string {
  const goos = groupsOf(columns, (c) => c.goos);
  const goarch = groupsOf(columns, (c) => `${c.goos}-${c.goarch}`);
  const upper = (groups: readonly Group[], label: (c: GridColumn) => string): string =>
    groups
      .map(({ first, span }) => {
        const text = escapeHtml(visible(label(first)));
        if (text === "") return `<td colspan=${span}></td>`;
        return `<th scope=colgroup colspan=${span} title="${text}"${span === 1 ? " class=one" : ""}><span><bdi>${text}</bdi></span></th>`;
      })
      .join("");
  const alone = (groups: readonly Group[]): Set<string> =>
    new Set(groups.filter((group) => group.span === 1).map((group) => group.first.name));
  const [aloneInOs, aloneInArch] = [alone(goos), alone(goarch)];
  const last = columns.map((column) => {
    const name = escapeHtml(visible(column.name)) + (column.known ? " (known issue)" : "");
    const short = aloneInOs.has(column.name)
      ? column.name
      : withoutPrefix(column.name, aloneInArch.has(column.name) ? column.goos : `${column.goos}-${column.goarch}`);
    const href = `/builders#${encodeURIComponent(column.name)}`;
    return `<th scope=col${column.known ? " class=ki" : ""}><a href="${href}" title="${name}" aria-label="${name}"><bdi>${escapeHtml(visible(short))}</bdi></a></th>`;
  });
  return (
    `<tr><th scope=col rowspan=3 class=corner>Commit</th>${upper(goos, (c) => c.goos)}</tr>` +
    `<tr>${upper(goarch, (c) => c.goarch)}</tr><tr>${last.join("")}</tr>`
  );
}

interface Group {
  readonly first: GridColumn;
  readonly span: number;
}

/** Groups of neighbouring columns that share a label. */
function groupsOf(columns: readonly GridColumn[], label: (c: GridColumn) => string): Group[] {
  const groups: { first: GridColumn; span: number }[] = [];
  for (const column of columns) {
    const last = groups.at(-1);
    if (last && label(last.first) === label(column)) last.span++;
    else groups.push({ first: column, span: 1 });
  }
  return groups;
}

/**
 * The rest of a builder's name: `linux-amd64-race` is headed `race` below linux and amd64. A name of only these two has
 * the plain head.
 */
function withoutPrefix(name: string, prefix: string): string {
  if (name === prefix) return "(plain)";
  return name.startsWith(`${prefix}-`) ? name.slice(prefix.length + 1) : name;
}

/**
 * The columns in the order in which people look for them: desktop systems first, then the BSDs, phones and the rest,
 * each by name.
 */
export function inColumnOrder<C extends { readonly name: string; readonly goos: string }>(columns: readonly C[]): C[] {
  const order = ["linux", "darwin", "windows", "freebsd", "openbsd", "netbsd", "dragonfly", "android", "ios"];
  const rank = (goos: string): number => (order.includes(goos) ? order.indexOf(goos) : order.length);
  return columns.toSorted((a, b) => rank(a.goos) - rank(b.goos) || compare(a.goos, b.goos) || compare(a.name, b.name));
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

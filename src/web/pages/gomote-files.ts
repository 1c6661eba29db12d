/** Data of `/gomotes/NAME/files`: the entries of a folder, as the machine lists them. */
import type { FileLine, GomoteFilesData } from "../../ui/pages/gomote-files.tsx";
import { type LsEntry, lineTooLong, parseLsLine } from "../../wire/buildlet-api/ls-line.ts";

/** How many entries one page shows. */
const PAGE = 1000;
/**
 * A line is at most this long. A name has at most 255 characters on any system, and a mode, a size and a time stand
 * beside it.
 */
const LONGEST_LINE = 4096;
/** Each line begins with a mode as Go writes it. */
const BEGINS = /^[-a-zA-Z?]+[-r][-w][-x][-r][-w][-x][-r][-w][-x]\t/;

export interface FolderView {
  readonly instance: string;
  /** The folder, below the work folder; "" is the work folder itself. */
  readonly path: string;
  /** A part of the names to show; "" shows all. */
  readonly filter: string;
  readonly page: number;
  /** Whether the machine can send a single file. */
  readonly sendsFiles: boolean;
}

/** The entries to show. Undefined: the path is a file. Memory holds one page, however large the folder is. */
export async function filesData(
  view: FolderView,
  listing: AsyncIterable<readonly string[]>,
): Promise<GomoteFilesData | undefined> {
  const { filter, ...folder } = view;
  const wanted = filter.toLowerCase();
  let total = 0;
  let count = 0;
  let shown: FileLine[] = [];
  for await (const entry of entriesOf(listing)) {
    if (entry.name === "") return undefined;
    total++;
    if (!entry.name.toLowerCase().includes(wanted)) continue;
    if (shown.length === PAGE && count < view.page * PAGE) shown = [];
    if (count < view.page * PAGE) shown.push(lineOf(entry));
    count++;
  }
  const pages = Math.max(1, Math.ceil(count / PAGE));
  return { ...folder, filter, entries: shown, count, total, page: Math.min(view.page, pages), pages };
}

/**
 * The entries of a listing. A name may hold line feeds, so a line without a mode belongs to the line before. Throws
 * FarmError `machine-broken` for anything that cannot be a name: a borrower may have left a program that answers in the
 * agent's place.
 */
async function* entriesOf(listing: AsyncIterable<readonly string[]>): AsyncGenerator<LsEntry> {
  let whole: string | undefined;
  for await (const lines of listing) {
    for (const line of lines) {
      if (whole === undefined) whole = line;
      else if (BEGINS.test(line)) {
        const entry = parseLsLine(whole);
        if (entry) yield entry;
        whole = line;
      } else whole += `\n${line}`;
      if (whole.length > LONGEST_LINE) throw lineTooLong(LONGEST_LINE);
    }
  }
  const last = whole === undefined ? undefined : parseLsLine(whole);
  if (last) yield last;
}

function lineOf({ mode, name, file }: LsEntry): FileLine {
  return { name, mode, size: file?.size ?? null, modified: file ? Date.parse(file.modified) : null };
}

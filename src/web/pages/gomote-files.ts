/** Data of `/gomotes/NAME/files`: what a folder holds, as the machine lists it. */
import type { FileLine, GomoteFilesData } from "../../ui/pages/gomote-files.tsx";
import { type LsEntry, lineTooLong, parseLsLine } from "../../wire/buildlet-api/ls-line.ts";

/** Entries of one page. */
const PAGE = 1000;
/** A name is 255 characters on any system, and a mode, a size and a time stand beside it. */
const LONGEST_LINE = 4096;
/** Go's text of a mode, with which each line begins. */
const BEGINS = /^[-a-zA-Z?]+[-r][-w][-x][-r][-w][-x][-r][-w][-x]\t/;

export interface FolderView {
  readonly instance: string;
  /** Below the work folder; "": that itself. */
  readonly path: string;
  /** Of names; "": all. */
  readonly filter: string;
  readonly page: number;
  /** Its machine can send a file by itself. */
  readonly sendsFiles: boolean;
}

/** Undefined: it is a file. Of a folder of any size no more than a page is kept. */
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
 * A name may hold line feeds: what begins with no mode belongs to the line before. Throws FarmError `machine-broken` for what is no name: whoever
 * had the machine may have left there what answers in its agent's place.
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

/** Data of `/gomotes/NAME/files`: what a folder holds, as the machine lists it. */
import { FarmError } from "../../farm/errors.ts";
import type { FileLine, GomoteFilesData } from "../../ui/pages/gomote-files.tsx";
import { type LsEntry, parseLsLine } from "../../wire/buildlet-api/ls-line.ts";

/** Entries of one page. */
const PAGE = 1000;
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

/** Undefined: it is a file. */
export function filesData(view: FolderView, lines: readonly string[]): GomoteFilesData | undefined {
  const entries = entriesOf(lines);
  if (entries.length === 1 && entries[0]?.name === "") return undefined;
  const { filter, ...folder } = view;
  const found = entries.filter(({ name }) => name.toLowerCase().includes(filter.toLowerCase()));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const page = Math.min(view.page, pages);
  const shown = found.slice((page - 1) * PAGE, page * PAGE).map(lineOf);
  return { ...folder, filter, entries: shown, count: found.length, total: entries.length, page, pages };
}

/** A name may hold line feeds: what begins with no mode belongs to the line before. */
function entriesOf(lines: readonly string[]): LsEntry[] {
  const whole: string[] = [];
  for (const line of lines) {
    if (BEGINS.test(line) || whole.length === 0) whole.push(line);
    else whole.push(`${whole.pop()}\n${line}`);
  }
  return whole.flatMap((line) => parseLsLine(line) ?? []);
}

function lineOf({ mode, name, file }: LsEntry): FileLine {
  return { name, mode, size: file?.size ?? null, modified: file ? Date.parse(file.modified) : null };
}

/** What is told of a folder that the machine could not list; its own words when it is none of what happens to people. */
export function listingError(error: unknown, path: string, instance: string): unknown {
  const { message } = FarmError.from(error);
  const what = JSON.stringify(path.slice(0, 200));
  if (/ENOENT|no such file|cannot find/i.test(message))
    return new FarmError("not-found", `There is no ${what} on ${instance}: it was deleted, or has another name.`, {
      cause: error,
    });
  if (/EACCES|EPERM|permission denied/i.test(message))
    return new FarmError("forbidden", `${what} on ${instance} may not be read by what the farm runs there.`, {
      cause: error,
    });
  return error;
}

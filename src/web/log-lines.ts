/**
 * Lines of a log, made from its bytes in bounded memory: a line of 1 GB is cut, a log of 1 GB is searched piece by
 * piece.
 *
 * A line ends with LF; the last one may lack it. Lines are counted from 1. Text is read as UTF-8, and bytes that are
 * not UTF-8 are replaced.
 */
import type { LogId } from "../farm/ids.ts";
import { plain } from "../ui/ansi.ts";
import type { LogReader } from "./deps.ts";

const LF = 10;
/** How many bytes of a line are shown. The raw log has all of them. */
export const LINE_LIMIT = 4096;
/** After this many bytes of one line, its end is looked up in the index instead of read. */
const SKIP_BY_INDEX = 1 << 20;
const FOUND_LIMIT = 10_000;
const FIND_LIMIT_MS = 10_000;

export interface Lines {
  readonly from: number;
  readonly total: number;
  readonly length: number;
  readonly ended: boolean;
  readonly truncated: boolean;
  /** Whether the last line has no LF yet. */
  readonly open: boolean;
  readonly lines: readonly string[];
}

/** How many lines a log has, an unfinished last one included. */
export async function countOf(logs: LogReader, id: LogId): Promise<Omit<Lines, "from" | "lines">> {
  const { length, lines, ended, truncated } = await logs.state(id);
  let open = false;
  if (length > 0) for await (const part of logs.read(id, length - 1, length)) open = part[part.length - 1] !== LF;
  return { total: lines + (open ? 1 : 0), length, ended, truncated, open };
}

/** The lines from `from` to at most `from + count - 1`. */
export async function linesFrom(logs: LogReader, id: LogId, from: number, count: number): Promise<Lines> {
  const whole = await countOf(logs, id);
  const first = Math.max(1, from);
  const lines: string[] = [];
  while (lines.length < count && first + lines.length <= whole.total) {
    const wanted = Math.min(count, whole.total - first + 1);
    const at = await logs.lineStart(id, first + lines.length);
    if (at === undefined) break;
    if (!(await readLines(logs, id, at, whole.length, wanted, lines))) break;
  }
  return { ...whole, from: first, lines };
}

/**
 * Adds lines to `into` until it has `wanted`. Returns true when it stopped inside a very long line, whose end is to be
 * looked up.
 */
async function readLines(
  logs: LogReader,
  id: LogId,
  at: number,
  to: number,
  wanted: number,
  into: string[],
): Promise<boolean> {
  let head: Buffer[] = [];
  let size = 0; // bytes of the present line so far
  const finish = (): void => {
    const bytes = Buffer.concat(head);
    into.push(
      size > LINE_LIMIT
        ? `${bytes.subarray(0, LINE_LIMIT).toString("utf8")} … (${size >= SKIP_BY_INDEX ? "over a million" : size} bytes in this line)`
        : bytes.toString("utf8"),
    );
    head = [];
    size = 0;
  };
  for await (const part of logs.read(id, at, to)) {
    for (let start = 0; start < part.length; ) {
      const end = part.indexOf(LF, start);
      const piece = part.subarray(start, end < 0 ? part.length : end);
      if (size <= LINE_LIMIT) head.push(piece.subarray(0, LINE_LIMIT + 1));
      size += piece.length;
      if (end < 0) break;
      finish();
      if (into.length >= wanted) return false;
      start = end + 1;
    }
    if (size >= SKIP_BY_INDEX) {
      finish();
      return into.length < wanted;
    }
  }
  if (size > 0) finish();
  return false;
}

/** The last `count` lines, with the number of the first of them. */
export async function lastLines(logs: LogReader, id: LogId, count: number): Promise<Lines> {
  const { total } = await countOf(logs, id);
  return linesFrom(logs, id, Math.max(1, total - count + 1), count);
}

export interface Found {
  readonly count: number;
  /** The numbers of the lines that have the text: the first 10,000. */
  readonly lines: readonly number[];
  /** False: the search took too long, or the reader left, and there may be more. */
  readonly complete: boolean;
}

/**
 * Finds the lines that contain `query` in their visible text, in any case. Of a long line only the beginning is
 * searched.
 */
export async function find(logs: LogReader, id: LogId, query: string, signal: AbortSignal): Promise<Found> {
  const sought = query.toLowerCase();
  const lines: number[] = [];
  const until = performance.now() + FIND_LIMIT_MS;
  const { length } = await logs.state(id);
  let count = 0;
  let number = 1;
  let rest = "";
  let size = 0;
  const decoder = new TextDecoder();
  const look = (line: string): void => {
    if (plain(line).toLowerCase().includes(sought)) {
      count++;
      if (lines.length < FOUND_LIMIT) lines.push(number);
    }
  };
  for await (const part of logs.read(id, 0, length)) {
    if (signal.aborted || performance.now() > until) return { count, lines, complete: false };
    const pieces = decoder.decode(part, { stream: true }).split("\n");
    for (const [i, piece] of pieces.entries()) {
      if (size < LINE_LIMIT * 16) rest += piece;
      size += piece.length;
      if (i === pieces.length - 1) break;
      look(rest);
      number++;
      rest = "";
      size = 0;
    }
    await new Promise((next) => setImmediate(next)); // other requests are served between pieces
  }
  rest += decoder.decode();
  if (rest !== "") look(rest);
  return { count, lines, complete: true };
}

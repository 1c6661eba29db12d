/**
 * GET /ls: the lines of a folder (their form: wire/buildlet-api/ls-line.ts), in the order of its names. Each folder
 * stands before its content.
 *
 * Folders are read and files are looked at by synchronous calls, as in unpack.ts: a promise for each of 50,000 files
 * takes ten times as long. The event loop gets its turn after each BATCH of text. Names are bytes, one per character
 * (latin1).
 */
import { closeSync, constants, lstatSync, openSync, readdirSync, readSync, type Stats } from "node:fs";
import { formatLsLine, formatLsTime, goFileMode } from "../../wire/buildlet-api/ls-line.ts";
import type { KnownDigests } from "./known-digests.ts";
import { bytesOrText } from "./unpack.ts";

const BATCH = 64 * 1024;
const CHUNK = 1024 * 1024;

export interface ListOptions {
  readonly recursive: boolean;
  /** How many levels a recursive listing has; all when left out. */
  readonly depth?: number;
  /** The digests that are known, and need not be computed again. Undefined: the listing shows no digests. */
  readonly digests: KnownDigests | undefined;
  /** Folders, relative to the listed one, that are neither shown nor entered. */
  readonly skip: ReadonlySet<string>;
  /** Names of folders that are neither shown nor entered, wherever they are; none when left out. */
  readonly skipNames?: ReadonlySet<string>;
  /** What ends each line; LF when left out. */
  readonly end?: "\n" | "\0";
}

/** Gives whole lines, many at a time. A file gives one line with an empty name. Throws for what cannot be read. */
export async function* list(dir: string, options: ListOptions): AsyncGenerator<Buffer> {
  const sha1 = options.digests && (await digester(dir, options.digests));
  try {
    let batch = "";
    const levels = options.recursive ? (options.depth ?? Number.POSITIVE_INFINITY) : 1;
    for (const line of lines(dir, "", options, sha1, levels)) {
      batch += line;
      if (batch.length < BATCH) continue;
      yield Buffer.from(batch, "latin1");
      batch = "";
      await new Promise<void>((turn) => setImmediate(turn));
    }
    if (batch !== "") yield Buffer.from(batch, "latin1");
  } finally {
    options.digests?.keep(dir);
  }
}

type Digest = (name: string, path: string | Buffer, stats: Stats) => string;

function* lines(
  dir: string,
  name: string,
  options: ListOptions,
  sha1: Digest | undefined,
  levels: number,
): Generator<string> {
  const path = pathOf(dir, name);
  const stats = lstatSync(path);
  if (!stats.isDirectory()) yield line(name, path, stats, options, sha1);
  else if (!isSkipped(name, options)) {
    if (name !== "") yield formatLsLine({ mode: goFileMode(stats.mode), name: `${name}/` }, options.end);
    if (levels === 0) return;
    for (const child of readdirSync(path, { encoding: "latin1" }).sort())
      yield* lines(dir, name === "" ? child : `${name}/${child}`, options, sha1, levels - 1);
  }
}

/** Whether the folder `name` is left out. */
function isSkipped(name: string, { skip, skipNames }: ListOptions): boolean {
  if (name === "" || (skip.size === 0 && skipNames === undefined)) return false;
  const path = Buffer.from(name, "latin1").toString("utf8");
  return skip.has(path) || (skipNames?.has(path.slice(path.lastIndexOf("/") + 1)) ?? false);
}

function line(
  name: string,
  path: string | Buffer,
  stats: Stats,
  { end }: ListOptions,
  sha1: Digest | undefined,
): string {
  const mode = goFileMode(stats.mode);
  if (!stats.isFile()) return formatLsLine({ mode, name }, end);
  const { size, mtimeMs } = stats;
  const digest = sha1 ? { sha1: sha1(name, path, stats) } : {};
  return formatLsLine({ mode, name, file: { size, modified: formatLsTime(mtimeMs), ...digest } }, end);
}

async function digester(dir: string, known: KnownDigests): Promise<Digest> {
  const { createHash } = await import("node:crypto");
  const scratch = Buffer.allocUnsafe(CHUNK);
  return (name, path, stats) =>
    known.of(dir, name, stats, () => {
      const hash = createHash("sha1");
      // It may have become a FIFO by now. Opening one with blocking would hold the agent up.
      const fd = openSync(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
      try {
        for (;;) {
          const read = readSync(fd, scratch, 0, scratch.length, null);
          if (read === 0) return hash.digest("hex");
          hash.update(scratch.subarray(0, read));
        }
      } finally {
        closeSync(fd);
      }
    });
}

function pathOf(dir: string, name: string): string | Buffer {
  if (name === "") return dir;
  const text = bytesOrText(name);
  return typeof text === "string" ? `${dir}/${text}` : Buffer.concat([Buffer.from(`${dir}/`), text]);
}

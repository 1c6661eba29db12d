/** GET /ls: the lines of a folder (their form: wire/buildlet-api/ls-line.ts). */
import { createReadStream } from "node:fs";
import { formatLsLine, formatLsTime, goFileMode } from "../../wire/buildlet-api/ls-line.ts";
import { type WalkEntry, walk } from "./walk.ts";

export interface ListOptions {
  readonly recursive: boolean;
  readonly digest: boolean;
  /** Folders, relative to the listed one, that are neither shown nor entered. */
  readonly skip: ReadonlySet<string>;
}

/** One line after the other. A file gives one line with an empty name. Throws where the walk fails. */
export async function* list(dir: string, options: ListOptions): AsyncGenerator<Buffer> {
  const enter = (name: string) => {
    if (options.skip.has(Buffer.from(name, "latin1").toString("utf8"))) return false;
    return options.recursive ? true : "list";
  };
  for await (const entry of walk(dir, enter)) {
    if (entry.name === "" && entry.stats.isDirectory()) continue;
    yield Buffer.from(await line(entry, options.digest), "latin1");
  }
}

async function line({ name, path, stats }: WalkEntry, digest: boolean): Promise<string> {
  const mode = goFileMode(stats.mode);
  if (stats.isDirectory()) return formatLsLine({ mode, name: `${name}/` });
  if (!stats.isFile()) return formatLsLine({ mode, name });
  const sha1 = digest ? { sha1: await sha1Of(path) } : {};
  return formatLsLine({ mode, name, file: { size: stats.size, modified: formatLsTime(stats.mtimeMs), ...sha1 } });
}

async function sha1Of(path: Buffer): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha1");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest("hex");
}

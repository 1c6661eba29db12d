/** Walks a folder in the order of its names, each folder before what is in it. Names are bytes, one per character (latin1). */
import type { Stats } from "node:fs";
import { lstat, readdir } from "node:fs/promises";

export interface WalkEntry {
  /** Relative to the start, slashes between; "" for the start itself. */
  readonly name: string;
  readonly path: Buffer;
  readonly stats: Stats;
}

/** The start comes first. `enter` is asked for each folder below the start whether to list it and go into it. */
export async function* walk(
  start: string,
  enter: (name: string, depth: number) => boolean | "list",
): AsyncGenerator<WalkEntry> {
  yield* visit(Buffer.from(start), "", 0, enter);
}

async function* visit(
  path: Buffer,
  name: string,
  depth: number,
  enter: (name: string, depth: number) => boolean | "list",
): AsyncGenerator<WalkEntry> {
  const stats = await lstat(path);
  const into = stats.isDirectory() && (depth === 0 || enter(name, depth));
  if (stats.isDirectory() && into === false) return;
  yield { name, path, stats };
  if (into !== true) return;
  const names = (await readdir(path, { encoding: "latin1" })).sort();
  for (const child of names) {
    const below = Buffer.concat([path, Buffer.from("/"), Buffer.from(child, "latin1")]);
    yield* visit(below, name === "" ? child : `${name}/${child}`, depth + 1, enter);
  }
}

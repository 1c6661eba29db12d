/**
 * Step 0 of an attempt, `source`: what the recipe wants on the machine before the first command.
 *
 *   commit  the tree of the commit that is built, or of the one that it is tested with, as a tarball
 *   file    one small file that the farm writes, such as the VERSION of Go's own tree
 *   url     an archive that the machine itself fetches
 *
 * Parts of one folder are written one after the other, so that a later one may replace what an earlier one wrote.
 * Different folders are written at the same time. The first failure ends the step, and the parts that are under way are
 * given up. For a part with a name the log says when it began and ended.
 */
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import type { OtherTree, Recipe, SourcePart } from "../farm/build.ts";
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type EpochMs, type Ms, minutes, ms } from "../farm/ids.ts";
import { within } from "../farm/within.ts";
import type { Unpacked } from "../machines/machine-session.ts";
import { parseLsLine } from "../wire/buildlet-api/ls-line.ts";
import { tarEnd, tarHeader, tarPadding } from "../wire/tar/tar-writer.ts";
import type { BuildMachine } from "./machine.ts";

/** How long a machine may take to list one folder. */
const LIST_LIMIT: Ms = minutes(1);

/** Gives a commit's tree as a gzipped tar. */
export type Tarball = (repo: string, hash: string, signal: AbortSignal) => Promise<Readable>;

export interface SourcesDeps {
  readonly clock: Clock;
  readonly tarball: Tarball;
  /**
   * Writes a kept tree of the other commit to a folder. Resolves with its description for the log; undefined: there is
   * none.
   */
  readonly writeOther?: (
    other: OtherTree,
    dir: string,
    machine: BuildMachine,
    signal: AbortSignal,
  ) => Promise<string | undefined>;
  /** Writes a line to the step's log. */
  readonly say: (line: string) => Promise<void>;
}

/** A commit, and its repository. */
export interface Tree {
  readonly repo: string;
  readonly hash: string;
}

/** The first line of a log: what is built, and what it is tested with. */
export function headline({ builder, with: other }: Recipe, own: Tree): string {
  if (other === undefined) return `${builder} at ${own.hash}`;
  return `${builder} at ${other.hash} building ${own.repo} at ${own.hash}`;
}

/** The parts of `recipe`. A recipe that names none has one: the commit's tree. */
export function partsOf(recipe: Recipe): readonly SourcePart[] {
  return recipe.sources ?? [{ dir: recipe.sourceDir, commit: "own" }];
}

/**
 * `tarball`, with the archive of `tree` requested now, before the machine is ready for it. The first call for `tree`
 * gets this archive. Disposing ends it if no call came.
 */
export function askedAhead(
  tarball: Tarball,
  tree: Tree,
  signal: AbortSignal,
): Disposable & { readonly tarball: Tarball } {
  let asked: Promise<Readable> | undefined = tarball(tree.repo, tree.hash, signal);
  asked.catch(() => {}); // the caller for `tree` receives the failure
  return {
    tarball: (repo, hash, stop) => {
      if (asked === undefined || repo !== tree.repo || hash !== tree.hash) return tarball(repo, hash, stop);
      const first = asked;
      asked = undefined;
      return first;
    },
    [Symbol.dispose]: () =>
      void asked?.then(
        (body) => body.destroy(),
        () => {},
      ),
  };
}

/** Writes all parts. Rejects with the failure of the first part that could not be written. */
export async function writeSources(
  deps: SourcesDeps,
  tree: Tree,
  recipe: Recipe,
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<void> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const folders = Map.groupBy(partsOf(recipe), (part) => part.dir);
  const writing = [...folders.values()].map(async (parts) => {
    if (await writeKept(deps, recipe.with, parts, machine, either)) return;
    for (const part of parts) await writePart(deps, { own: tree, other: recipe.with }, part, machine, either);
  });
  try {
    await Promise.all(writing);
  } catch (error) {
    stop.abort(error);
    await Promise.allSettled(writing);
    throw error;
  }
}

/**
 * A file beside the sources. It says that the other tree was written as a build left it, so that steps that make it are
 * not needed.
 */
const OTHER_MADE = "barnraiser-other";

/**
 * Writes the other tree as it is after its steps, if it belongs into this folder and is kept. True: it was written, and
 * the folder needs no other part.
 */
async function writeKept(
  { writeOther, say }: SourcesDeps,
  other: OtherTree | undefined,
  parts: readonly SourcePart[],
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<boolean> {
  const place = parts.find((part) => "commit" in part && part.commit === "other");
  if (other === undefined || place === undefined || writeOther === undefined) return false;
  const what = await writeOther(other, place.dir, machine, signal);
  if (what === undefined) return false;
  await machine.client.writeFile(OTHER_MADE, 0o644, Buffer.from(what), signal);
  await say(`wrote ${other.repo} to ${machine.name} from a ${what}`);
  return true;
}

/**
 * Whether the other tree on this machine was written as it is after its steps. The machine is asked, since another
 * coordinator may have written it.
 */
export async function otherIsMade(
  clock: Clock,
  { name, client }: Pick<BuildMachine, "name"> & { readonly client: Pick<BuildMachine["client"], "ls"> },
  signal: AbortSignal,
): Promise<boolean> {
  const lines = await within(clock, LIST_LIMIT, [signal], `listing ${name}`, (limited) =>
    client.ls(".", { recursive: false }, limited),
  );
  return lines.some((line) => parseLsLine(line)?.name === OTHER_MADE);
}

/** The commits of a build; `other` is undefined in a build that is no pair. */
interface Trees {
  readonly own: Tree;
  readonly other: Tree | undefined;
}

async function writePart(
  deps: SourcesDeps,
  trees: Trees,
  part: SourcePart,
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<void> {
  const { clock, say } = deps;
  signal.throwIfAborted();
  const began = clock.monotonic();
  if (part.name !== undefined) await say(spanBegan(clock.now(), part.name));
  const what = await written(deps, trees, part, machine, signal);
  const span = durationText(ms(clock.monotonic() - began));
  if (part.name !== undefined) await say(spanEnded(clock.now(), part.name, span));
  else await say(`wrote ${what.name} to ${machine.name} in ${span}`);
  if (what.skippedLinks === 0) return;
  await say(skippedText(what.skippedLinks, machine.name));
}

/** A line of the log about links that an archive has and a machine did not make. */
export function skippedText(skipped: number, machine: string): string {
  const links = skipped === 1 ? "1 symbolic link" : `${skipped} symbolic links`;
  return `not unpacked: ${links} that lead out of the tree or that ${machine} cannot make`;
}

async function written(
  deps: SourcesDeps,
  { own, other }: Trees,
  part: SourcePart,
  machine: BuildMachine,
  signal: AbortSignal,
): Promise<{ readonly name: string; readonly skippedLinks: number }> {
  const { client } = machine;
  if ("url" in part) {
    await client.writeTgzFromUrl(part.dir, part.url, signal);
    return { name: part.url, skippedLinks: 0 };
  }
  if ("file" in part) {
    const text = part.text.replaceAll("$COMMIT", own.hash).replaceAll("$OTHER", other?.hash ?? "");
    await client.writeTgz(part.dir, Readable.from([oneFile(part.file, text, deps.clock.now())]), signal);
    return { name: part.file, skippedLinks: 0 };
  }
  const tree = part.commit === "own" || other === undefined ? own : other;
  const body = await deps.tarball(tree.repo, tree.hash, signal).catch((error: unknown) => {
    throw new FarmError("unavailable", `source not available: ${messageOf(error)}`, { cause: error });
  });
  const { skippedLinks = 0 } = await writeTarball(machine, part.dir, body, signal);
  return { name: tree.repo, skippedLinks };
}

/**
 * Writes a tarball to the machine. A tarball that breaks off is not the machine's fault, and fails as `unavailable`.
 */
async function writeTarball(
  machine: BuildMachine,
  dir: string,
  body: Readable,
  signal: AbortSignal,
): Promise<Unpacked> {
  let broken: Error | undefined;
  body.once("error", (error) => {
    broken = error;
  });
  try {
    return await machine.client.writeTgz(dir, body, signal);
  } catch (error) {
    if (broken && !signal.aborted) {
      throw new FarmError("unavailable", `source not available: ${messageOf(broken)}`, { cause: broken });
    }
    throw error;
  } finally {
    body.destroy();
  }
}

/** A gzipped tar that holds one file, of mode 0644. */
function oneFile(name: string, text: string, now: EpochMs): Buffer {
  const content = Buffer.from(text);
  const entry = {
    type: "file",
    name: Buffer.from(name).toString("latin1"),
    mode: 0o644,
    size: content.length,
  } as const;
  const header = tarHeader({ ...entry, mtime: Math.floor(now / 1000) });
  return gzipSync(Buffer.concat([header, content, tarPadding(content.length), tarEnd()]));
}

/** A line such as `  2026-11-23T12:00:00Z write_version_tar`: two spaces, the time, the name, for scripts to find. */
function spanBegan(now: EpochMs, name: string): string {
  return `  ${new Date(now).toISOString()} ${name}`;
}

function spanEnded(now: EpochMs, name: string, span: string): string {
  return `  ${new Date(now).toISOString()} finish_${name} after ${span}`;
}

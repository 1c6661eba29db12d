/**
 * The report files of a group of tests: found below the source tree, removed before the group, read after it.
 *
 *   found    by a listing no deeper than the glob reaches, and never of `node_modules` or `.git`, wherever these are: a
 *            report may lie at the root of a large tree. An original agent lists them where they are not at the root,
 *            and their files are passed over here
 *   read     our own agent sends only these files. An original packs whole folders: those that have reports. Of other
 *            files in them it may send up to BESIDE_LIMIT, and only until the last report has come
 *
 * How long all this takes depends on what the tested code leaves behind. So reports that are too many, too large or too
 * slow are left out, and `troubles` says so in words. Only a call that fails rejects, since that is the machine's
 * fault. The machine may be at fault for slow reports too. So these say nothing about the tests, and `late` says that
 * there were some. While the reader takes no more, no time passes, since then neither is slow.
 */
import type { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { matches } from "../config/globs.ts";
import type { Clock } from "../farm/clock.ts";
import { durationText } from "../farm/duration-text.ts";
import { FarmError, messageOf } from "../farm/errors.ts";
import { type Ms, minutes, ms, seconds } from "../farm/ids.ts";
import { sizeText } from "../farm/size-text.ts";
import { within } from "../farm/within.ts";
import { parseLsLine } from "../wire/buildlet-api/ls-line.ts";
import { tarText } from "../wire/tar/tar.ts";
import { TarReader } from "../wire/tar/tar-reader.ts";
import { type BuildLimit, timeLeft } from "./command-limits.ts";
import { HeldClock } from "./held-clock.ts";
import type { BuildMachine } from "./machine.ts";

const LIST_LIMIT: Ms = minutes(1);
const REMOVE_LIMIT: Ms = minutes(1);
const READ_LIMIT: Ms = minutes(5);
/** The limit of each call when the build has used up its time, so that the reports of its last group are still read. */
const LAST_LOOK: Ms = seconds(15);
/** How many bytes the reports of one group may have, unpacked. */
const REPORT_LIMIT = 256 * 1024 * 1024;
const TOO_LARGE = `together they may have ${sizeText(REPORT_LIMIT)}`;
const FILES_LIMIT = 10_000;
/** How many bytes of other files a machine may pack with them. */
const BESIDE_LIMIT = 256 * 1024 * 1024;
/** How long the names in one request may be together, since the head of a request has a limit. */
const NAMES_LENGTH = 8 * 1024;
/** Folders that are not searched: their files are no reports of ours, and very many. */
const PASSED_OVER = ["node_modules", ".git"];

interface Report {
  /** The path of the file, relative to the folder that is listed. */
  readonly name: string;
  readonly size: number;
}

/** Takes one file, piece by piece. */
export interface FileReader {
  readonly push: (piece: Uint8Array) => void;
  readonly end: () => void;
}

export interface ReportsReader {
  readonly open: (name: string) => FileReader;
  /** Called between two pieces. Nothing more is read before it resolves. */
  readonly taken: () => Promise<void>;
}

export class ReportFiles {
  readonly #clock: Clock;
  readonly #build: BuildLimit | undefined;
  readonly #machine: BuildMachine;
  /** The folder that has all files that the glob can match, relative to the work folder. */
  readonly #folder: string;
  readonly #patterns: readonly string[];
  /** How many folders deep a report may lie; undefined: any. */
  readonly #depth: number | undefined;
  readonly #troubles: string[] = [];
  #late = false;
  #tooLarge = false;

  /** `build`: the limit of the build, which also ends every call here. */
  constructor(clock: Clock, machine: BuildMachine, sourceDir: string, glob: string, build?: BuildLimit) {
    this.#clock = clock;
    this.#build = build;
    this.#machine = machine;
    const parts = glob.split("/").filter((part) => part !== "" && part !== ".");
    const wild = parts.findIndex((part) => /[*?]/.test(part));
    const fixed = wild < 0 ? parts.length - 1 : wild;
    const rest = parts.slice(fixed).join("/");
    this.#folder = [sourceDir, ...parts.slice(0, fixed)].filter(Boolean).join("/");
    this.#patterns = [rest, rest.replaceAll("**/", "")];
    this.#depth = rest.includes("**") ? undefined : parts.length - fixed;
  }

  /** Which reports were left out and why, in words. */
  get troubles(): readonly string[] {
    return this.#troubles;
  }

  /** Whether a report was not read, or not removed, since that took too long. */
  get late(): boolean {
    return this.#late;
  }

  /**
   * Removes the reports of earlier groups, before a group. False: some may still be there, and cannot be told from the
   * group's own.
   */
  async remove(signal: AbortSignal): Promise<boolean> {
    const old = await this.#found(signal);
    if (old?.length === 0) return true;
    const paths = old?.map(({ name }) => `${this.#folder}/${name}`) ?? [];
    const what = `removing reports of earlier tests on ${this.#machine.name}`;
    const removed = await this.#inTime(this.#clock, REMOVE_LIMIT, what, signal, async (limited) => {
      for (const some of pieces(paths)) await this.#machine.client.removeAll(some, limited);
    });
    return old !== undefined && removed !== undefined;
  }

  /** Reads nothing, after a group before which not all reports were removed, by this coordinator or another. */
  pass(): void {
    this.#troubles.push("none is read, since those of earlier tests may be among them");
    if (!this.#tooLarge) this.#late = true;
  }

  /** Gives each report to `reader` as it comes, after the group. */
  async read(reader: ReportsReader, signal: AbortSignal): Promise<void> {
    const found = (await this.#found(signal)) ?? [];
    if (found.length > FILES_LIMIT) this.#leftOut(found.length - FILES_LIMIT, `there may be ${FILES_LIMIT} of them`);
    const few = found.slice(0, FILES_LIMIT);
    const chosen = together(few);
    if (chosen.length < few.length) this.#leftOut(few.length - chosen.length, TOO_LARGE);
    if (chosen.length === 0) return;
    const held = new HeldClock(this.#clock);
    const unpacking = new Unpacking(chosen, { open: reader.open, taken: () => held.during(reader.taken()) });
    await this.#inTime(held, READ_LIMIT, `reading reports from ${this.#machine.name}`, signal, async (limited) => {
      for (const { dir, packed } of this.#archives(unpacking.wanted, limited)) {
        await unpacking.take(dir, await packed(), limited);
        if (unpacking.wanted.length === 0 || unpacking.beside > BESIDE_LIMIT) break;
      }
    });
    const { tooLarge, beside, wanted } = unpacking;
    if (tooLarge > 0) this.#leftOut(tooLarge, TOO_LARGE);
    if (beside > BESIDE_LIMIT) {
      const why = `${this.#machine.name} packs their folder whole, and more than ${sizeText(BESIDE_LIMIT)} are beside them`;
      this.#leftOut(wanted.length, why);
    } else if (wanted.length > 0) this.#leftOut(wanted.length, "they could not be read, or not in time");
  }

  #leftOut(count: number, why: string): void {
    this.#troubles.push(`${count} of its files left out: ${why}`);
  }

  /** The reports that are there now; undefined: they could not be listed. */
  async #found(signal: AbortSignal): Promise<Report[] | undefined> {
    const depth = this.#depth;
    const options = { recursive: depth !== 1, skipNames: PASSED_OVER, ...(depth !== undefined && { depth }) };
    const listed = await this.#inTime(this.#clock, LIST_LIMIT, `listing ${this.#machine.name}`, signal, (limited) =>
      this.#machine.client.ls(this.#folder, options, limited).catch((error: unknown) => {
        if (error instanceof FarmError && error.code === "bad-request") return []; // there is no such folder yet
        throw error;
      }),
    );
    return listed?.value.flatMap((line) => {
      const { name = "", file } = parseLsLine(line) ?? {};
      return file && this.#isReport(name) ? [{ name, size: file.size }] : [];
    });
  }

  #isReport(name: string): boolean {
    return matches(this.#patterns, name) && !name.split("/").some((part) => PASSED_OVER.includes(part));
  }

  /** The archives that have the files `names`. Those of our own agent have nothing else. */
  #archives(
    names: readonly string[],
    signal: AbortSignal,
  ): { readonly dir: string; readonly packed: () => Promise<Readable> }[] {
    const { agent, client } = this.#machine;
    if (agent === "barnraiser") {
      return pieces(names).map((some) => ({ dir: "", packed: () => client.readFiles(this.#folder, some, signal) }));
    }
    return outermost(names).map((dir) => {
      const folder = dir === "" ? this.#folder : `${this.#folder}/${dir}`;
      return { dir, packed: () => client.readTgz(folder, signal) };
    });
  }

  /**
   * Does `work` for at most `most` by `clock`, and no longer than the build has. Undefined: it took too long, or there
   * was too much, and `troubles` says so.
   */
  async #inTime<T>(
    clock: Pick<Clock, "sleep">,
    most: Ms,
    what: string,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ readonly value: T } | undefined> {
    const left = this.#build ? timeLeft(this.#clock, this.#build) : most;
    const limit = ms(Math.min(most, Math.max(left, LAST_LOOK)));
    const late = new FarmError("timed-out", `${what} took longer than ${durationText(limit)}`);
    try {
      return { value: await within(clock, limit, [this.#machine.gone, signal], late, work) };
    } catch (error) {
      const tooLarge = error instanceof FarmError && error.code === "too-large";
      if (error !== late && !tooLarge) throw error;
      this.#troubles.push(messageOf(error));
      if (tooLarge) this.#tooLarge = true;
      else this.#late = true;
      return undefined;
    }
  }
}

/** The names of those reports that fit into REPORT_LIMIT together, chosen in their order. */
function together(reports: readonly Report[]): string[] {
  let left = REPORT_LIMIT;
  return reports.flatMap(({ name, size }) => {
    if (size > left) return [];
    left -= size;
    return [name];
  });
}

/** Splits `names` into one list per request. */
function pieces(names: readonly string[]): string[][] {
  const all: string[][] = [];
  let length = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const more = encodeURIComponent(name).length + 8;
    length += more;
    if (length > NAMES_LENGTH) {
      all.push([]);
      length = more;
    }
    all.at(-1)?.push(name);
  }
  return all;
}

/** The folders of `files`, without those that are inside another one of them. */
function outermost(files: readonly string[]): string[] {
  const all = new Set(files.map((file) => file.slice(0, Math.max(0, file.lastIndexOf("/")))));
  const isIn = (dir: string): boolean =>
    dir !== "" && dir.split("/").some((_, depth, parts) => depth > 0 && all.has(parts.slice(0, depth).join("/")));
  return all.has("") ? [""] : [...all].filter((dir) => !isIn(dir)).toSorted();
}

/** Takes the wanted files out of several archives, up to REPORT_LIMIT bytes together. */
class Unpacking {
  readonly #reader: ReportsReader;
  readonly #wanted: Set<string>;
  #left = REPORT_LIMIT;
  #tooLarge = 0;
  #beside = 0;

  constructor(wanted: readonly string[], reader: ReportsReader) {
    this.#wanted = new Set(wanted);
    this.#reader = reader;
  }

  /** The wanted files that have not come yet. */
  get wanted(): readonly string[] {
    return [...this.#wanted];
  }

  get tooLarge(): number {
    return this.#tooLarge;
  }

  /** How many bytes of other files have come. */
  get beside(): number {
    return this.#beside;
  }

  /** Reads a tar.gz of the folder `dir`, until nothing more in it can be of use. */
  async take(dir: string, packed: Readable, signal: AbortSignal): Promise<void> {
    let reading: FileReader | undefined;
    let enough = false;
    const reader = new TarReader({
      entry: ({ name, type, size }) => {
        reading = undefined;
        if (type !== "file") return;
        const plain = tarText(name).replace(/^\.\//, "");
        const path = dir === "" ? plain : `${dir}/${plain}`;
        if (this.#wanted.delete(path)) {
          if (size > this.#left) this.#tooLarge++;
          else {
            this.#left -= size;
            reading = this.#reader.open(path);
          }
        } else {
          this.#beside += size;
          enough = this.#wanted.size === 0 || this.#beside > BESIDE_LIMIT;
        }
      },
      data: (piece) => reading?.push(piece),
      end: () => reading?.end(),
    });
    const unzipped = packed.pipe(createGunzip());
    packed.once("error", (error) => unzipped.destroy(error));
    try {
      for await (const chunk of unzipped) {
        signal.throwIfAborted();
        reader.push(chunk as Buffer);
        await this.#reader.taken();
        if (enough) return;
      }
      reader.close();
    } catch (error) {
      if (error instanceof FarmError) throw error;
      throw new FarmError("machine-broken", `The reports cannot be read: ${String(error)}`, { cause: error });
    } finally {
      packed.destroy();
    }
  }
}

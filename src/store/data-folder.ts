/**
 * The data folder belongs to one coordinator at a time: `DATA/coordinator.json` says which.
 *
 * The file of a process that no longer lives (killed, power cut) is taken over. Its start time tells a process from a
 * later one with the same number, where the system shows it (/proc).
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdir, open, readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname, join, resolve } from "node:path";
import { FarmError, messageOf } from "../farm/errors.ts";

export interface Holder {
  readonly pid: number;
  readonly host: string;
  /** When that process started, in ticks since boot. "" where the system does not say. */
  readonly startedTicks: string;
  readonly since: string;
  /** The addresses of its pages and of machines, once it listens. Command-line tools dial them. */
  readonly http?: string;
  readonly https?: string;
}

export class DataFolder implements AsyncDisposable {
  readonly path: string;
  #holder: Holder;

  private constructor(path: string, holder: Holder) {
    this.path = path;
    this.#holder = holder;
  }

  /** Takes `path` (made when missing) for this process. Throws FarmError `conflict` naming who has it. */
  static async take(path: string): Promise<DataFolder> {
    const holder: Holder = {
      pid: process.pid,
      host: hostname(),
      startedTicks: await startedTicks(process.pid),
      since: new Date().toISOString(),
    };
    try {
      await makeFolder(path);
      const other = await holderOf(path);
      if (other) throw held(path, other);
      await write(path, holder);
    } catch (error) {
      if (error instanceof FarmError) throw error;
      throw new FarmError("forbidden", `Cannot use the data folder ${path}: ${messageOf(error)}`, { cause: error });
    }
    const winner = await holderOf(path);
    if (winner && winner.pid !== process.pid) throw held(path, winner);
    return new DataFolder(path, holder);
  }

  /**
   * Names this folder in the database, across its processes. A copy of the folder, or the same one elsewhere, has
   * another name.
   */
  async identity(): Promise<string> {
    const file = join(this.path, "identity");
    await writeFile(file, `${randomBytes(16).toString("hex")}\n`, { mode: 0o600, flag: "wx" }).catch((error) => {
      if (error.code !== "EEXIST") throw error;
    });
    const parts = [await readFile(file, "utf8"), hostname(), await realpath(this.path), String((await stat(file)).ino)];
    return createHash("sha256").update(parts.join("\0")).digest("hex").slice(0, 32);
  }

  /** Writes down the addresses of the running coordinator, so that command-line tools find it. */
  async announce(addresses: { readonly http: string; readonly https: string }): Promise<void> {
    this.#holder = { ...this.#holder, ...addresses };
    await write(this.path, this.#holder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(fileOf(this.path), { force: true });
  }
}

/** The living process that holds the data folder, or undefined. */
export async function holderOf(path: string): Promise<Holder | undefined> {
  const text = await readFile(fileOf(path), "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const holder = parse(text);
  if (!holder || holder.host !== hostname()) return holder; // held from another host (a shared disk): we cannot see whether that process lives
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EPERM") return undefined;
  }
  const ticks = await startedTicks(holder.pid);
  return ticks === holder.startedTicks ? holder : undefined;
}

/** Like mkdir with parents, but one by one: on a file system that makes no folders, Node's own would try for ever. */
async function makeFolder(path: string): Promise<void> {
  if ((await stat(path).catch(() => undefined))?.isDirectory()) return;
  const parent = dirname(resolve(path));
  if (parent !== resolve(path)) await makeFolder(parent);
  await mkdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw error;
  });
}

function held(path: string, by: Holder): FarmError {
  const where = by.http ? ` (${by.http})` : "";
  return new FarmError(
    "conflict",
    `Cannot use the data folder ${path}: the coordinator with process id ${by.pid} on ${by.host}${where} has it since ${by.since}. Stop that one, or give another folder with -data.`,
  );
}

function fileOf(path: string): string {
  return join(path, "coordinator.json");
}

async function write(path: string, holder: Holder): Promise<void> {
  const draft = `${fileOf(path)}.${process.pid}`;
  await using file = await open(draft, "w", 0o600);
  await file.writeFile(`${JSON.stringify(holder)}\n`);
  await rename(draft, fileOf(path));
}

function parse(text: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && "pid" in value ? (value as Holder) : undefined;
  } catch {
    return undefined; // a crash interrupted the writing of the file
  }
}

async function startedTicks(pid: number): Promise<string> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The second field, the name, is in parentheses and may hold spaces; field 22 is the start.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

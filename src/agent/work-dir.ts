/**
 * The work dir: the folder that a machine lends to builds.
 *
 *   -workdir DIR        DIR; it must exist, and is kept at the start
 *   Linux               /workdir when that is a tmpfs
 *   Windows             C:\workdir, created
 *   otherwise           TMPDIR-or-/tmp + /workdir, in reverse mode /workdir-<host type>; deleted and created again
 *
 * In any of them `tmp`, `gocache` and `goplscache` are the agent's own and are emptied at the start. All of it is
 * deleted before each build, since the coordinator begins with `/removeall` of `.`; so a DIR that is or holds the
 * owner's home is refused. Each request that needs the work dir creates it where it is missing.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { join, resolve, sep } from "node:path";
import { errnoOf } from "../farm/errors.ts";

const CACHE_DIRS = ["tmp", "gocache", "goplscache"] as const;

export interface WorkDirChoice {
  /** The value of `-workdir`, or "". */
  readonly given: string;
  /** The host type in reverse mode, otherwise "". */
  readonly hostType: string;
  readonly platform: NodeJS.Platform;
  /** The owner's home folder. */
  readonly home: string;
  /** The TMPDIR of the environment, or "". */
  readonly tmpDir: string;
}

/** Chooses and prepares the work dir. Throws a reason for the owner. Blocks: nobody waits before the session begins. */
export function openWorkDir(choice: WorkDirChoice): string {
  const dir = chooseWorkDir(choice);
  for (const name of CACHE_DIRS) {
    removeTreeNow(join(dir, name));
    mkdirSync(join(dir, name), { mode: 0o755 });
  }
  return dir;
}

function chooseWorkDir(choice: WorkDirChoice): string {
  if (choice.given !== "") {
    if (!statSync(choice.given, { throwIfNoEntry: false })?.isDirectory()) {
      throw new Error(`Cannot use -workdir ${JSON.stringify(choice.given)}: want a folder that exists`);
    }
    const real = realpathSync(choice.given);
    if (real === resolve(real, "..") || holds(real, choice.home)) {
      throw new Error(
        `Cannot use -workdir ${JSON.stringify(choice.given)}: the farm empties the work dir before each build, and this is or holds your home; make a folder for it`,
      );
    }
    return resolve(choice.given);
  }
  if (choice.platform === "linux" && isTmpfs("/workdir")) return "/workdir";
  if (choice.platform === "win32") {
    mkdirSync("C:\\workdir", { recursive: true });
    return "C:\\workdir";
  }
  // A host type is any text, so no separator of it may choose another place.
  const name = choice.hostType === "" ? "workdir" : `workdir-${choice.hostType.replaceAll(/[/\\\0]/g, "_")}`;
  const dir = join(choice.tmpDir || "/tmp", name);
  removeTreeNow(dir);
  mkdirSync(dir, { mode: 0o755 });
  return dir;
}

/** Whether `home` is `dir`, a real path, or below it. */
function holds(dir: string, home: string): boolean {
  if (home === "") return false;
  let real = resolve(home);
  try {
    real = realpathSync(home);
  } catch {
    // A home that does not exist may still be named.
  }
  return real === dir || real.startsWith(dir.endsWith(sep) ? dir : `${dir}${sep}`);
}

function isTmpfs(path: string): boolean {
  try {
    return readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .some((line) => line.split(" ")[1] === path && line.split(" ")[2] === "tmpfs");
  } catch {
    return false;
  }
}

/** Makes the work dir and the agent's folders in it where they are missing. */
export function ensureWorkDir(dir: string): void {
  for (const name of CACHE_DIRS) mkdirSync(join(dir, name), { recursive: true, mode: 0o755 });
}

/** A tree of at most so many entries is deleted by synchronous calls: each promise would wait for another thread. */
const FEW_ENTRIES = 64;
const FEW_BYTES = 64 * 1024 * 1024;

/** Deletes `path` and all below it. Makes read-only folders writable where they are in the way. */
export async function removeTree(path: string): Promise<void> {
  if (isSmall(path)) {
    removeTreeNow(path);
    return;
  }
  const { rm } = await import("node:fs/promises"); // an idle agent does without
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!mayTryAgain(error, path)) return;
    await rm(path, { recursive: true, force: true });
  }
}

/** Whether `path` is a readable folder with at most FEW_ENTRIES below it. */
function isSmall(path: string): boolean {
  let entries = 0;
  let bytes = 0;
  const folders = [path];
  try {
    for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
      const dir = opendirSync(folder);
      try {
        for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) {
          const each = join(folder, entry.name);
          if (entry.isDirectory()) folders.push(each);
          else bytes += lstatSync(each).size;
          if (++entries > FEW_ENTRIES || bytes > FEW_BYTES) return false;
        }
      } finally {
        dir.closeSync();
      }
    }
  } catch {
    return false; // removing it in the general way will say what is wrong
  }
  return true;
}

function removeTreeNow(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (mayTryAgain(error, path)) rmSync(path, { recursive: true, force: true });
  }
}

/** After a failure, makes what is in the way writable. False: there was nothing to delete. Throws other failures. */
function mayTryAgain(error: unknown, path: string): boolean {
  const errno = errnoOf(error);
  if (errno === "ENOTDIR") return false; // a parent is a file
  if (errno !== "EACCES" && errno !== "EPERM") throw error;
  makeWritable(path);
  return true;
}

function makeWritable(dir: string): void {
  try {
    chmodSync(dir, 0o755);
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      if (entry.isDirectory()) makeWritable(join(dir, entry.name));
    }
  } catch {
    // Deleting it is tried anyway, and says what is wrong.
  }
}

/**
 * The work dir: the folder that a machine lends to builds.
 *
 *   -workdir DIR        DIR; it must exist, and what is in it is the owner's: nothing in it is wiped
 *   Linux               /workdir when that is a tmpfs
 *   Windows             C:\workdir, created
 *   otherwise           TMPDIR-or-/tmp + /workdir, in reverse mode /workdir-<host type>; deleted and made anew
 *
 * In any of them `tmp`, `gocache` and `goplscache` are the agent's own and are emptied at the start. Each request that
 * needs the work dir makes it again if it is missing, since `/removeall` of `.` takes it away.
 */
import { chmod, mkdir, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { errnoOf } from "./api/api-error.ts";

export const CACHE_DIRS = ["tmp", "gocache", "goplscache"] as const;

export interface WorkDirChoice {
  /** `-workdir`, or "". */
  readonly given: string;
  /** Host type in reverse mode, otherwise "". */
  readonly hostType: string;
  readonly platform: NodeJS.Platform;
  /** TMPDIR of the environment, or "". */
  readonly tmpDir: string;
}

/** Chooses and prepares the work dir; rejects with a reason for the owner. */
export async function openWorkDir(choice: WorkDirChoice): Promise<string> {
  const dir = await chooseWorkDir(choice);
  await Promise.all(
    CACHE_DIRS.map(async (name) => {
      await removeTree(join(dir, name));
      await mkdir(join(dir, name), { mode: 0o755 });
    }),
  );
  return dir;
}

async function chooseWorkDir(choice: WorkDirChoice): Promise<string> {
  if (choice.given !== "") {
    const found = await stat(choice.given).catch(() => undefined);
    if (!found?.isDirectory()) {
      throw new Error(`Cannot use -workdir ${JSON.stringify(choice.given)}: want a folder that exists`);
    }
    return choice.given;
  }
  if (choice.platform === "linux" && (await isTmpfs("/workdir"))) return "/workdir";
  if (choice.platform === "win32") {
    await mkdir("C:\\workdir", { recursive: true });
    return "C:\\workdir";
  }
  // A host type is any text, so no separator of it may choose another place.
  const name = choice.hostType === "" ? "workdir" : `workdir-${choice.hostType.replaceAll(/[/\\\0]/g, "_")}`;
  const dir = join(choice.tmpDir || "/tmp", name);
  await removeTree(dir);
  await mkdir(dir, { mode: 0o755 });
  return dir;
}

async function isTmpfs(path: string): Promise<boolean> {
  const mounts = await readFile("/proc/mounts", "utf8").catch(() => "");
  return mounts.split("\n").some((line) => line.split(" ")[1] === path && line.split(" ")[2] === "tmpfs");
}

/** Makes the work dir and the agent's folders in it where they are missing. */
export async function ensureWorkDir(dir: string): Promise<void> {
  await Promise.all(CACHE_DIRS.map((name) => mkdir(join(dir, name), { recursive: true, mode: 0o755 })));
}

/** Deletes `path` and all below it. Read-only folders are made writable first, where that is what is in the way. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOTDIR") return; // a parent is a file, so there is nothing at `path`
    if (errno !== "EACCES" && errno !== "EPERM") throw error;
    await makeWritable(path);
    await rm(path, { recursive: true, force: true });
  }
}

async function makeWritable(dir: string): Promise<void> {
  await chmod(dir, 0o755).catch(() => {});
  for (const entry of await readdir(dir, { withFileTypes: true }).catch(() => [])) {
    if (entry.isDirectory()) await makeWritable(join(dir, entry.name));
  }
}

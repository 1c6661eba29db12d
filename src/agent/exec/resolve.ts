/**
 * Which program an exec means, and where it runs.
 *
 *   /a/b      absolute: that file                      dir absolute   as it is
 *   d/x.sh    below the work dir, never in mode sys    dir relative   below the work dir, by the rel rule
 *   name      in the work dir's root (not in mode      dir empty      mode sys: the work dir
 *             sys), then on the buildlet's PATH                       else: the folder of the program
 */
import { constants } from "node:fs";
import { access, open, stat } from "node:fs/promises";
import { delimiter, dirname, isAbsolute, join, normalize } from "node:path";
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

/** Rejects with an ApiError: 400 for what is malformed, 422 for a bare name that is nowhere. */
export async function resolveExec(form: ExecForm, input: ResolveInput): Promise<Resolved> {
  const program = await resolveProgram(form, input);
  if (form.dir === "") return { program, dir: form.system ? input.workDir : dirname(program) };
  if (isAbsolute(form.dir)) return { program, dir: normalize(form.dir) };
  return { program, dir: join(input.workDir, checkRelPath("dir", form.dir, input.windows)) };
}

async function resolveProgram(form: ExecForm, { workDir, path, windows }: ResolveInput): Promise<string> {
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
    const local = await findFile([workDir], cmd, windows);
    if (local !== undefined) return local;
  }
  const found = await findFile(path.split(delimiter), cmd, windows);
  if (found === undefined)
    throw new ApiError(422, `Cannot run ${JSON.stringify(cmd)}: executable file not found in $PATH`);
  return found;
}

async function findFile(dirs: readonly string[], name: string, windows: boolean): Promise<string | undefined> {
  const endings = windows ? ["", ".com", ".exe", ".bat", ".cmd"] : [""];
  for (const dir of dirs) {
    // Relative elements of PATH depend on where the buildlet was started: not used.
    if (!isAbsolute(dir)) continue;
    for (const ending of endings) {
      const path = join(dir, name + ending);
      const found = await stat(path).catch(() => undefined);
      if (!found?.isFile()) continue;
      if (
        await access(path, constants.X_OK).then(
          () => true,
          () => false,
        )
      )
        return path;
    }
  }
  return undefined;
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
export async function startProblem({ program, dir }: Resolved, windows: boolean): Promise<StartProblem | undefined> {
  const folder = await stat(dir).catch((error: NodeJS.ErrnoException) => error.code ?? "ENOENT");
  if (typeof folder === "string") return { what: "chdir", path: dir, errno: folder };
  if (!folder.isDirectory()) return { what: "chdir", path: dir, errno: "ENOTDIR" };
  // What may not be executed fails by itself; what cannot be read may still be executed.
  if (
    windows ||
    !(await access(program, constants.X_OK).then(
      () => true,
      () => false,
    ))
  )
    return undefined;
  const file = await open(program, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => undefined);
  if (!file) return undefined;
  try {
    if (!(await file.stat()).isFile()) return { what: "fork/exec", path: program, errno: "EACCES" };
    const { buffer, bytesRead } = await file.read(Buffer.alloc(128), 0, 128, 0);
    const head = buffer.subarray(0, bytesRead);
    const isText = !head.includes(0) && !head.subarray(0, 2).equals(Buffer.from("#!"));
    return isText ? { what: "fork/exec", path: program, errno: "ENOEXEC" } : undefined;
  } finally {
    await file.close();
  }
}

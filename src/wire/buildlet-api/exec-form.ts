/**
 * The form of POST /exec.
 *
 *   cmd      program: absolute, with a slash (below the work dir), or a bare name (work dir root, then PATH)
 *   mode     `sys` looks past the work dir; anything else is normal
 *   dir      absolute, or below the work dir; empty is the command's own directory (the work dir when sys)
 *   cmdArg   arguments in order        env  `K=V` in order, later wins
 *   path     PATH elements; `$PATH`, `$WORKDIR` and `$EMPTY` are replaced; one `$EMPTY` alone clears PATH
 *   debug    a boolean; the output then begins with a line that tells what is run
 *
 * Encoded as Go does: keys in alphabetical order, and always cmd, debug, dir and mode.
 */
import { parseBool } from "../../farm/flags.ts";

export interface ExecForm {
  readonly cmd: string;
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: readonly string[];
  readonly path: readonly string[];
  readonly system: boolean;
  readonly debug: boolean;
}

/** The body of the request, `application/x-www-form-urlencoded`. */
export function encodeExecForm(form: ExecForm): string {
  const body = new URLSearchParams();
  body.append("cmd", form.cmd);
  for (const arg of form.args) body.append("cmdArg", arg);
  body.append("debug", String(form.debug));
  body.append("dir", form.dir);
  for (const pair of form.env) body.append("env", pair);
  body.append("mode", form.system ? "sys" : "");
  for (const element of form.path) body.append("path", element);
  return body.toString();
}

export function decodeExecForm(body: URLSearchParams): ExecForm {
  return {
    cmd: body.get("cmd") ?? "",
    args: body.getAll("cmdArg"),
    dir: body.get("dir") ?? "",
    env: body.getAll("env"),
    path: body.getAll("path"),
    system: body.get("mode") === "sys",
    debug: parseBool(body.get("debug") ?? "") ?? false,
  };
}

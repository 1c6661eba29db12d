/**
 * The environment of a command. Later rules win, and so does the last of two equal names (on Windows in any case):
 *
 *   1. the buildlet's own environment, WORKDIR included, without what is the agent's business only (AGENT_ONLY)
 *   2. GOROOT_BOOTSTRAP: <workdir>/go1.4, or what was inherited if that folder was missing at the first exec
 *   3. the request's `env`, in order
 *   4. TMPDIR, GOCACHE, GOPLSCACHE: in the work dir, whatever the request says
 *   5. PATH when the request has `path`: `$PATH`, `$WORKDIR`, `$EMPTY` replaced, empty elements dropped
 *   6. PWD
 */
import { stat } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** Variables with the agent's key and passwords, and those that it sets for itself. No command gets them. */
const AGENT_ONLY = /^(GO_BUILD_KEY_|META_|BARNRAISER_)/;

export interface ExecEnvInput {
  readonly own: { readonly [name: string]: string | undefined };
  readonly workDir: string;
  /** The value of rule 2; undefined where there is none. */
  readonly gorootBootstrap: string | undefined;
  /** The pairs `K=V` of the request. */
  readonly env: readonly string[];
  readonly path: readonly string[];
  readonly dir: string;
  readonly windows: boolean;
}

export function execEnv(input: ExecEnvInput): { [name: string]: string } {
  const { workDir, windows } = input;
  const env = new Map<string, readonly [name: string, value: string]>();
  const set = (name: string, value: string) => {
    const key = windows ? name.toUpperCase() : name;
    env.delete(key); // so that the order is that of the last setting
    env.set(key, [name, value]);
  };
  for (const [name, value] of Object.entries(input.own)) {
    if (value !== undefined && !AGENT_ONLY.test(windows ? name.toUpperCase() : name)) set(name, value);
  }
  if (input.gorootBootstrap !== undefined) set("GOROOT_BOOTSTRAP", input.gorootBootstrap);
  for (const pair of input.env) {
    // Windows has names that begin with `=`; a pair without any cannot be given to a process.
    const equals = pair.indexOf("=", 1);
    if (equals > 0) set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  set("TMPDIR", join(workDir, "tmp"));
  set("GOCACHE", join(workDir, "gocache"));
  set("GOPLSCACHE", join(workDir, "goplscache"));
  if (input.path.length > 0) {
    const before = env.get("PATH")?.[1] ?? "";
    const elements = input.path.map((element) =>
      element
        .replaceAll("$PATH", () => before)
        .replaceAll("$WORKDIR", () => workDir)
        .replaceAll("$EMPTY", ""),
    );
    const path = elements.filter((element) => element !== "").join(delimiter);
    if (path !== before) set("PATH", path);
  }
  set("PWD", input.dir);
  return Object.fromEntries(env.values());
}

/** The value of rule 2: go1.4 of the work dir if it exists, else what the machine has. */
export async function gorootBootstrap(workDir: string): Promise<string | undefined> {
  const own = join(workDir, "go1.4");
  const found = await stat(own).catch(() => undefined);
  return found ? own : process.env.GOROOT_BOOTSTRAP;
}

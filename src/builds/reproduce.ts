/**
 * How to repeat by hand what failed in a build: one text for a POSIX shell that can be pasted as it is.
 *
 * It makes a folder of its own and clones the exact commits into it. Then it runs the steps as the farm does, in their
 * order, each in its folder with its environment, up to the step that failed. Of the tests it runs those that failed.
 * Everything happens in a subshell that ends at the first failure, so the shell into which it is pasted goes on.
 *
 * Variables whose names sound like a secret are left out, and so is what an address has before its host. Nothing in the
 * text is a comment, since an interactive shell may not know comments.
 */
import type { Recipe, SourcePart, Step } from "../farm/build.ts";
import { folderOf } from "./command.ts";
import { word, wordOfPath } from "./shell-word.ts";
import { partsOf } from "./sources.ts";

export interface Failed {
  readonly build: number;
  /** The name of the step that failed; `tests` for the tests. */
  readonly step: string;
  /** The tests that failed, as many as a reader wants. */
  readonly tests: readonly string[];
  readonly repo: string;
  readonly hash: string;
}

export type Reproduction =
  | {
      readonly commands: string;
      /** Names of variables that are set on the machine, and left out here. */
      readonly hidden: readonly string[];
    }
  | { readonly cannot: string };

const SECRET = /token|secret|passw|credential|private|(^|_)(api|access|signing)?_?key$/i;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/**
 * The text for a build that failed. `goos`: the system of its host type. `urlOf`: the address from which a repository
 * is cloned; undefined: it is not configured any more.
 */
export function reproduction(
  recipe: Recipe,
  failed: Failed,
  goos: string,
  urlOf: (repo: string) => string | undefined,
): Reproduction {
  if (goos === "windows" || goos === "plan9") {
    return { cannot: `Its commands are those of ${goos}: they are not written out for a POSIX shell.` };
  }
  const sources = partsOf(recipe).toSorted((a, b) => Number("commit" in b) - Number("commit" in a)); // git clones into empty folders
  const missing = sources.map((part) => repoOf(part, recipe, failed)).find((repo) => repo !== undefined && urlOf(repo) === undefined); // biome-ignore format: one thought
  if (missing !== undefined) return { cannot: `The repository ${missing} is not configured any more.` };
  const hidden = new Set<string>();
  const folder = word(`build-${failed.build}`);
  const lines = [
    "( set -e",
    `mkdir ${folder}`,
    `cd ${folder}`,
    'export WORKDIR="$PWD"',
    ...sources.flatMap((part) => linesOf(part, recipe, failed, urlOf)),
    ...exportsOf(recipe.env, hidden),
    ...commandsOf(recipe, failed).map(({ step, before, args, dir, env }) => {
      const parts = [`cd ${word(dir)}`, ...before, ...exportsOf([...step.env, ...env], hidden), ...pathOf(step.path)];
      return `( ${[...parts, [programOf(step), ...step.command.slice(1).map(word), ...args].join(" ")].join(" && ")} )`;
    }),
    ")",
  ];
  return { commands: `${lines.join("\n")}\n`, hidden: [...hidden] };
}

/** The address without a user and a password, which are secrets. */
function withoutSecret(url: string): string {
  return url.replace(/^(https?:\/\/)[^/@]*@/i, "$1");
}

function repoOf(part: SourcePart, recipe: Recipe, { repo }: Failed): string | undefined {
  if (!("commit" in part)) return undefined;
  return part.commit === "own" ? repo : (recipe.with?.repo ?? repo);
}

function linesOf(
  part: SourcePart,
  recipe: Recipe,
  failed: Failed,
  urlOf: (repo: string) => string | undefined,
): string[] {
  const dir = word(folderOf("", part.dir));
  const other = recipe.with?.hash ?? "";
  if ("commit" in part) {
    const url = urlOf(repoOf(part, recipe, failed) ?? "") ?? "";
    const hash = part.commit === "own" || other === "" ? failed.hash : other;
    return [`git clone -- ${word(withoutSecret(url))} ${dir}`, `git -C ${dir} checkout --detach ${word(hash)}`];
  }
  if ("url" in part) {
    return [`mkdir -p -- ${dir}`, `curl -fsSL -- ${word(withoutSecret(part.url))} | tar -xzf - -C ${dir}`];
  }
  const text = part.text.replaceAll("$COMMIT", failed.hash).replaceAll("$OTHER", other);
  return [`mkdir -p -- ${dir}`, `printf %s ${word(text)} > ${word(`${folderOf("", part.dir)}/${part.file}`)}`];
}

interface Run {
  readonly step: Step;
  /** Commands that run before it, in its folder. */
  readonly before: readonly string[];
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: readonly string[];
}

/** The commands to run. The one that failed is the last. */
function commandsOf(recipe: Recipe, { step: name, tests }: Failed): Run[] {
  const { steps, sourceDir } = recipe;
  const plain = (step: Step): Run => ({ step, before: [], args: [], dir: folderOf(sourceDir, step.dir), env: [] });
  const at = steps.findIndex((step) => step.name === name);
  if (at >= 0 || recipe.tests === undefined) return steps.slice(0, at + 1).map(plain);
  const { list, run, names } = recipe.tests;
  const made = steps.map(plain);
  const [first] = tests;
  if (first === undefined) return "command" in list ? [...made, plain(list.command)] : made;
  if (names === "dir") return [...made, { ...plain(run), dir: folderOf(sourceDir, `${run.dir}/${first}`) }];
  if (names === "args") return [...made, { ...plain(run), args: tests.map(word) }];
  const file = "$WORKDIR/failed-tests.txt";
  const before = [`printf '%s\\n' ${tests.map(word).join(" ")} > ${wordOfPath(file)}`];
  return [...made, { ...plain(run), before, args: [wordOfPath(file)], env: [`BARNRAISER_TESTS=${file}`] }];
}

/** The program as the shell finds it: a relative path is one below the work folder. */
function programOf({ command: [program = ""] }: Step): string {
  return program.includes("/") && !program.startsWith("/") ? wordOfPath(`$WORKDIR/${program}`) : word(program);
}

function exportsOf(env: readonly string[], hidden: Set<string>): string[] {
  return env.flatMap((entry) => {
    const equals = entry.indexOf("=");
    const name = entry.slice(0, equals);
    if (!NAME.test(name)) return [];
    if (SECRET.test(name)) {
      hidden.add(name);
      return [];
    }
    return [`export ${name}=${wordOfPath(entry.slice(equals + 1))}`];
  });
}

function pathOf(path: readonly string[]): string[] {
  const elements = path.map((element) => element.replaceAll("$EMPTY", "")).filter((element) => element !== "");
  return elements.length === 0 ? [] : [`export PATH=${elements.map((each) => wordOfPath(each)).join(":")}`];
}

/**
 * How to repeat by hand what failed in a build: one text for a POSIX shell, that may be pasted as it is.
 *
 * It makes a folder of its own, clones the exact commits into it, and runs the steps as the farm does, in their order, each in its folder
 * with its environment, up to the one that failed; of tests those that failed. Everything happens in a subshell that ends at the first
 * failure, so whoever pastes it keeps their shell as it was.
 *
 * Variables whose names sound like a secret are left out, and so is what an address has before its host. Nothing in the text is a comment,
 * since an interactive shell may not know comments.
 */
import type { Recipe, SourcePart, Step } from "../farm/build.ts";
import { folderOf } from "./command.ts";
import { word, wordOfPath } from "./shell-word.ts";
import { partsOf } from "./sources.ts";

export interface Failed {
  readonly build: number;
  /** The step, `tests` when it was its tests. */
  readonly step: string;
  /** Those that failed, as many as a reader wants. */
  readonly tests: readonly string[];
  readonly repo: string;
  readonly hash: string;
}

export type Reproduction =
  | {
      readonly commands: string;
      /** Variables that are set on the machine and not here. */
      readonly hidden: readonly string[];
    }
  | { readonly cannot: string };

const SECRET = /token|secret|passw|credential|private|(^|_)(api|access|signing)?_?key$/i;
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** `urlOf`: where a repository is cloned from; undefined: nobody knows any more. `goos`: of the host type. */
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

/** One that has a secret in it is as good without. */
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
  /** Commands that come first, in its folder. */
  readonly before: readonly string[];
  readonly args: readonly string[];
  readonly dir: string;
  readonly env: readonly string[];
}

/** The failed one is the last. */
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

/** A relative path is one below the work dir. */
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

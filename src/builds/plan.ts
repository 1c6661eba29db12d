/**
 * Which builders build a commit that the farm found, and by what recipe. Pure: from the configuration to recipes.
 *
 * A recipe is fixed when a build is planned. A configuration that changes later changes only builds that are planned
 * later.
 */
import type { AgainstConfig, BuilderConfig, FarmConfig, HostConfig, TestsConfig } from "../config/effective.ts";
import { matches } from "../config/globs.ts";
import { buildsPostSubmit, buildsWith } from "../config/policy.ts";
import { COMPILE_ONLY, type OtherTree, type Recipe, type Step, type TestsSpec } from "../farm/build.ts";
import { folderOf } from "./command.ts";

/** The folder below a machine's work folder in which the commit's tree is unpacked. */
const SOURCE_DIR = "src";

/** The newest commit of a watched branch. */
export interface Tip {
  readonly branch: string;
  readonly hash: string;
}

/** The watched branches of a repository, as far as they are known. */
export type Tips = (repo: string) => readonly Tip[];

/**
 * The recipes of all builders that build `branch` of `repo` without being asked, in the order of the configuration. A
 * builder that tests it with another repository has one recipe for each wanted tip of that.
 */
export function plan(config: FarmConfig, repo: string, branch: string, tips: Tips = () => []): Recipe[] {
  const recipes: Recipe[] = [];
  for (const builder of config.builders) {
    const host = config.hosts.find((h) => h.hostType === builder.host);
    if (!host || !buildsPostSubmit(config, builder, repo, branch)) continue;
    const place = { builder, host, repo, branch };
    const { against } = builder;
    if (against === undefined) recipes.push(recipeOf(place, undefined));
    else
      for (const tip of tips(against.repo)) {
        const wanted = matches(against.branches, tip.branch) && buildsWith(config, builder, repo, branch, tip.branch);
        if (wanted) recipes.push(recipeOf(place, otherOf(against, tip)));
      }
  }
  return recipes;
}

/** Whether the configuration calls the branch a release branch. For a pair, one of the two branches is enough. */
export function isRelease(config: FarmConfig, repo: string, branch: string, other: OtherTree | undefined): boolean {
  const calls = (name: string, of: string): boolean =>
    matches(config.repos.find((each) => each.name === name)?.releaseBranches ?? [], of);
  return calls(repo, branch) || (other !== undefined && calls(other.repo, other.branch));
}

function otherOf({ repo, builtBy }: AgainstConfig, { branch, hash }: Tip): OtherTree {
  return { repo, branch, hash, ...(builtBy !== undefined && { builtBy }) };
}

interface Planned {
  readonly builder: BuilderConfig;
  readonly host: HostConfig;
  readonly repo: string;
  readonly branch: string;
}

/** The environment of a builder's commands. The more specific settings come later, and win. */
export function environmentOf(builder: BuilderConfig, host: HostConfig): readonly string[] {
  return [
    `GO_BUILDER_NAME=${builder.name}`,
    ...(builder.flakyNet ? [FLAKY_NET] : []),
    ...(builder.compileOnly ? [COMPILE_ONLY] : []),
    ...(builder.baseEnv ?? []),
    ...host.env,
    ...builder.env,
  ];
}

function recipeOf({ builder, host, repo, branch }: Planned, other: OtherTree | undefined): Recipe {
  const sources = builder.sources?.map((part) => ({ ...part, dir: part.dir.replaceAll("$REPO", repo) }));
  const sourceDir = sources?.find((part) => "commit" in part && part.commit === "own")?.dir ?? SOURCE_DIR;
  const env = environmentOf(builder, host);
  return {
    builder: builder.name,
    hostType: host.hostType,
    env,
    sourceDir,
    ...(other && { with: other }),
    ...(sources && { sources }),
    steps: builder.steps.map((step) => placed(step, sourceDir)),
    ...(builder.stopAfterMake ? { stopAfterMake: true } : afterMake(builder, { sourceDir, env, branch })),
    ...(builder.compileOnly ? { compileOnly: true } : {}),
    ...(builder.limits ? { limits: builder.limits } : {}),
  };
}

const FLAKY_NET = "GO_BUILDER_FLAKY_NET=1";

interface Place {
  readonly sourceDir: string;
  readonly env: readonly string[];
  readonly branch: string;
}

function afterMake(builder: BuilderConfig, place: Place): Pick<Recipe, "tests" | "snapshot"> {
  const { tests, snapshot, helpers, tryHelpers } = builder;
  return {
    ...(tests && { tests: { ...testsOf(tests, place), helpers, tryHelpers } }),
    ...(snapshot && { snapshot }),
  };
}

function testsOf({ argsOn, ...tests }: TestsConfig, place: Place): Omit<TestsSpec, "helpers" | "tryHelpers"> {
  const { sourceDir, env, branch } = place;
  const list = "command" in tests.list ? { command: placed(tests.list.command, sourceDir) } : tests.list;
  const more = argsOn && matches(argsOn.branches, branch) ? argsOn.args : [];
  const run = { ...tests.run, command: [...tests.run.command, ...more] };
  const scale = tests.dialect === undefined ? 1 : timeoutScale(env);
  const command = run.command.map((word) => (tests.dialect === "go-test" ? longer(word, scale) : word));
  return { ...tests, list, run: placed({ ...run, command, timeLimitMs: run.timeLimitMs * scale }, sourceDir) };
}

/** How many times as long tests may take on a slow machine: GO_TEST_TIMEOUT_SCALE of `env`, at least 1. */
function timeoutScale(env: readonly string[]): number {
  const [, scale = "1"] =
    /^GO_TEST_TIMEOUT_SCALE=(\d{1,3})$/.exec(env.findLast((entry) => /^GO_TEST_TIMEOUT_SCALE=/.test(entry)) ?? "") ??
    [];
  return Math.max(1, Number(scale));
}

/** A word such as `-timeout=10m`, for a machine that is `scale` times as slow. */
function longer(word: string, scale: number): string {
  return word.replace(/^-timeout=(\d{1,4})m$/, (_, minutes: string) => `-timeout=${Number(minutes) * scale}m`);
}

/**
 * The step with its program as the machine looks it up. For a program with a separator a machine starts from its work
 * folder, while an author means the folder of the step. So `./x` in `sub` becomes `src/sub/x`, and `$WORKDIR/x` becomes
 * `./x`. Bare names and absolute paths stay.
 */
function placed(step: Step, sourceDir: string): Step {
  const [program = "", ...args] = step.command;
  const below = program.startsWith("$WORKDIR/");
  const relative = below || (/[/\\]/.test(program) && !/^([/\\$]|[A-Za-z]:)/.test(program));
  if (!relative) return step;
  const path = folderOf(sourceDir, below ? program : `${step.dir}/${program.replaceAll("\\", "/")}`);
  // A separator must stay, or the program would be looked up on the PATH.
  return { ...step, command: [path.includes("/") ? path : `./${path}`, ...args] };
}

/**
 * Which builders build a commit that the farm found, and by what recipe. Pure: the configuration in, recipes out.
 *
 * A recipe is fixed when a build is planned; a configuration that changes later changes later builds.
 */
import type { BuilderConfig, FarmConfig, HostConfig, TestsConfig } from "../config/effective.ts";
import { matches } from "../config/globs.ts";
import { buildsPostSubmit } from "../config/policy.ts";
import { COMPILE_ONLY, type Recipe, type Step, type TestsSpec } from "../farm/build.ts";
import { foldersOf } from "./command.ts";

/** Below a machine's work folder; the commit's tree is unpacked there. */
export const SOURCE_DIR = "src";

/** The recipe of every builder that builds `branch` of `repo` without being asked, in the order of the configuration. */
export function plan(config: FarmConfig, repo: string, branch: string): Recipe[] {
  const recipes: Recipe[] = [];
  for (const builder of config.builders) {
    const host = config.hosts.find((h) => h.hostType === builder.host);
    if (host && buildsPostSubmit(config, builder, repo, branch)) recipes.push(recipeOf(builder, host, branch));
  }
  return recipes;
}

function recipeOf(builder: BuilderConfig, host: HostConfig, branch: string): Recipe {
  const { sources } = builder;
  const sourceDir = sources?.find((part) => "commit" in part)?.dir ?? SOURCE_DIR;
  // In this order, so that the narrower wins.
  const env = [
    `GO_BUILDER_NAME=${builder.name}`,
    ...(builder.flakyNet ? [FLAKY_NET] : []),
    ...(builder.compileOnly ? [COMPILE_ONLY] : []),
    ...(builder.baseEnv ?? []),
    ...host.env,
    ...builder.env,
  ];
  return {
    builder: builder.name,
    hostType: host.hostType,
    env,
    sourceDir,
    ...(sources && { sources }),
    steps: builder.steps.map((step) => placed(step, sourceDir)),
    ...(builder.stopAfterMake ? { stopAfterMake: true } : afterMake(builder, { sourceDir, env, branch })),
    ...(builder.compileOnly ? { compileOnly: true } : {}),
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
  const scale = tests.dialect === "go-dist" ? timeoutScale(env) : 1;
  return { ...tests, list, run: placed({ ...run, timeLimitMs: run.timeLimitMs * scale }, sourceDir) };
}

/** GO_TEST_TIMEOUT_SCALE: what a slow machine takes longer. */
function timeoutScale(env: readonly string[]): number {
  const [, scale = "1"] =
    /^GO_TEST_TIMEOUT_SCALE=(\d{1,3})$/.exec(env.findLast((entry) => /^GO_TEST_TIMEOUT_SCALE=/.test(entry)) ?? "") ??
    [];
  return Math.max(1, Number(scale));
}

/**
 * A machine looks up a program with a separator from its work folder, an author means the folder that the step runs in.
 * `./x` in `sub` is therefore asked for as `src/sub/x`; bare names and absolute paths stay.
 */
function placed(step: Step, sourceDir: string): Step {
  const [program = "", ...args] = step.command;
  const relative = /[/\\]/.test(program) && !/^([/\\$]|[A-Za-z]:)/.test(program);
  if (!relative) return step;
  const path = foldersOf(`${sourceDir}/${step.dir}/${program.replaceAll("\\", "/")}`).join("/");
  // A separator must stay, or the program would be looked up on the PATH.
  return { ...step, command: [path.includes("/") ? path : `./${path}`, ...args] };
}

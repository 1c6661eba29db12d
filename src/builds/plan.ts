/**
 * Which builders build a commit that the farm found, and by what recipe. Pure: the configuration in, recipes out.
 *
 * A recipe is fixed when a build is planned; a configuration that changes later changes later builds.
 */
import type { BuilderConfig, FarmConfig, HostConfig, TestsConfig } from "../config/effective.ts";
import { buildsPostSubmit } from "../config/policy.ts";
import { COMPILE_ONLY, type Recipe, type Step, type TestsSpec } from "../farm/build.ts";

/** Below a machine's work folder; the commit's tree is unpacked there. */
export const SOURCE_DIR = "src";

/** The recipe of every builder that builds `branch` of `repo` without being asked, in the order of the configuration. */
export function plan(config: FarmConfig, repo: string, branch: string): Recipe[] {
  const recipes: Recipe[] = [];
  for (const builder of config.builders) {
    const host = config.hosts.find((h) => h.hostType === builder.host);
    if (host && buildsPostSubmit(config, builder, repo, branch)) recipes.push(recipeOf(builder, host));
  }
  return recipes;
}

function recipeOf(builder: BuilderConfig, host: HostConfig): Recipe {
  return {
    builder: builder.name,
    hostType: host.hostType,
    // In this order, so that the narrower wins.
    env: [
      `GO_BUILDER_NAME=${builder.name}`,
      ...(builder.compileOnly ? [COMPILE_ONLY] : []),
      ...host.env,
      ...builder.env,
    ],
    sourceDir: SOURCE_DIR,
    steps: builder.steps.map(placed),
    ...(builder.stopAfterMake ? { stopAfterMake: true } : afterMake(builder)),
    ...(builder.compileOnly ? { compileOnly: true } : {}),
  };
}

function afterMake({ tests, snapshot, helpers, tryHelpers }: BuilderConfig): Pick<Recipe, "tests" | "snapshot"> {
  return {
    ...(tests && { tests: testsOf(tests, helpers, tryHelpers) }),
    ...(snapshot && { snapshot }),
  };
}

function testsOf(tests: TestsConfig, helpers: number, tryHelpers: number): TestsSpec {
  const list = "names" in tests.list ? tests.list : { command: placed(tests.list.command) };
  return { ...tests, list, run: placed(tests.run), helpers, tryHelpers };
}

/**
 * A machine looks up a program with a separator from its work folder, an author means the folder that the step runs in.
 * `./x` in `sub` is therefore asked for as `src/sub/x`; bare names and absolute paths stay.
 */
function placed(step: Step): Step {
  const [program = "", ...args] = step.command;
  const relative = /[/\\]/.test(program) && !/^([/\\$]|[A-Za-z]:)/.test(program);
  if (!relative) return step;
  return { ...step, command: [tidied(`${SOURCE_DIR}/${step.dir}/${program.replaceAll("\\", "/")}`), ...args] };
}

/** `path` without `.` and empty parts, and with `..` taken back as far as the work folder. */
function tidied(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  // A separator must stay, or the program would be looked up on the PATH.
  return parts.length > 1 ? parts.join("/") : `./${parts.join("")}`;
}

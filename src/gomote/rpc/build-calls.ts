/** Methods of barnraiser.Gomote with which a person repeats a build: its commands, its sources, its very machine. */
import type { ServiceImpl } from "@connectrpc/connect";
import { folderOf } from "../../builds/command.ts";
import { type Tarball, writeSources } from "../../builds/sources.ts";
import { TESTS_STEP } from "../../builds/tests-step.ts";
import type { FarmConfig } from "../../config/effective.ts";
import type { Step, TestsSpec } from "../../farm/build.ts";
import type { Clock } from "../../farm/clock.ts";
import { FarmError } from "../../farm/errors.ts";
import { buildId } from "../../farm/ids.ts";
import { mayNotBorrow } from "../../farm/lending.ts";
import { failedIn } from "../../store/failed-tests.ts";
import { lastAttemptSteps, recipeOf } from "../../store/pages-build.ts";
import type { Sql } from "../../store/sql.ts";
import type { Gomote } from "../../wire/gomote/gen/barnraiser_pb.ts";
import type { Holds } from "../holds.ts";
import type { Instances } from "../instances.ts";
import { callerOf } from "./calls.ts";
import { OutputQueue } from "./output-queue.ts";
import type { Records } from "./requests.ts";

/** How many failed tests are named in the command that runs them again. */
const MOST_TESTS = 50;

type BuildCalls = Pick<ServiceImpl<typeof Gomote>, "getBuildLayout" | "layOutBuild" | "holdBuild">;

export interface BuildCallsDeps {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly config: () => FarmConfig;
  readonly instances: Instances;
  readonly holds: Holds;
  readonly records: Records;
  readonly tarball: Tarball;
}

export function buildCalls(deps: BuildCallsDeps): BuildCalls {
  const { sql, clock, config, instances, holds, records, tarball } = deps;
  return {
    async getBuildLayout({ build }, context) {
      const { recipe } = await buildOf(sql, build);
      const host = config().hosts.find(({ hostType }) => hostType === recipe.hostType);
      const refusal = host ? mayNotBorrow(callerOf(context), host) : `the farm has no ${recipe.hostType} any more.`;
      if (refusal !== undefined) throw new FarmError("forbidden", `Cannot tell how build ${build} is made: ${refusal}`);
      const ended = await lastAttemptSteps(sql, Number(build));
      const failed = ended.find(({ outcome }) => outcome === "failure")?.name;
      const { builders } = config();
      const tests = recipe.tests
        ? [testsStep(recipe.tests, await failedIn(sql, buildId(Number(build)), MOST_TESTS))]
        : [];
      return {
        builderType: builders.some(({ name }) => name === recipe.builder) ? recipe.builder : recipe.hostType,
        hostType: recipe.hostType,
        environment: [...recipe.env],
        steps: [...recipe.steps, ...tests].map((step) => ({
          name: step.name,
          argv: [...step.command],
          directory: folderOf(recipe.sourceDir, step.dir),
          environment: [...step.env],
          path: [...step.path],
          failed: step.name === failed,
        })),
      };
    },

    async *layOutBuild({ gomoteId, build }, context) {
      const person = callerOf(context);
      const { repo, hash, recipe } = await buildOf(sql, build);
      const held = await instances.held(person, gomoteId);
      const { instance, machine, over } = held;
      using _ = instances.keep(instance);
      await records(person, "write", instance, `build ${build}`);
      const said = new OutputQueue(context.signal);
      const say = (line: string) => said.write(Buffer.from(line));
      const tree = { repo, hash };
      const signal = AbortSignal.any([context.signal, over]);
      const written = writeSources({ clock, tarball, say }, tree, recipe, machine, signal).then(
        () => said.end(undefined),
        (error: unknown) => said.end(error),
      );
      for await (const line of said.chunks()) yield { progress: Buffer.from(line).toString() };
      await written;
    },

    async *holdBuild({ build }, context) {
      const { recipe } = await buildOf(sql, build);
      const held = { id: buildId(Number(build)), builder: recipe.builder, hostType: recipe.hostType };
      for await (const news of holds.hold(callerOf(context), held, context.signal))
        yield "instance" in news ? { gomoteId: news.instance.name } : news;
    },
  };
}

/** Throws FarmError `not-found` when there is no such build. */
async function buildOf(sql: Sql, build: bigint) {
  const found = build > Number.MAX_SAFE_INTEGER ? undefined : await recipeOf(sql, Number(build));
  if (!found) throw new FarmError("not-found", `There is no build ${build}.`);
  return found;
}

/** The step that runs the tests again: those that failed, where the command takes names as arguments, otherwise all. */
function testsStep({ run, names }: TestsSpec, failed: readonly string[]): Step {
  return { ...run, name: TESTS_STEP, command: [...run.command, ...(names === "args" ? failed : [])] };
}

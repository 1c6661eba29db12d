/** What is said when a build changed. */
import type { Bus } from "../farm/deps.ts";
import type { BuildId } from "../farm/ids.ts";
import type { BuildRef } from "../store/builds.ts";

/** Tells all who look at a build that it changed, and with `wanted` the machines that may take it. */
export function publishBuild(bus: Pick<Bus, "publish">, build: BuildRef, wanted: boolean): void {
  bus.publish(`build:${build.id}`);
  bus.publish(`grid:${build.repo}`);
  if (wanted) bus.publish(`queue:${build.hostType}`);
}

/** Topic of builds that were ended, and whatever runs of them is to be stopped. */
export const CANCEL = "cancel:";

/** Tells the same of a build that was ended by somebody who does not drive it, and whoever still runs something of it that nobody needs that. */
export function publishEnded(bus: Pick<Bus, "publish">, build: BuildRef): void {
  bus.publish(`${CANCEL}${build.id}`);
  publishBuild(bus, build, false);
}

/** Topic of builds whose tests are over. */
export const TESTS_OVER = "tests-over:";

/** Tells the machines that work on the tests of a build that it has ended. */
export function publishTestsOver(bus: Pick<Bus, "publish">, build: BuildId): void {
  bus.publish(`tests:${build}`);
  bus.publish(`${TESTS_OVER}${build}`);
}

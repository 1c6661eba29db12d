/** Messages on the bus about a build that changed. */
import type { Bus } from "../farm/deps.ts";
import type { BuildId } from "../farm/ids.ts";
import type { BuildRef } from "../store/builds.ts";

/** Tells all readers of a build that it changed. With `wanted`, tells the machines too that may take it. */
export function publishBuild(bus: Pick<Bus, "publish">, build: BuildRef, wanted: boolean): void {
  bus.publish(`build:${build.id}`);
  bus.publish(`grid:${build.repo}`);
  if (wanted) bus.publish(`queue:${build.hostType}`);
}

/** The topic of builds that were ended: all that still runs of them is to be stopped. */
export const CANCEL = "cancel:";

/**
 * Tells all readers of a build that it was ended by somebody who does not drive it. Tells the coordinators that still
 * run something of it to stop that.
 */
export function publishEnded(bus: Pick<Bus, "publish">, build: BuildRef): void {
  bus.publish(`${CANCEL}${build.id}`);
  publishBuild(bus, build, false);
}

/** The topic of builds whose tests are over. */
export const TESTS_OVER = "tests-over:";

/** Tells the machines that work on the tests of a build that the build has ended. */
export function publishTestsOver(bus: Pick<Bus, "publish">, build: BuildId): void {
  bus.publish(`tests:${build}`);
  bus.publish(`${TESTS_OVER}${build}`);
}

/** What is said when a build changed. */
import type { Bus } from "../farm/deps.ts";
import type { BuildRef } from "../store/builds.ts";

/** Tells all who look at a build that it changed, and with `wanted` the machines that may take it. */
export function publishBuild(bus: Pick<Bus, "publish">, build: BuildRef, wanted: boolean): void {
  bus.publish(`build:${build.id}`);
  bus.publish(`grid:${build.repo}`);
  if (wanted) bus.publish(`queue:${build.hostType}`);
}

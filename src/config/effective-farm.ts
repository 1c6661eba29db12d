/** The farm in force as plain data, for `coordinator -check`: spans as people write them, functions as `(function)`. */
import { formatDuration } from "../farm/flags.ts";
import { ms } from "../farm/ids.ts";
import type { FarmConfig } from "./effective.ts";

export function effectiveFarm(config: FarmConfig): object {
  return {
    policy: config.policy.name,
    repos: config.repos.map(({ pollMs, ...repo }) => ({ ...repo, poll: formatDuration(pollMs) })),
    hosts: config.hosts,
    builders: config.builders.map(({ builds, steps, ...builder }) => ({
      ...builder,
      builds: builds === null ? null : "(function)",
      steps: steps.map(({ timeLimitMs, ...step }) => ({ ...step, timeLimit: formatDuration(ms(timeLimitMs)) })),
    })),
  };
}

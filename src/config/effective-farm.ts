/** The farm in force as plain data, for `coordinator -check`: spans as people write them, functions as `(function)`. */
import type { Limits, Step } from "../farm/build.ts";
import { formatDuration } from "../farm/flags.ts";
import { type Ms, ms } from "../farm/ids.ts";
import type { FarmConfig, TestsConfig } from "./effective.ts";

const DAY = 86_400_000;

export function effectiveFarm(config: FarmConfig): object {
  return {
    policy: config.policy.name,
    repos: config.repos.map(({ pollMs, ...repo }) => ({ ...repo, poll: formatDuration(pollMs) })),
    hosts: config.hosts.map(({ missingAfterMs, reconnectMs, ...host }) => ({
      ...host,
      missingAfter: formatDuration(missingAfterMs),
      reconnectWithin: formatDuration(reconnectMs),
    })),
    builders: config.builders.map(({ builds, steps, tests, snapshot, minimumGoMinor, limits = {}, ...builder }) => ({
      ...builder,
      ...shownLimits(limits),
      ...(minimumGoMinor !== undefined && { minimumGoVersion: `1.${minimumGoMinor}` }),
      builds: builds === null ? null : "(function)",
      steps: steps.map(shownStep),
      tests: tests && shownTests(tests),
      snapshot: snapshot && {
        exclude: snapshot.exclude,
        ...(snapshot.remove && { remove: snapshot.remove }),
        limit: sizeText(snapshot.limitBytes),
        keep: formatDuration(ms(snapshot.keepMs)),
      },
    })),
    publicUrl: config.publicUrl,
    notify: config.notify,
    login: config.login,
    retention: Object.fromEntries(
      Object.entries(config.retention).map(([name, span]) => [name.replace(/Ms$/, ""), inDays(span)]),
    ),
    gomote: {
      perPerson: config.gomote.perPerson,
      idle: formatDuration(config.gomote.idleMs),
      longest: inDays(config.gomote.longestMs),
      wait: formatDuration(config.gomote.waitMs),
      fetch: config.gomote.fetch,
      fetchPorts: config.gomote.fetchPorts,
      transferLimit: sizeText(config.gomote.transferLimitBytes),
    },
  };
}

function shownLimits({ buildMs, silenceMs, uploadMs }: Limits): object {
  return {
    ...(buildMs !== undefined && { buildTimeLimit: formatDuration(ms(buildMs)) }),
    ...(silenceMs !== undefined && { silenceLimit: formatDuration(ms(silenceMs)) }),
    ...(uploadMs !== undefined && { uploadTimeLimit: formatDuration(ms(uploadMs)) }),
  };
}

function shownStep({ timeLimitMs, ...step }: Step): object {
  return { ...step, timeLimit: formatDuration(ms(timeLimitMs)) };
}

function shownTests({ list, run, groupTargetMs, unknownMs, ...tests }: TestsConfig): object {
  return {
    list: "command" in list ? shownStep(list.command) : "names" in list ? list.names : list,
    run: shownStep(run),
    ...tests,
    groupTarget: formatDuration(ms(groupTargetMs)),
    unknown: formatDuration(ms(unknownMs)),
  };
}

/** A size in the largest unit that gives a whole number. */
function sizeText(bytes: number): string {
  for (const [unit, size] of [
    ["GiB", 1024 ** 3],
    ["MiB", 1024 ** 2],
  ] as const) {
    if (bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return `${bytes / 1024}KiB`;
}

function inDays(span: Ms): string {
  return span % DAY === 0 ? `${span / DAY}d` : formatDuration(span);
}

/**
 * Turns what a person wrote into the effective farm, or into the list of everything that is wrong with it.
 *
 * Two passes report together, so that nobody has to correct a configuration one mistake at a time: the shape of each
 * field (shapes/), and the rules between fields, which use whatever of the farm can be read.
 */
import type { Step } from "../farm/build.ts";
import { didYouMean } from "../farm/did-you-mean.ts";
import type { FarmConfig, TestsConfig } from "./effective.ts";
import { isGlob, matches } from "./globs.ts";
import { ConfigError, type Mistake, mistake, type Path } from "./mistakes.ts";
import { type FarmShape, readShape } from "./shapes/farm.ts";
import type { StepShape } from "./shapes/step.ts";
import type { TestsShape } from "./shapes/tests.ts";
import { keepsSecret } from "./urls.ts";

/** The effective farm. Throws ConfigError with every mistake. `input` is a `FarmInput`, or whatever a file exported. */
export function checkFarm(input: unknown): FarmConfig {
  const read = readShape(input);
  const faults = "faults" in read ? [...read.faults] : [];
  const mistakes: Mistake[] = faults.map(({ path, rule }) => mistake(input, path, rule));
  for (const found of crossCheck(input)) {
    if (!mistakes.some((m) => m.path === found.path)) mistakes.push(found);
  }
  if ("faults" in read || mistakes.length > 0) throw new ConfigError(mistakes);
  return effective(read.farm);
}

function effective(farm: FarmShape): FarmConfig {
  const archOf = new Map(farm.hosts.map((host) => [host.hostType, host.hostArch]));
  return {
    ...farm,
    builders: farm.builders.map(({ steps, tests, timeLimitMs, ...builder }) => {
      const arch = archOf.get(builder.host) ?? "";
      return {
        ...builder,
        steps: steps.map((step): Step => stepOf(step, arch, timeLimitMs)),
        tests: tests && testsOf(tests, arch, timeLimitMs),
      };
    }),
  };
}

/** The time limit of one group of tests, if `run` has none. */
const GROUP_LIMIT_MS = 20 * 60_000;

function testsOf({ list, run, ...rest }: TestsShape, hostArch: string, limit: number): TestsConfig {
  return {
    ...rest,
    list: "command" in list ? { command: stepOf(list.command, hostArch, limit) } : list,
    run:
      typeof run.command === "string"
        ? { ...stepOf(run, hostArch, GROUP_LIMIT_MS), command: shellWithNames(run.command, hostArch) }
        : stepOf(run, hostArch, GROUP_LIMIT_MS),
  };
}

/**
 * `text` for a shell that gets the names of tests as its arguments: where `text` refers to them, otherwise at its end.
 */
function shellWithNames(text: string, hostArch: string): readonly string[] {
  const shell = shellOf(hostArch);
  if (hostArch.startsWith("windows-")) return [...shell, text];
  if (hostArch.startsWith("plan9-")) return [...shell, text.includes("$*") ? text : `${text.trimEnd()} $*`];
  const named = /\$[@*1]|\$\{[@*1]/.test(text) ? text : `${text.trimEnd()} "$@"`;
  return [...shell, named, "sh"]; // the names that follow are "$1" and on, this is "$0"
}

function stepOf({ command, timeLimitMs, ...step }: StepShape, hostArch: string, limit: number): Step {
  const words = typeof command === "string" ? [...shellOf(hostArch), command] : command;
  return { ...step, command: words, timeLimitMs: timeLimitMs ?? limit };
}

/** The shell of a machine. `-e`: of several lines, the first that fails ends the step. */
export function shellOf(hostArch: string): readonly string[] {
  if (hostArch.startsWith("windows-")) return ["cmd", "/c"];
  return hostArch.startsWith("plan9-") ? ["rc", "-ec"] : ["sh", "-ec"];
}

function crossCheck(input: unknown): Mistake[] {
  const mistakes: Mistake[] = [];
  const add = (path: Path, rule: string): void => {
    mistakes.push(mistake(input, path, rule));
  };
  const [repos, hosts, builders] = ["repos", "hosts", "builders"].map((key) => list(field(input, key)));
  const repoNames = names(repos, "name");
  const hostTypes = names(hosts, "hostType");

  duplicates("repos", "name", repoNames, add);
  duplicates("hosts", "hostType", hostTypes, add);
  const builderNames = names(builders, "name");
  duplicates("builders", "name", builderNames, add);

  if ((field(input, "login") ?? null) !== null && (field(input, "publicUrl") ?? null) === null) {
    add(["publicUrl"], "want it together with login: the provider sends people back there");
  }

  repos?.forEach((repo, i) => {
    const [url, depth, history] = [field(repo, "url"), field(repo, "depth"), field(repo, "history")];
    if (typeof depth === "number" && typeof history === "number" && history < depth) {
      add(["repos", i, "history"], `want at least depth, which is ${depth}`);
    }
    if (typeof url === "string" && field(repo, "token") && !keepsSecret(url)) {
      add(
        ["repos", i, "token"],
        "want an https:// repository for it: elsewhere it could be read on the way, or means nothing",
      );
    }
  });

  builders?.forEach((builder, i) => {
    const host = field(builder, "host");
    if (typeof host === "string" && !hostTypes.includes(host)) {
      add(
        ["builders", i, "host"],
        `no such hostType in hosts${didYouMean(
          host,
          hostTypes.filter((h) => h !== undefined),
        )}`,
      );
    }
    const skipSnapshot = field(builder, "skipSnapshot") === true;
    for (const key of ["helpers", "tryHelpers"]) {
      const helpers = field(builder, key);
      if (typeof helpers !== "number" || helpers <= 0) continue;
      if (skipSnapshot) {
        add(["builders", i, key], "want 0 together with skipSnapshot: helpers start from the snapshot");
      } else if ((field(builder, "tests") ?? null) === null) {
        add(["builders", i, key], "want tests beside it: helpers share the tests of a build, and there are none");
      }
    }
    if (skipSnapshot && (field(builder, "snapshot") ?? null) !== null) {
      add(["builders", i, "snapshot"], "want none together with skipSnapshot, or no skipSnapshot");
    }
    const against = field(builder, "against");
    const parts = list(field(builder, "sources")) ?? [];
    const others = parts.filter((part) => field(part, "commit") === "other").length;
    if (others !== (against === undefined ? 0 : 1)) {
      const want = `want ${against === undefined ? "no" : "one"} { dir, commit: "other" }`;
      add(["builders", i, "sources"], `${want} ${against === undefined ? "without" : "together with"} against`);
    }
    const [other, builtBy] = [field(against, "repo"), field(against, "builtBy")];
    if (typeof other === "string" && !repoNames.includes(other)) {
      const known = repoNames.filter((name) => name !== undefined);
      add(["builders", i, "against", "repo"], `no such repository in repos${didYouMean(other, known)}`);
    }
    if (typeof builtBy === "string" && !builderNames.includes(builtBy)) {
      const known = builderNames.filter((name) => name !== undefined);
      add(["builders", i, "against", "builtBy"], `no such builder in builders${didYouMean(builtBy, known)}`);
    }
    const given = field(builder, "repos");
    const wanted = typeof given === "string" ? [given] : list(given);
    wanted?.forEach((pattern, at) => {
      if (typeof pattern !== "string" || pattern === "" || pattern.startsWith("!")) return;
      const known = repoNames.filter((name) => name !== undefined);
      if (known.some((name) => matches([pattern], name))) return;
      const path = ["builders", i, "repos", at];
      if (isGlob(pattern)) add(path, "matches no repository in repos");
      else add(path, `no such repository in repos${didYouMean(pattern, known)}`);
    });
  });
  return mistakes;
}

/** Reports names that come twice. Names that differ in case only would share a file and an address. */
function duplicates(
  kind: string,
  key: string,
  given: readonly (string | undefined)[],
  add: (path: Path, rule: string) => void,
): void {
  const first = new Map<string, number>();
  given.forEach((name, i) => {
    if (name === undefined) return;
    const before = first.get(name.toLowerCase());
    if (before === undefined) first.set(name.toLowerCase(), i);
    else add([kind, i, key], `is already the ${key} of ${kind}[${before}]`);
  });
}

function names(entries: readonly unknown[] | undefined, key: string): (string | undefined)[] {
  return (entries ?? []).map((entry) => {
    const name = field(entry, key);
    return typeof name === "string" && name !== "" ? name : undefined;
  });
}

function list(value: unknown): readonly unknown[] | undefined {
  return Array.isArray(value) ? value : undefined;
}

function field(value: unknown, key: string): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

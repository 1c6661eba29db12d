/**
 * What `npmPackage()` runs on a machine (config/preset-npm.ts): installs a package for Node, lists its tests, runs some of them.
 *
 * It is one text, handed to the `node` that the machine has, of whatever version from 18 on. So this room imports nothing but Node, and
 * compiles without what is younger than that.
 *
 * A runner is believed twice: by what it reports of each file, and by its exit. One that does not end well has failed even if all files passed,
 * since there are things that no file is blamed for: an error after the last test, or in what tears the tests down. What only a
 * whole run can reach, a threshold of coverage, is not asked of a group.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { output, run } from "./commands.ts";
import { filesBelow, globOf, nodePatternOf, nodeTestFiles, sharesName, slashed } from "./files.ts";
import { fromReport, junit, type TestResult } from "./results.ts";
import { nodeFlags, type Package, runnerOf, type TestsAre, WHOLE } from "./runner.ts";

interface Ran {
  readonly ok: boolean;
  readonly results: readonly TestResult[];
}

export function install(): boolean {
  const locked = existsSync("package-lock.json") || existsSync("npm-shrinkwrap.json");
  return run("npm", [locked ? "ci" : "install"]);
}

/** The names of all tests. Where no test file is found, the package's own script may know better. */
export function list(tests: TestsAre): readonly string[] {
  if (tests === "workspaces") return workspaces();
  const files = new Set(testFiles(readPackage(), tests));
  return files.size === 0 ? [WHOLE] : [...files];
}

/** Runs some tests and writes to `file` what became of each. Says whether all is well. */
export function runTests(tests: TestsAre, file: string, names: readonly string[]): boolean {
  rmSync(file, { force: true });
  const { ok, results } = runNamed(tests, names);
  const asked = results.filter(({ name }) => names.includes(name));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, junit(asked));
  return ok && asked.length === names.length && asked.every(({ outcome }) => outcome !== "failed");
}

function readPackage(): Package {
  return JSON.parse(readFileSync("package.json", "utf8"));
}

function testFiles(pkg: Package, tests: TestsAre): readonly string[] {
  switch (runnerOf(pkg, tests)) {
    case "vitest": {
      const listed: { file: string }[] = JSON.parse(
        output("npx", ["--no-install", "vitest", "list", "--filesOnly", "--json"]),
      );
      return listed.map(({ file }) => slashed(file));
    }
    case "jest": {
      const listed: string[] = JSON.parse(output("npx", ["--no-install", "jest", "--listTests", "--json"]));
      return listed.map(slashed);
    }
    case "node": {
      // Whether it takes TypeScript depends on its version and on flags.
      const aboutTypes = (nodeFlags(pkg) ?? []).filter((flag) => /-(strip|transform)-types$/.test(flag));
      const typescript = output(process.execPath, [...aboutTypes, "-p", "process.features.typescript || ''"]).trim();
      return nodeTestFiles(filesBelow("."), typescript !== "");
    }
    default:
      return [];
  }
}

function workspaces(): readonly string[] {
  const all: (Package & { name: string })[] = JSON.parse(output("npm", ["query", ".workspace"]));
  const tested = all.filter(({ scripts }) => scripts?.test);
  if (tested.length === 0) throw new Error("No workspace of this package has a script named test");
  return tested.map(({ name }) => name);
}

function runNamed(tests: TestsAre, names: readonly string[]): Ran {
  if (names.includes(WHOLE)) return eachOf(names, () => ["npm", "test"]);
  const pkg = readPackage();
  switch (runnerOf(pkg, tests)) {
    case "vitest": {
      const flags = ["run", "--coverage.enabled=false", "--reporter=default", "--reporter=json", ...othersLike(names)];
      return reported((report) => ["vitest", ...flags, `--outputFile.json=${report}`, ...names]);
    }
    case "jest": {
      const flags = ["--coverage=false", "--json"];
      return reported((report) => ["jest", ...flags, `--outputFile=${report}`, "--runTestsByPath", ...names]);
    }
    case "node": {
      const flags = (nodeFlags(pkg) ?? []).filter((flag) => !/^--(experimental-)?test-coverage/.test(flag));
      return eachOf(names, (name) => [process.execPath, ...flags, nodePatternOf(name, process.versions.node)]);
    }
    default:
      return eachOf(names, (name) => ["npm", "test", "--workspace", name]);
  }
}

/**
 * vitest takes a name for a part of a path, and would run `lib/a.test.ts` for `a.test.ts`: what else a name may mean is excluded. Patterns count
 * from the folder of each project; before vitest 3 whole paths are none, and where `x/lib/a.test.ts` is wanted, `lib/a.test.ts` must not be one.
 */
function othersLike(names: readonly string[]): readonly string[] {
  const others = filesBelow(".").filter(
    (file) => !names.includes(file) && names.some((name) => sharesName(file, name)),
  );
  const relative = others.filter((file) => !names.some((name) => name.endsWith(`/${file}`)));
  return [...others.map((file) => resolve(file)), ...relative].map((file) => `--exclude=${globOf(file)}`);
}

/** Runs a runner that writes its report to the file that it is told. */
function reported(commandOf: (report: string) => readonly string[]): Ran {
  const folder = mkdtempSync(join(tmpdir(), "npm-tests-"));
  try {
    const report = join(folder, "report.json");
    const ok = run("npx", ["--no-install", ...commandOf(report)]);
    return { ok, results: existsSync(report) ? fromReport(JSON.parse(readFileSync(report, "utf8")), slashed) : [] };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function eachOf(names: readonly string[], commandOf: (name: string) => readonly [string, ...string[]]): Ran {
  const results = names.map((name): TestResult => {
    const [program, ...args] = commandOf(name);
    const began = Date.now();
    const ok = run(program, args);
    const ms = Date.now() - began;
    return ok
      ? { name, outcome: "passed", ms, why: "" }
      : { name, outcome: "failed", ms, why: "its command did not end well" };
  });
  return { ok: results.every(({ outcome }) => outcome === "passed"), results };
}
